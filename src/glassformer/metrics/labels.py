"""Labels: accuracy, the first few of a ranking, F1, and who was taken for whom."""

from collections import Counter
from collections.abc import Hashable, Sequence

from glassformer.foundation.suggest import did_you_mean
from glassformer.metrics.check import check_pairs, ratio


def accuracy(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> float:
    """The part of the predictions that equal their references."""
    check_pairs(predictions, references)
    return sum(p == r for p, r in zip(predictions, references, strict=True)) / len(predictions)


def confusion(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> Counter[tuple[Hashable, Hashable]]:
    """How often each reference met each prediction: `confusion(...)["positive", "negative"]`, the reference first."""
    check_pairs(predictions, references)
    return Counter(zip(references, predictions, strict=True))


def confusion_matrix(
    predictions: Sequence[Hashable], references: Sequence[Hashable], labels: Sequence[Hashable]
) -> list[list[int]]:
    """`confusion` in rows: entry (i, j) is how often `labels[i]` was taken for `labels[j]`.

    Raises:
        ValueError: a prediction or reference is not among the labels.
    """
    counts = confusion(predictions, references)
    if strange := {label for pair in counts for label in pair} - set(labels):
        raise ValueError(f"the label {min(map(str, strange))!r} is not among the {len(labels)} labels")
    return [[counts[there, said] for said in labels] for there in labels]


def top_k(rankings: Sequence[Sequence[Hashable]], references: Sequence[Hashable], k: int) -> float:
    """The part of the references that stand among the first `k` labels of their ranking, the most probable first."""
    check_pairs(rankings, references)
    if k < 1:
        raise ValueError(f"k={k} is no number of labels to look at; expected 1 or more")
    found = (reference in ranking[:k] for ranking, reference in zip(rankings, references, strict=True))
    return sum(found) / len(rankings)


def f1(
    predictions: Sequence[Hashable],
    references: Sequence[Hashable],
    *,
    average: str = "macro",
    positive: Hashable | None = None,
) -> float:
    """F1 = 2 TP / (2 TP + FP + FN), 0 where a label neither occurs nor is predicted.

    `average` "macro": the mean over the labels that occur among predictions or references; "micro": TP, FP and FN added
    up over the labels; "binary": of the label `positive` alone.

    Raises:
        ValueError: an unknown average; `positive` missing for "binary", given for another, or nowhere to be found.
    """
    counts = confusion(predictions, references)
    labels = {label for pair in counts for label in pair}
    if average not in ("macro", "micro", "binary"):
        raise ValueError(f"average is {average!r}{did_you_mean(average, ['macro', 'micro', 'binary'])}")
    if (average == "binary") != (positive is not None):
        raise ValueError(f"average={average!r} with positive={positive!r}: 'binary', and nothing else, needs positive")
    if positive is not None and positive not in labels:
        raise ValueError(f"positive is {positive!r}, a label of no prediction and no reference")
    true = {label: counts[label, label] for label in labels}
    both = {label: sum(n * pair.count(label) for pair, n in counts.items()) for label in labels}  # 2 TP + FP + FN
    if average == "binary":
        return ratio(2 * true[positive], both[positive])
    if average == "micro":
        return ratio(2 * sum(true.values()), sum(both.values()))
    return sum(ratio(2 * true[label], both[label]) for label in labels) / len(labels)
