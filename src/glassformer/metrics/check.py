"""What every metric asks of what it is given."""

from collections.abc import Sequence
from typing import Any


def check_pairs(predictions: Sequence[Any], references: Sequence[Any]) -> None:
    """Raise ValueError where there is not one reference for each prediction, or none at all."""
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions and {len(references)} references: each needs its partner")
    if not predictions:
        raise ValueError("there are no predictions to judge")


def ratio(part: float, whole: float) -> float:
    """part / whole; 0 where the whole is 0, as scikit-learn and seqeval have it."""
    return part / whole if whole else 0.0


def harmonic(precision: float, recall: float) -> float:
    """F1 = 2 P R / (P + R)."""
    return ratio(2 * precision * recall, precision + recall)
