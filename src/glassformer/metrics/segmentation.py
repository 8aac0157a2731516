"""Maps of classes: how far what is said of the pixels covers what is there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNLABELLED = 255


def pixel_counts(
    predictions: Sequence[Any], references: Sequence[Any], num_classes: int, *, ignored: int = UNLABELLED
) -> NDArray[np.int64]:
    """(n, n): entry (i, j) is how many pixels of class i were taken for class j; sums over batches may be added up.

    Args:
        predictions, references: maps (y, x) of whole numbers, in pairs of one shape.
        num_classes: n.
        ignored: the number of pixels that do not count in a reference.

    Raises:
        ValueError: pairs that do not match, and classes outside 0 … n − 1.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} maps are held against {len(references)}; expected one for each")
    counts = np.zeros((num_classes, num_classes), np.int64)
    for said, there in zip(map(np.asarray, predictions), map(np.asarray, references), strict=True):
        if said.shape != there.shape:
            raise ValueError(f"a map of shape {said.shape} is held against one of {there.shape}; expected one shape")
        counted = there != ignored
        said, there = said[counted].astype(np.int64), there[counted].astype(np.int64)
        for name, numbers in (("prediction", said), ("reference", there)):
            if numbers.size and (numbers.min() < 0 or numbers.max() >= num_classes):
                strange = numbers.min() if numbers.min() < 0 else numbers.max()
                raise ValueError(f"a {name} holds class {strange}; there are {num_classes} classes, from 0")
        counts += np.bincount(there * num_classes + said, minlength=num_classes**2).reshape(counts.shape)
    return counts


def class_ious(counts: NDArray[np.int64]) -> list[float | None]:
    """Of each class TP / (TP + FP + FN) in pixels; None for one that neither occurs nor is predicted."""
    right = np.diagonal(counts)
    either = counts.sum(0) + counts.sum(1) - right
    return [int(r) / int(e) if e else None for r, e in zip(right, either, strict=True)]


def mean_iou(counts: NDArray[np.int64]) -> float:
    """The mean of `class_ious` over the classes that occur or are predicted; 0 where there is none."""
    found = [iou for iou in class_ious(counts) if iou is not None]
    return sum(found) / len(found) if found else 0.0


def pixel_accuracy(counts: NDArray[np.int64]) -> float:
    """The part of the counted pixels that are of the class that was said; 0 where none counts."""
    return int(np.diagonal(counts).sum()) / max(int(counts.sum()), 1)
