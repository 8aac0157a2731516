"""Answers of question answering, compared as SQuAD compares them.

Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1; Rajpurkar et
al. 2018 for questions without an answer, whose answer is "".
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from glassformer.metrics.check import check_pairs, harmonic

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Lower case, without ASCII punctuation, without "a", "an" and "the", one space between words."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """The part of the predictions that equal one of their reference answers, both normalized."""
    return _best(predictions, references, lambda answer, reference: float(normalized(answer) == normalized(reference)))


def squad_f1(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """The mean over questions of the F1 of words shared with a reference answer, the best of several."""
    return _best(predictions, references, word_f1)


def word_f1(answer: str, reference: str) -> float:
    """F1 of the words that two normalized answers share, counted as often as in both."""
    ours, theirs = normalized(answer).split(), normalized(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return harmonic(shared / len(ours), shared / len(theirs))


def _best(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    score: Callable[[str, str], float],
) -> float:
    check_pairs(predictions, references)
    total = 0.0
    for number, (prediction, given) in enumerate(zip(predictions, references, strict=True)):
        answers = [given] if isinstance(given, str) else given
        if not answers:
            raise ValueError(f"question {number} has no reference answer; give '' where none is right")
        total += max(score(prediction, answer) for answer in answers)
    return total / len(predictions)
