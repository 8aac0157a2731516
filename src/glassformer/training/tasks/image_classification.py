"""A class for a picture (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jaxtyping import UInt8
from torch import Tensor

from glassformer.foundation.suggest import did_you_mean
from glassformer.image.datasets import Record
from glassformer.image.draw import draw_sheet
from glassformer.training.readers import Readers
from glassformer.training.tasks.augmented import check_smoothing
from glassformer.training.tasks.classified import ShownClasses, changing
from glassformer.training.tasks.heads import head_of
from glassformer.training.tasks.pictures import (
    PictureTask,
    Seen,
    labelled,
    pictures_of,
    prepared,
    processor_of,
    resized,
)
from glassformer.training.tasks.support_vectors import support_vectors
from glassformer.training.tasks.task import Prepared

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

BEST_BY = ("accuracy", "f1", "loss")
SHOWN = 40  # pictures on the sheet of predictions


def picture_sheet(pictures: Seen[Record], captions: Sequence[str], right: Sequence[bool]) -> UInt8[Tensor, "3 y x"]:
    """Some pictures as they are, with what they were taken for, mistakes first."""
    chosen, wrong = sorted(range(len(right)), key=right.__getitem__)[:SHOWN], right.count(False)
    return draw_sheet(
        [pictures.records[i].picture for i in chosen],
        [captions[i] for i in chosen],
        [right[i] for i in chosen],
        title=f"{wrong:,} mistakes in {len(right):,} pictures"
        + (f", the first {SHOWN}" if wrong > SHOWN else ", and others" if len(right) > wrong else ""),
    )


@dataclass(frozen=True, kw_only=True)
class ImageClassification(PictureTask):
    """A model that looks at pictures learns their classes; the baseline is a support vector machine on the pixels."""

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
        processor = processor_of(recipe, readers)
        pictures = labelled(recipe, pictures_of(recipe, "classification")).each(lambda part: resized(part, processor))
        return prepared(
            recipe,
            pictures,
            make=changing(recipe, len(pictures.labels), self.label_smoothing, processor),
            validation=partial(ShownClasses, draw=picture_sheet),
            baseline=support_vectors(pictures.train, pictures.validation),
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "image_classification")
