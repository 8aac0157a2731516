"""The baseline of image classification: a support vector machine on the pixels (Cortes and Vapnik 1995)."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from numpy.typing import NDArray

from glassformer.image.datasets import Record
from glassformer.metrics import accuracy
from glassformer.training.tasks.pictures import Seen, stacked

MOST = 3000  # pictures that it learns from; the time it takes grows with their square
SIDE = 16  # pixels of a side that it sees at most
GRID = [(c, times) for c in (1.0, 10.0, 100.0) for times in (0.5, 1.0, 2.0, 4.0)]
"""What is chosen among on the validation data: C, and gamma in units of 1 / (pixels · their variance)."""


def support_vectors(train: Seen[Record], validation: Seen[Record]) -> Callable[[Seen[Record]], dict[str, float]]:
    """The accuracy of scikit-learn's `SVC` with radial basis functions, chosen on the validation pictures, on others.

    Nothing is said where scikit-learn is not installed.
    """
    try:
        from sklearn.svm import SVC
    except ImportError:
        return lambda pictures: {}
    rows, labels = pixels(train)
    held_out, right = pixels(validation)
    found: list[tuple[float, Any]] = []
    for c, times in GRID:
        machine = SVC(C=c, gamma=times / (rows.shape[1] * rows.var())).fit(rows, labels)
        found.append((accuracy(machine.predict(held_out).tolist(), right), machine))
    best: Any = max(found, key=lambda each: each[0])[1]

    def measured(pictures: Seen[Record]) -> dict[str, float]:
        asked, there = pixels(pictures)
        return {"accuracy": accuracy(best.predict(asked).tolist(), there)}

    return measured


def pixels(pictures: Seen[Record]) -> tuple[NDArray[Any], list[int]]:
    """The first `MOST` of them, drawn by nothing but their order, as rows of numbers in [0, 1], and their labels."""
    records = pictures.some(range(min(MOST, len(pictures))))
    rows = stacked(records).float() / 255
    if min(rows.shape[-2:]) > SIDE:
        rows = F.interpolate(rows, (SIDE, SIDE), mode="bilinear", antialias=True)
    if (rows == rows[:, :1]).all():
        rows = rows[:, :1]  # grey
    return rows.flatten(1).numpy(), [int(record.label or 0) for record in records]
