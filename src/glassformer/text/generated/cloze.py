"""Questions that a text asks of itself: a sentence of a docstring with a few words left out, to be found in the whole.

Lewis et al. 2019, "Unsupervised Question Answering by Cloze Translation", section 2, without the translation: the gap
reads "what". Whole modules of the standard library are kept for validation.
"""

import random
import re
from inspect import cleandoc

from glassformer.text.generated.docstrings import docstrings
from glassformer.text.generated.python_docs import by_topic, is_prose, sentences
from glassformer.text.generated.split import Example

LONGEST_PASSAGE = 900  # characters
SHORTEST_SENTENCE, LONGEST_SENTENCE, LONGEST_ANSWER = 6, 30, 8  # words
GAP = "what"


def make(seed: int, *, most: int = 4) -> tuple[list[Example], list[Example]]:
    """Training and validation examples, context, question and answers; so many of each docstring at most."""
    chance, found, seen = random.Random(seed), [], set()
    for module, _, text in docstrings():
        passage = passage_of(text)
        places = [each for line in passage.split("\n") for each in sentences(line) if suits(each) and each in passage]
        if len(places) < 2 or passage in seen:
            continue
        seen.add(passage)
        for sentence in chance.sample(places, min(most, len(places))):
            start = passage.index(sentence)
            found.append((module, gapped(passage, start, start + len(sentence), chance)))
    return by_topic(found, seed, part=0.05)


def suits(sentence: str) -> bool:
    """Whether a sentence is neither too short nor too long to be asked for a part of it."""
    return SHORTEST_SENTENCE <= len(sentence.split()) <= LONGEST_SENTENCE


def passage_of(text: str) -> str:
    """The prose of a docstring, up to a length that a question leaves room for."""
    passage = ""
    for part in cleandoc(text).split("\n\n"):
        paragraph = " ".join(part.split())
        if paragraph and is_prose(paragraph) and len(passage) + len(paragraph) < LONGEST_PASSAGE:
            passage += f"\n{paragraph}" if passage else paragraph
    return passage


def gapped(passage: str, start: int, end: int, chance: random.Random) -> Example:
    """The sentence from `start` to `end` as a question, some of its words left out, and these as the answer."""
    words = [match.span() for match in re.finditer(r"\S+", passage[start:end])]
    length = chance.randint(1, min(LONGEST_ANSWER, len(words) // 2))
    first = chance.randrange(len(words) - length + 1)
    begin, stop = start + words[first][0], start + words[first + length - 1][1]
    answer = passage[begin:stop].rstrip(".,:;") or passage[begin:stop]
    question = f"{passage[start:begin]}{GAP}{passage[begin + len(answer) : end]}"
    return {"context": passage, "question": question, "answers": [{"text": answer, "start": begin}]}
