"""The baseline of question answering: the sentence that shares most with the question."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from glassformer.metrics import judge
from glassformer.text.fields import Example
from glassformer.training.tasks.bag_of_words import words


def best_sentence(examples: Sequence[Example]) -> dict[str, float]:
    """What it reaches to answer with the sentence whose words, those of the question among them, are rarest in all.

    The score of a sentence is Σ log(texts / texts with the word) over the words that the question has too.
    """
    texts = [set(words(example["context"])) for example in examples]
    rarity = {word: math.log(len(texts) / count) for word, count in Counter(w for text in texts for w in text).items()}

    def score(sentence: str, question: set[str]) -> float:
        return sum(rarity[word] for word in question & set(words(sentence)))

    answers = []
    for example in examples:
        asked = set(words(example["question"]))
        answers.append(max(re.split(r"(?<=[.!?:])\s+|\n", example["context"]), key=lambda each: score(each, asked)))
    return judge("question_answering", answers, examples)
