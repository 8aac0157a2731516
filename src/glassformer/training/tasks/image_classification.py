"""A class for a picture (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from glassformer.foundation.suggest import did_you_mean
from glassformer.image.datasets import Record, Records
from glassformer.image.draw import draw_confusion, draw_sheet
from glassformer.image.processor import ImageProcessor
from glassformer.metrics import confusion_matrix, judge
from glassformer.training.batches import Batch, cut
from glassformer.training.data import Pictures
from glassformer.training.readers import Readers
from glassformer.training.tasks.heads import head_of
from glassformer.training.tasks.pictures import (
    Seen,
    augmented,
    classes_of,
    loader_of,
    pictures_of,
    processor_of,
    stacked,
)
from glassformer.training.tasks.support_vectors import support_vectors
from glassformer.training.tasks.task import Measured, Prepared, Task, Validation

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

BEST_BY = ("accuracy", "f1", "loss")
SHOWN = 40  # pictures on the sheet of predictions


class Shown(Validation):
    """Pictures, each with the classes that the model finds probable; in the end a sheet and a confusion matrix too."""

    more_in_the_end = True

    def __init__(self, pictures: Seen, labels: tuple[str, ...], *, batch_size: int) -> None:
        self.pictures, self.labels = pictures, labels
        self.numbers = cut(np.arange(len(pictures)), batch_size)

    def batches(self) -> Iterable[Batch]:
        return map(self.batch, self.numbers)

    def batch(self, numbers: Iterable[int]) -> Batch:
        records = self.pictures.some(numbers)
        return classified(records, stacked(records), self.pictures.processor)

    def keep(self, batch: Batch, output: Any) -> list[tuple[list[int], int]]:
        """The classes of each picture by their numbers, the most probable first; and the right one's."""
        ranked = output.logits.float().argsort(-1, descending=True).tolist()
        return list(zip(ranked, batch.inputs["labels"].tolist(), strict=True))

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measured:
        rows = [row for rows in kept for row in rows]
        rankings: list[list[str]] = [[self.labels[number] for number in ranked] for ranked, _ in rows]
        there = [self.labels[right] for _, right in rows]
        names = ("accuracy", "top_5", "f1") if len(self.labels) > 5 else ("accuracy", "f1")
        metrics = judge("image_classification", rankings, [{"label": label} for label in there], names)
        return Measured(metrics=metrics, pictures=self.drawn([each[0] for each in rankings], there) if final else {})

    def drawn(self, best: Sequence[str], there: Sequence[str]) -> dict[str, Tensor]:
        """Some of the pictures with what they were taken for, mistakes first; and who was taken for whom."""
        right = [said == true for said, true in zip(best, there, strict=True)]
        chosen = sorted(range(len(right)), key=right.__getitem__)[:SHOWN]
        wrong, accuracy = right.count(False), sum(right) / len(right)
        sheet = draw_sheet(
            [self.pictures.records[i].picture for i in chosen],
            [best[i] if right[i] else f"{best[i]}, not {there[i]}" for i in chosen],
            [right[i] for i in chosen],
            title=f"{wrong:,} mistakes in {len(right):,} pictures"
            + (f", the first {SHOWN}" if wrong > SHOWN else ", and others" if len(right) > wrong else ""),
        )
        matrix = confusion_matrix(best, there, self.labels)
        title = f"{len(right):,} pictures, accuracy {accuracy:.3f}"
        return {"predictions.png": sheet, "confusion.png": draw_confusion(matrix, self.labels, title=title)}


@dataclass(frozen=True, kw_only=True)
class ImageClassification(Task):
    """A model that looks at pictures learns their classes; the baseline is a support vector machine on the pixels."""

    data: ClassVar[type] = Pictures
    reads: ClassVar[tuple[str, ...]] = ("processor",)
    unit: ClassVar[str] = "pictures"
    found_in_data: ClassVar[tuple[str, ...]] = ("labels", "num_classes")

    best_by: str = "accuracy"  # or loss, which tells more where few pictures are there to validate on; or f1

    @property
    def metric(self) -> str:  # type: ignore[override]
        return self.best_by

    def check(self, recipe: "Recipe") -> None:
        if self.best_by not in BEST_BY:
            raise ValueError(f"[task] best_by is {self.best_by!r}{did_you_mean(self.best_by, BEST_BY)}")

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        pictures, processor = pictures_of(recipe, "classification"), processor_of(recipe, readers)
        labels = classes_of(recipe, pictures)
        number = [labels.index(label) for label in pictures.labels]
        train, validation, test = (
            Seen(relabelled(part, number), processor) for part in (pictures.train, pictures.validation, pictures.test)
        )

        def make(records: list[Record], random: np.random.Generator) -> Batch:
            return classified(records, augmented(stacked(records), recipe.pictures.augment, random), processor)

        baselines = support_vectors(train, validation, test)
        size = recipe.evaluation.batch_size
        return Prepared(
            readers=Readers(processor=processor),
            batches=loader_of(recipe, train, make),
            validation=Shown(validation, labels, batch_size=size),
            data=f"{pictures}, of {len(labels)} classes",
            settings={"labels": labels, "num_classes": len(labels)},
            baseline=baselines[0],
            test=Shown(test, labels, batch_size=size) if len(test) else None,
            test_baseline=baselines[1],
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "image_classification")

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> None:
        """Not known of every model that looks at pictures."""

    def next_command(self, folder: Path) -> str:
        return f"glassformer predict --model {folder} PICTURE.png"


def relabelled(records: Records[Any, Record], numbers: Sequence[int]) -> Records[Any, Record]:
    """Records whose class i is called `numbers[i]`, as the model has it."""

    def read(entry: Any) -> Record:
        record = records.read(entry)
        assert record.label is not None
        return replace(record, label=numbers[record.label])

    return Records(records.entries, read)


def classified(records: Sequence[Record], pictures: Tensor, processor: ImageProcessor) -> Batch:
    """The batch of some records, their pictures bytes, or floats in [0, 1], of the model's size."""
    labels = torch.tensor([record.label for record in records])
    inputs = {"pixel_values": processor.normalised(pictures), "labels": labels}
    return Batch(inputs=inputs, target="labels", units=len(records))
