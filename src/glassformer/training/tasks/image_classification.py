"""A class for a picture (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from glassformer.foundation.suggest import did_you_mean
from glassformer.image.datasets import Record, Records
from glassformer.image.draw import draw_confusion, draw_sheet
from glassformer.image.processor import ImageProcessor
from glassformer.metrics import confusion_matrix, judge
from glassformer.training.batches import Batch, cut
from glassformer.training.data import Pictures
from glassformer.training.readers import Readers
from glassformer.training.tasks.augmented import augmented, check_smoothing, softened
from glassformer.training.tasks.heads import head_of
from glassformer.training.tasks.pictures import (
    Seen,
    classes_of,
    classified,
    labels_of,
    loader_of,
    pictures_of,
    processor_of,
    rows_at_once,
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

    def __init__(
        self, records: Records[Any, Record], labels: tuple[str, ...], processor: ImageProcessor, batch_size: int
    ) -> None:
        self.pictures, self.labels = Seen(records, processor), labels
        self.numbers = cut(np.arange(len(records)), rows_at_once(processor, batch_size))

    def batches(self) -> Iterable[Batch]:
        return map(self.batch, self.numbers)

    def batch(self, numbers: Iterable[int]) -> Batch:
        records = self.pictures.some(numbers)
        return classified(stacked(records), labels_of(records), self.pictures.processor)

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
    label_smoothing: float = 0.0  # of a picture's class so much is given to all classes alike

    @property
    def metric(self) -> str:  # type: ignore[override]
        return self.best_by

    def check(self, recipe: "Recipe") -> None:
        if self.best_by not in BEST_BY:
            raise ValueError(f"[task] best_by is {self.best_by!r}{did_you_mean(self.best_by, BEST_BY)}")
        check_smoothing(self.label_smoothing)

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        pictures, processor = pictures_of(recipe, "classification"), processor_of(recipe, readers)
        labels = classes_of(recipe, pictures)
        pictures, size, augment = pictures.named(labels), recipe.evaluation.batch_size, recipe.pictures.augment
        train = Seen(pictures.train, processor)
        validation, test = (Shown(part, labels, processor, size) for part in (pictures.validation, pictures.test))

        def make(records: list[Record], random: np.random.Generator) -> Batch:
            seen = augmented(stacked(records), augment, random)
            told = softened(seen, labels_of(records), augment, self.label_smoothing, len(labels), random)
            return classified(*told, processor)

        baselines = support_vectors(train, validation.pictures, test.pictures)
        return Prepared(
            readers=Readers(processor=processor),
            batches=loader_of(recipe, train, make),
            validation=validation,
            data=f"{pictures}, of {len(labels)} classes",
            settings={"labels": labels, "num_classes": len(labels)},
            baseline=baselines[0],
            test=test if len(pictures.test) else None,
            test_baseline=baselines[1],
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "image_classification")

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> None:
        """Not known of every model that looks at pictures."""

    def next_command(self, folder: Path) -> str:
        return f"glassformer predict --model {folder} PICTURE.png"
