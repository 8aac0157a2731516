"""What the tasks share that learn a class for a picture or a clip: its batches, and how it is measured."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from glassformer.image.datasets import Record
from glassformer.image.draw import draw_confusion
from glassformer.image.processor import ImageProcessor
from glassformer.metrics import confusion_matrix, judge
from glassformer.training.batches import Batch
from glassformer.training.tasks.augmented import augmented, softened
from glassformer.training.tasks.pictures import R, Seen, stacked
from glassformer.training.tasks.task import Measures, Validation
from glassformer.video.datasets import ClipRecord

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe


def classified(pictures: Tensor, labels: Tensor, processor: ImageProcessor) -> Batch:
    """The batch of pictures or clips of the model's size, bytes or floats in [0, 1], and their classes."""
    inputs = {"pixel_values": processor.normalised(pictures), "labels": labels}
    return Batch(inputs=inputs, target="labels", units=len(pictures))


def labels_of(records: Sequence[Record | ClipRecord]) -> Int[Tensor, "b"]:
    """The classes of records that have one each."""
    return torch.tensor([record.label for record in records])


def changing(
    recipe: "Recipe", num_classes: int, smoothing: float, processor: ImageProcessor
) -> Callable[[Sequence[Record | ClipRecord], np.random.Generator], Batch]:
    """What makes a batch of records to learn from, with all that [data.augment] changes, mixes and that is smoothed."""
    augment = recipe.pictures.augment

    def make(records: Sequence[Record | ClipRecord], random: np.random.Generator) -> Batch:
        seen = augmented(stacked(records), augment, random)
        told = softened(seen, labels_of(records), augment, smoothing, num_classes, random)
        return classified(*told, processor)

    return make


class ShownClasses(Validation):
    """Pictures or clips, each with the classes that the model finds probable; in the end drawn, and who was taken for
    whom.

    `draw` makes a sheet of them, given for each what it was taken for, and whether that is right.
    """

    more_in_the_end = True

    def __init__(
        self,
        pictures: Seen[R],
        labels: tuple[str, ...],
        batch_size: int,
        draw: Callable[[Seen[R], Sequence[str], Sequence[bool]], UInt8[Tensor, "3 y x"]],
    ) -> None:
        self.pictures, self.labels, self.draw = pictures, labels, draw
        self.numbers = pictures.cut(batch_size)

    def batches(self) -> Iterable[Batch]:
        return map(self.batch, self.numbers)

    def batch(self, numbers: Iterable[int]) -> Batch:
        """The pictures or clips of these numbers."""
        records = self.pictures.some(numbers)
        return classified(stacked(records), labels_of(records), self.pictures.processor)

    def keep(self, batch: Batch, output: Any) -> list[tuple[list[int], int]]:
        """The classes of each by their numbers, the most probable first; and the right one's."""
        ranked = output.logits.float().argsort(-1, descending=True).tolist()
        return list(zip(ranked, batch.inputs["labels"].tolist(), strict=True))

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        rows = [row for rows in kept for row in rows]
        rankings: list[list[str]] = [[self.labels[number] for number in ranked] for ranked, _ in rows]
        there = [self.labels[right] for _, right in rows]
        names = ("accuracy", "top_5", "f1") if len(self.labels) > 5 else ("accuracy", "f1")
        metrics = judge("image_classification", rankings, [{"label": label} for label in there], names)
        return Measures(metrics=metrics, pictures=self.drawn([each[0] for each in rankings], there) if final else {})

    def drawn(self, best: Sequence[str], there: Sequence[str]) -> dict[str, Tensor]:
        """A sheet with what they were taken for, and the confusion matrix."""
        right = [said == true for said, true in zip(best, there, strict=True)]
        captions = [said if said == true else f"{said}, not {true}" for said, true in zip(best, there, strict=True)]
        matrix, title = confusion_matrix(best, there, self.labels), f"accuracy {np.mean(right):.3f} of {len(right):,}"
        confusion = draw_confusion(matrix, self.labels, title=title)
        return {"predictions.png": self.draw(self.pictures, captions, right), "confusion.png": confusion}
