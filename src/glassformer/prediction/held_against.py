"""Pictures and clips that a model is held against: whatever its head is for, by the measures of its training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from glassformer.image.datasets import PictureSet, Record, Records, load_pictures
from glassformer.image.folders import part_of
from glassformer.image.processor import IGNORED_CLASS, ImageProcessor
from glassformer.prediction.pictures import class_names, head_of
from glassformer.text.examples import options_of
from glassformer.training.tasks import Validation
from glassformer.training.tasks.classified import ShownClasses
from glassformer.training.tasks.clips import framed, frames_of
from glassformer.training.tasks.detection import ShownBoxes
from glassformer.training.tasks.image_classification import picture_sheet
from glassformer.training.tasks.mask_segmentation import ShownMasks
from glassformer.training.tasks.pictures import Seen, as_records, numbers_by_name, renumbered, resized
from glassformer.training.tasks.segments import whole
from glassformer.training.tasks.semantic_segmentation import ShownMaps
from glassformer.training.tasks.video_classification import clip_sheet
from glassformer.video.datasets import ClipSet, load_clips

CLIPS = "video_classification"
PICTURES: Mapping[str, tuple[str, Callable[..., Seen[Record]], Callable[..., Validation]]] = {
    "image_classification": ("classification", resized, partial(ShownClasses, draw=picture_sheet)),
    "distilled_image_classification": ("classification", resized, partial(ShownClasses, draw=picture_sheet)),
    "object_detection": ("detection", whole, ShownBoxes),
    "semantic_segmentation": ("semantic", whole, ShownMaps),
    "universal_segmentation": ("instances", whole, ShownMasks),
}
"""What a model's head is for -> what must be known of the pictures, how they are seen, and how gone through."""

BY_NAME = ("digits", "scenes", "motions")


@dataclass(frozen=True, kw_only=True)
class HeldAgainst:
    """What a model is held against, how much of it there is (of pictures, or clips), and which part of the source."""

    validation: Validation
    count: int
    unit: str
    split: str


def is_seeing(model: Any) -> bool:
    """Whether a model's head says something of pictures or clips."""
    return head_of(model) in (*PICTURES, CLIPS)


def held_against(
    model: Any, processor: ImageProcessor, source: str, *, split: str | None = None, batch_size: int = 16
) -> HeldAgainst:
    """The pictures or clips of a source (see `load_pictures`, `load_clips`), as the model sees them.

    `split` is train, validation, test or all; where none is given it is all of files and folders in which nothing
    names a part, else validation. Classes are those of the model that have the same names.

    Raises:
        ValueError: the model's head says nothing of pictures, the source is of another kind or has no such part, is
            empty, or has a class that the model does not know; and whatever `load_pictures` and `load_clips` raise.
    """
    head, names = head_of(model), class_names(model.config)
    if head == CLIPS:
        frames = frames_of(model.config)
        records, labels, split = part_of_source(source, split, lambda said: load_clips(said, frames=frames))
        clips = framed(renumbered(records, numbers_by_name(source, labels, names)), processor, frames)
        shown = ShownClasses(clips, names, batch_size, clip_sheet)
        return HeldAgainst(validation=shown, count=len(clips), unit="clips", split=split)
    if head is None or head not in PICTURES:
        raise ValueError(f"{type(model).__name__} says nothing of pictures; its head is for none of "
                         f"{', '.join((*PICTURES, CLIPS))}")  # fmt: skip
    kind, see, make = PICTURES[head]
    records, labels, split = part_of_source(source, split, lambda said: load_pictures(said, kind))
    if kind == "semantic" and "labels" not in options_of(source)[1] and not set(labels) <= set(names):
        raise ValueError(f"{source} does not say which classes its numbers are, and the model knows "
                         f"{', '.join(names[:8])}; name them, in their order: '?labels=FILE', a line each")  # fmt: skip
    if processor.reduce_labels:  # the first number of a map is nobody's, the others count on without it
        numbers = [IGNORED_CLASS, *numbers_by_name(source, labels[1:], names)]
        processor = replace(processor, reduce_labels=False)
    else:
        numbers = numbers_by_name(source, labels, names)
    validation = make(see(renumbered(records, numbers), processor), names, batch_size)
    return HeldAgainst(validation=validation, count=len(records), unit="pictures", split=split)


def part_of_source(
    source: str, split: str | None, load: Callable[[str], PictureSet | ClipSet]
) -> tuple[Records[Any, Any], tuple[str, ...], str]:
    """The records of a part, the names of their classes, and the part's: see `held_against`."""
    path, options = options_of(source)
    in_parts = path in BY_NAME or path.startswith("hf:") or "validation" in options
    in_parts = in_parts or part_of(Path(path).expanduser(), "train") is not None
    split = split or ("validation" if in_parts else "all")
    if split == "all" and not in_parts:
        found = load(f"{source}{'&' if options else '?'}validation=1")
        return as_records(found.validation), found.labels, split
    if split == "test" and not in_parts:
        raise ValueError(f"{source} has no part to test on")
    found = load(source)
    parts = ("train", "validation", "test") if split == "all" else (split,)
    entries = [(part, i) for part in (getattr(found, name) for name in parts) for i in range(len(part))]
    if not entries:
        raise ValueError(f"{source} has no part to {'test on' if split == 'test' else 'learn from'}")
    return Records(entries, lambda entry: entry[0][entry[1]]), found.labels, split
