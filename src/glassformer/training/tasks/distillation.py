"""A student that learns from a teacher beside the labels (Touvron et al. 2021, "DeiT", section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from glassformer.checkpoints.hub import resolve
from glassformer.image.processor import ImageProcessor, load_image_processor
from glassformer.models.catalog import from_pretrained
from glassformer.training.readers import Readers
from glassformer.training.tasks.augmented import check_smoothing
from glassformer.training.tasks.heads import head_of
from glassformer.training.tasks.image_classification import ImageClassification
from glassformer.training.tasks.pictures import PictureTask
from glassformer.training.tasks.task import Prepared

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe


class Teacher:
    """The loss of a student that hears what a teacher says of the very same pixels."""

    def __init__(self, teacher: Any, order: Sequence[int], *, temperature: float | None) -> None:
        self.teacher, self.temperature = teacher.eval(), temperature
        self.order = torch.tensor(order)  # of its classes, as the student has them

    def __call__(self, student: Any, inputs: Mapping[str, Any]) -> Tensor:
        return student(**inputs, teacher_labels=self.opinion(inputs["pixel_values"])).loss

    @torch.no_grad()
    def opinion(self, pixels: Tensor) -> Tensor:
        """Probabilities (b, n) at the temperature; without one the classes (b,) that it decides for."""
        with torch.autocast(pixels.device.type, enabled=False):
            logits = self.teacher.to(pixels.device)(pixels).logits.float()[:, self.order.to(pixels.device)]
        return logits.argmax(-1) if self.temperature is None else (logits / self.temperature).softmax(-1)


@dataclass(frozen=True, kw_only=True)
class Distillation(PictureTask):
    """A DeiT learns the classes of pictures from their labels by one head, and from a teacher by the other.

    teacher      a folder, a run folder's model/, or a hub id of a classifier that sees pictures as the student does;
                 none: both heads learn from the labels, as for the student alone
    temperature  what the teacher's and the student's logits are divided by (equation 2); none: the student hears the
                 class that the teacher decides for, and no more (equation 3)
    label_smoothing  of the label's class so much is given to all classes alike
    """

    teacher: str | None = None
    temperature: float | None = 3.0
    label_smoothing: float = 0.0

    metric: ClassVar[str] = "accuracy"

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        prepared = ImageClassification(label_smoothing=self.label_smoothing).prepare(recipe, readers)
        if self.teacher is None:
            return prepared
        folder = self.folder(self.teacher)
        teacher, names = from_pretrained(folder), prepared.settings["labels"]
        known = teacher.config.labels or ()
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"[task] teacher {self.teacher!r} does not know the class {unknown[0]!r}")
        assert prepared.readers.processor is not None
        check_eyes(load_image_processor(folder), prepared.readers.processor, self.teacher)
        order = [known.index(name) for name in names]
        return replace(prepared, objective=Teacher(teacher, order, temperature=self.temperature))

    def check(self, recipe: "Recipe") -> None:
        check_smoothing(self.label_smoothing)

    @staticmethod
    def folder(teacher: str) -> Path:
        """Where the teacher lies. FileNotFoundError, saying how to make it, where it is a run of ours that is not."""
        parts = Path(teacher).parts
        if len(parts) > 2 and parts[-3] == "runs" and parts[-1] == "model" and not Path(teacher).is_dir():
            made = f"'glassformer train {parts[-2]}' makes it"
            raise FileNotFoundError(f"[task] teacher is {teacher!r}, which is not there; {made}")
        return resolve(teacher)

    def build(self, config: Any) -> Any:
        student = head_of(config, "distilled_image_classification")
        student.temperature = self.temperature or 1.0
        return student


def check_eyes(teachers: ImageProcessor, students: ImageProcessor, name: str) -> None:
    """Raise ValueError where the teacher is used to pixels of another size or scale than the student gets."""
    for what in ("size", "crop", "scale", "shift", "mean", "std"):
        theirs, ours = getattr(teachers, what), getattr(students, what)
        if theirs != ours:
            raise ValueError(f"[task] teacher {name!r} sees pictures with {what}={theirs}, the student with {ours}; "
                             "they look at the same pixels, so both must be prepared alike")  # fmt: skip
