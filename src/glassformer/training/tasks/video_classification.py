"""A class for a clip (Bertasius et al. 2021, "Is Space-Time Attention All You Need for Video Understanding?")."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from glassformer.training.readers import Readers
from glassformer.training.tasks.augmented import check_smoothing
from glassformer.training.tasks.classified import ShownClasses, changing
from glassformer.training.tasks.clips import check_mirror, clips_of, draw_clips, framed, frames_of
from glassformer.training.tasks.heads import head_of
from glassformer.training.tasks.pictures import PictureTask, Seen, labelled, prepared, processor_of
from glassformer.training.tasks.task import Prepared
from glassformer.video.datasets import ClipRecord

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

SHOWN = 12  # clips on the sheet of predictions
COMPARED = 2000  # clips that the baseline knows


def clip_sheet(clips: Seen[ClipRecord], captions: Sequence[str], right: Sequence[bool]) -> UInt8[Tensor, "3 y x"]:
    """Frames of some of the clips with what they were taken for: some mistakes, and the first clips."""
    mistaken, first = sorted(range(len(right)), key=right.__getitem__), range(len(right))
    chosen = list(dict.fromkeys([*mistaken[: SHOWN // 2], *first[: SHOWN // 2]]))
    title = f"{right.count(False):,} mistakes in {len(right):,} clips; some of them, and the first clips"
    return draw_clips([(captions[i], clips[i].clip) for i in chosen], title=title)


@dataclass(frozen=True, kw_only=True)
class VideoClassification(PictureTask):
    """A model that reads clips learns their classes; the baseline knows their middle frames alone."""

    unit: ClassVar[str] = "clips"
    metric: ClassVar[str] = "accuracy"

    label_smoothing: float = 0.0  # of a clip's class so much is given to all classes alike

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        processor, frames = processor_of(recipe, readers), frames_of(recipe.model)
        clips = labelled(recipe, clips_of(recipe)).each(lambda part: framed(part, processor, frames))
        check_mirror(recipe.pictures.augment.flip, clips.labels)
        return prepared(
            recipe,
            clips,
            make=changing(recipe, len(clips.labels), self.label_smoothing, processor),
            validation=partial(ShownClasses, draw=clip_sheet),
            baseline=lambda part: nearest_frames(clips.train, part),
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "video_classification")

    def check(self, recipe: "Recipe") -> None:
        check_smoothing(self.label_smoothing)

    def next_command(self, folder: Path) -> str:
        return f"glassformer predict --model {folder} CLIP.mp4"


def nearest_frames(train: Seen[ClipRecord], validation: Seen[ClipRecord]) -> dict[str, float]:
    """The accuracy of giving a clip the class of the clip whose middle frame is nearest to its own."""
    known, asked = (part.some(range(min(COMPARED, len(part)))) for part in (train, validation))
    frames = [
        torch.stack([record.clip[len(record.clip) // 2] for record in some]).flatten(1).float()
        for some in (known, asked)
    ]
    nearest = torch.cdist(frames[1], frames[0]).argmin(1).tolist()
    right = [known[i].label == record.label for i, record in zip(nearest, asked, strict=True)]
    return {"accuracy": float(np.mean(right))}
