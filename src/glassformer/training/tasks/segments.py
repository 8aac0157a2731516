"""What the tasks share that learn where things are: pictures with what is known of each of their pixels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from glassformer.image.datasets import Record, Records
from glassformer.image.draw import class_colour
from glassformer.image.processor import ImageProcessor
from glassformer.training.data import Augmentation
from glassformer.training.tasks.pictures import Seen

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

SHOWN = 8  # pictures on the sheet of predictions
ROOM = 1 << 28  # bytes of pictures that are kept in memory; their maps and masks come to them


def whole(records: Records[Any, Record], processor: ImageProcessor, room: int = ROOM) -> Seen[Record]:
    """Records at their own size: the processor resizes a picture together with its map, its boxes, its masks."""
    return Seen(records, processor, lambda record: record, room)


def check_flips_alone(recipe: "Recipe") -> None:
    """Raise ValueError where pictures are to be changed in a way that their maps, boxes and masks do not follow."""
    if replace(recipe.pictures.augment, flip=0.0) != Augmentation():
        raise ValueError(f"[data.augment] can only flip pictures that have maps, boxes or masks, which follow nothing "
                         f"else; it is {recipe.pictures.augment}")  # fmt: skip


def flipped(records: Sequence[Record], chance: float, random: np.random.Generator) -> list[Record]:
    """The records, some of them mirrored with all that is known of them."""
    return [
        mirrored(one) if yes else one for one, yes in zip(records, random.random(len(records)) < chance, strict=True)
    ]


def mirrored(record: Record) -> Record:
    """Left and right exchanged."""
    semantic, objects = record.semantic, record.objects
    if objects is not None:
        x0, y0, x1, y1 = objects.boxes.unbind(1)
        width = record.picture.shape[2]
        masks = None if objects.masks is None else objects.masks.flip(2)
        objects = replace(objects, boxes=torch.stack([width - x1, y0, width - x0, y1], 1), masks=masks)
    semantic = None if semantic is None else semantic.flip(1)
    return replace(record, picture=record.picture.flip(2), semantic=semantic, objects=objects)


def coloured(numbers: Int[Tensor, "y x"] | UInt8[Tensor, "y x"]) -> UInt8[Tensor, "3 y x"]:
    """A map of classes in their colours; white where no class is said (255, or below 0)."""
    numbers = numbers.long()
    colours = torch.tensor([class_colour(number) for number in range(256)], dtype=torch.uint8)
    pixels = colours[numbers.clamp(0, 255)].permute(2, 0, 1)
    return pixels.masked_fill((numbers < 0) | (numbers == 255), 255)
