"""Generated text beside a reference: BLEU and ROUGE."""

import re
from collections import Counter
from collections.abc import Sequence

from glassformer.metrics.check import check_pairs, harmonic, ratio


def bleu(predictions: Sequence[str], references: Sequence[str | Sequence[str]], *, lowercase: bool = False) -> float:
    """Corpus BLEU from 0 to 100 by sacrebleu, with its own tokenization (13a).

    Source: Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"; Post 2018, "A Call
    for Clarity in Reporting BLEU Scores".

    Raises:
        ImportError: sacrebleu is not installed.
        ValueError: some predictions have more references than others.
    """
    check_pairs(predictions, references)
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ImportError("BLEU needs the package sacrebleu: pip install 'glassformer[metrics]'") from error
    several = [[given] if isinstance(given, str) else list(given) for given in references]
    if len({len(given) for given in several}) > 1 or not several[0]:
        raise ValueError("each prediction needs the same number of references, one or more")
    streams = [list(stream) for stream in zip(*several, strict=True)]
    return BLEU(lowercase=lowercase).corpus_score(list(predictions), streams).score


def rouge(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The mean F1 of shared words ("rouge1"), pairs of words ("rouge2") and the longest common subsequence ("rougeL").

    Words are runs of a-z and 0-9 in lower case, without stemming, as rouge-score has them: other letters part words.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", sections 2 and 3.
    """
    check_pairs(predictions, references)
    totals = {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}
    for prediction, reference in zip(predictions, references, strict=True):
        ours, theirs = words(prediction), words(reference)
        totals["rouge1"] += _shared(ours, theirs, 1)
        totals["rouge2"] += _shared(ours, theirs, 2)
        common = longest_common_subsequence(ours, theirs)
        totals["rougeL"] += harmonic(ratio(common, len(ours)), ratio(common, len(theirs)))
    return {name: total / len(predictions) for name, total in totals.items()}


def words(text: str) -> list[str]:
    """The words that ROUGE counts."""
    return re.findall(r"[a-z0-9]+", text.lower())


def longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest sequence that both contain, with gaps: L(i, j) by rows of i."""
    row = [0] * (len(other) + 1)
    for item in one:
        corner = 0  # L(i - 1, j - 1)
        for j, candidate in enumerate(other, 1):
            above = row[j]
            row[j] = corner + 1 if item == candidate else max(above, row[j - 1])
            corner = above
    return row[-1]


def _shared(ours: list[str], theirs: list[str], n: int) -> float:
    first, second = (Counter(zip(*(side[i:] for i in range(n)), strict=False)) for side in (ours, theirs))
    shared = (first & second).total()
    return harmonic(ratio(shared, first.total()), ratio(shared, second.total()))
