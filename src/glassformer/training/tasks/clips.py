"""What the tasks share that learn from clips: where these come from, as many frames as the model sees."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from glassformer.image.datasets import Records
from glassformer.image.draw import font, paper, write
from glassformer.image.files import as_tensor
from glassformer.image.processor import ImageProcessor
from glassformer.training.tasks.pictures import Parts, Seen, parts_of
from glassformer.video.datasets import ClipRecord, load_clips
from glassformer.video.files import filmstrip
from glassformer.video.processor import evenly

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

ROOM = 1 << 30  # bytes of resized clips that are kept in memory


def framed(records: Records[Any, ClipRecord], processor: ImageProcessor, frames: int) -> Seen[ClipRecord]:
    """Records with their clips as the model sees them: of more frames than it reads some, evenly over the whole."""

    def view(one: ClipRecord) -> ClipRecord:
        clip = one.clip if len(one.clip) == frames else evenly(one.clip, frames)
        return replace(one, clip=torch.stack([processor.resized(frame) for frame in clip]))

    return Seen(records, processor, view, ROOM)


def clips_of(recipe: "Recipe") -> Parts[Records[Any, Any]]:
    """The clips that [data] names (see `glassformer.video.datasets.load_clips`), `num_frames` of the model of each."""
    found = load_clips(recipe.pictures.source, frames=frames_of(recipe.model), seed=recipe.pictures.split)
    return parts_of(recipe, found, "clips")


def frames_of(config: Any) -> int:
    """How many frames of a clip a model reads."""
    return getattr(config, "num_frames", 1)


TURNED = ("left", "right", "clockwise", "counterclockwise", "anticlockwise")


def check_mirror(flip: float, labels: Sequence[str]) -> None:
    """Raise ValueError where mirror images are asked for and a class says which way something goes.

    The mirror image of a clip of "left" is one of "right". Nothing tells of a class's name that it means a direction,
    so words are looked for; what is named otherwise ("to the kitchen") is for the recipe's author to know.
    """
    named = [label for label in labels if set(re.findall("[a-z]+", label.lower())) & set(TURNED)]
    if flip and named:
        raise ValueError(f"[data.augment] flip={flip} shows clips of {named[0]!r} as their mirror images, which are of "
                         "another class; leave it out")  # fmt: skip


def draw_clips(
    rows: Sequence[tuple[str, UInt8[Tensor, "t 3 y x"]]], *, title: str, side: int = 64
) -> UInt8[Tensor, "3 y x"]:
    """A row of frames for each clip, beside what is said of it, under a title."""
    letters, line = font(15), side + 6
    room = 20 + max(int(letters.getlength(text)) for text, _ in rows)
    width = room + max(len(clip) for _, clip in rows) * (side + 2) + 8
    image, pen = paper(max(width, int(letters.getlength(title)) + 20), 36 + len(rows) * line)
    write(pen, (10, 8), title, 15)
    for number, (text, _) in enumerate(rows):
        write(pen, (10, 36 + number * line + side // 2), text, 15, anchor="lm")
    sheet = as_tensor(image)
    for number, (_, clip) in enumerate(rows):
        larger = F.interpolate(clip.float(), (side, side), mode="nearest-exact").to(torch.uint8)
        strip, top = filmstrip(larger), 36 + number * line
        sheet[:, top : top + strip.shape[1], room : room + strip.shape[2]] = strip
    return sheet
