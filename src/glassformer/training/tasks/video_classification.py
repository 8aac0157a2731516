"""A class for a clip (Bertasius et al. 2021, "Is Space-Time Attention All You Need for Video Understanding?")."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from glassformer.image.draw import draw_confusion
from glassformer.metrics import confusion_matrix, judge
from glassformer.training.batches import Batch, ExampleLoader, Rows, cut
from glassformer.training.data import Pictures
from glassformer.training.readers import Readers
from glassformer.training.tasks.augmented import augmented, check_smoothing, softened
from glassformer.training.tasks.clips import (
    SeenClips,
    check_mirror,
    clips_of,
    draw_clips,
    frames_of,
    stacked_clips,
)
from glassformer.training.tasks.heads import head_of
from glassformer.training.tasks.pictures import classes_of, classified, labels_of, processor_of, rows_at_once
from glassformer.training.tasks.task import Measured, Prepared, Task, Validation
from glassformer.video.datasets import ClipRecord

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

SHOWN = 12  # clips on the sheet of predictions
COMPARED = 2000  # clips that the baseline knows


class ShownClips(Validation):
    """Clips, each with the classes that the model finds probable; in the end some of them and a confusion matrix."""

    more_in_the_end = True

    def __init__(self, clips: SeenClips, labels: tuple[str, ...], batch_size: int) -> None:
        self.clips, self.labels = clips, labels
        self.numbers = cut(np.arange(len(clips)), rows_at_once(clips.processor, batch_size))

    def batches(self) -> Iterable[Batch]:
        return map(self.batch, self.numbers)

    def batch(self, numbers: Iterable[int]) -> Batch:
        """The clips of these numbers."""
        records = self.clips.some(numbers)
        return classified(stacked_clips(records), labels_of(records), self.clips.processor)

    def keep(self, batch: Batch, output: Any) -> list[tuple[list[int], int]]:
        """The classes of each clip by their numbers, the most probable first; and the right one's."""
        ranked = output.logits.float().argsort(-1, descending=True).tolist()
        return list(zip(ranked, batch.inputs["labels"].tolist(), strict=True))

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measured:
        rows = [row for rows in kept for row in rows]
        rankings: list[list[str]] = [[self.labels[number] for number in ranked] for ranked, _ in rows]
        there = [self.labels[right] for _, right in rows]
        metrics = judge("image_classification", rankings, [{"label": label} for label in there], ("accuracy", "f1"))
        return Measured(metrics=metrics, pictures=self.drawn([each[0] for each in rankings], there) if final else {})

    def drawn(self, best: Sequence[str], there: Sequence[str]) -> dict[str, Tensor]:
        """Frames of some of the clips with what they were taken for, mistakes first; and who was taken for whom."""
        right = [said == true for said, true in zip(best, there, strict=True)]
        mistaken, first = sorted(range(len(right)), key=right.__getitem__), range(len(right))
        chosen = list(dict.fromkeys([*mistaken[: SHOWN // 2], *first[: SHOWN // 2]]))
        rows = [(best[i] if right[i] else f"{best[i]}, not {there[i]}", self.clips[i].clip) for i in chosen]
        wrong, accuracy = right.count(False), sum(right) / len(right)
        title = f"{wrong:,} mistakes in {len(right):,} clips; some of them, and the first clips"
        matrix = confusion_matrix(best, there, self.labels)
        confusion = draw_confusion(matrix, self.labels, title=f"{len(right):,} clips, accuracy {accuracy:.3f}")
        return {"predictions.png": draw_clips(rows, title=title), "confusion.png": confusion}


@dataclass(frozen=True, kw_only=True)
class VideoClassification(Task):
    """A model that reads clips learns their classes; the baseline knows their middle frames alone."""

    data: ClassVar[type] = Pictures
    reads: ClassVar[tuple[str, ...]] = ("processor",)
    unit: ClassVar[str] = "clips"
    metric: ClassVar[str] = "accuracy"
    found_in_data: ClassVar[tuple[str, ...]] = ("labels", "num_classes")

    label_smoothing: float = 0.0  # of a clip's class so much is given to all classes alike

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        processor = processor_of(recipe, readers)
        clips, augment = clips_of(recipe), recipe.pictures.augment
        labels = classes_of(recipe, clips)
        clips = clips.named(labels)
        check_mirror(augment.flip, labels)
        train, validation, test = (
            SeenClips(part, processor, frames_of(recipe.model)) for part in (clips.train, clips.validation, clips.test)
        )

        def make(records: list[ClipRecord], random: np.random.Generator) -> Batch:
            seen = augmented(stacked_clips(records), augment, random)
            told = softened(seen, labels_of(records), augment, self.label_smoothing, len(labels), random)
            return classified(*told, processor)

        size = recipe.evaluation.batch_size
        return Prepared(
            readers=Readers(processor=processor),
            batches=clip_loader(recipe, train, make),
            validation=ShownClips(validation, labels, size),
            data=f"{clips}, of {len(labels)} classes",
            settings={"labels": labels, "num_classes": len(labels)},
            baseline={"accuracy": nearest_frames(train, validation)},
            test=ShownClips(test, labels, size) if len(test) else None,
            test_baseline={"accuracy": nearest_frames(train, test)} if len(test) else {},
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "video_classification")

    def check(self, recipe: "Recipe") -> None:
        check_smoothing(self.label_smoothing)

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> None:
        """Not known of every model that reads clips."""

    def next_command(self, folder: Path) -> str:
        return f"glassformer predict --model {folder} CLIP.mp4"


def clip_loader(recipe: "Recipe", clips: SeenClips, make: Any) -> Rows[Any]:
    """Training batches of clips, each once in an epoch in a new order: `make(records, random)`."""
    numbers: ExampleLoader[Any] = ExampleLoader(
        [1] * len(clips),
        lambda numbers: numbers,
        batch_size=recipe.data.batch_size,
        seed=recipe.training.seed,
        content=list(map(str, clips.records.entries)),  # a resumed run must have the same
    )
    return Rows(numbers, lambda some, random: make(clips.some(some), random))


def nearest_frames(train: SeenClips, validation: SeenClips) -> float:
    """The accuracy of giving a clip the class of the clip whose middle frame is nearest to its own."""
    known, asked = (part.some(range(min(COMPARED, len(part)))) for part in (train, validation))
    frames = [
        torch.stack([record.clip[len(record.clip) // 2] for record in some]).flatten(1).float()
        for some in (known, asked)
    ]
    nearest = torch.cdist(frames[1], frames[0]).argmin(1).tolist()
    return float(np.mean([known[i].label == record.label for i, record in zip(nearest, asked, strict=True)]))
