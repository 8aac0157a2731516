"""What a model's makers did to pictures before it saw them: resize, crop, scale, normalise, pad.

    processor = load_image_processor("google/vit-base-patch16-224")     # or a folder, or ImageProcessor(size=(64, 64))
    inputs = processor([read_image("cat.jpg")])                         # {"pixel_values": (1, 3, 224, 224)}

Held equal to Hugging Face's processors to the last bit: Pillow resizes bytes, then `x · scale` is taken in float64 and
rounded to float32, then `(x − mean) / std` in float32.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from glassformer.foundation.suggest import did_you_mean
from glassformer.image.objects import Objects, centre_boxes, check_boxes
from glassformer.image.pixels import as_bytes, check_pixels

RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Ways to resize -> Pillow's numbers of them."""

IGNORED_CLASS = 255
Size = tuple[int, int]


@dataclass(frozen=True)
class ShortestEdge:
    """The shorter edge becomes `length` pixels, the other follows; where it passed `longest`, both shrink."""

    length: int
    longest: int | None = None

    def of(self, size: Size) -> Size:
        """The new rows and columns of a picture of `size`; fractions are cut off, as the models' makers did."""
        short, long = sorted(size)
        exact: float = self.length
        if self.longest is not None and long / short * self.length > self.longest:
            exact = self.longest * short / long
        rows, columns = size
        length = round(exact)
        if length == short:
            return size
        return (int(exact * rows / columns), length) if columns < rows else (length, int(exact * columns / rows))


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """From pictures of any size to what a model reads. Sizes are (rows, columns).

    size           what a picture is resized to; `ShortestEdge` keeps its shape; None leaves it
    resample       how: one of `RESAMPLE`
    multiple_of    resized edges are rounded up to a multiple of this (MaskFormer's 32)
    crop           the middle of that size is cut out, zeros around it where the picture is smaller
    scale, shift   bytes become `scale · x + shift`
    mean, std      then `(x − mean) / std` for red, green and blue; both None leave it
    pad            pictures of several sizes are padded below and at the right, and `pixel_mask` says where they are
    pad_size       to this size; None: to the largest of the batch
    reduce_labels  class 0 of semantic maps is ignored, the others count from 0 (ADE20K)
    family         whose file `save` writes: one of `glassformer.image.processor_file.FAMILIES`
    """

    size: Size | ShortestEdge | None = (224, 224)
    resample: str = "bilinear"
    multiple_of: int = 1
    crop: Size | None = None
    scale: float = 1 / 255
    shift: float = 0.0
    mean: tuple[float, float, float] | None = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] | None = (0.5, 0.5, 0.5)
    pad: bool = False
    pad_size: Size | None = None
    reduce_labels: bool = False
    family: str = "vit"

    def __post_init__(self) -> None:
        if self.resample not in RESAMPLE:
            raise ValueError(f"resample={self.resample!r} is no way to resize{did_you_mean(self.resample, RESAMPLE)}")
        edges = {"size": self.size, "crop": self.crop, "pad_size": self.pad_size}
        for name, value in edges.items():
            lengths = (value.length, value.longest or 1) if isinstance(value, ShortestEdge) else value or (1, 1)
            if len(lengths) != 2 or not all(type(length) is int and length > 0 for length in lengths):
                raise ValueError(f"{name}={value!r}: expected whole numbers of rows and columns, 1 or more")
        if self.multiple_of < 1:
            raise ValueError(f"multiple_of={self.multiple_of}; expected 1 or more")
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"mean={self.mean} and std={self.std} go together: give both, or neither")
        if self.mean is not None and self.std is not None and not (len(self.mean) == len(self.std) == 3):
            raise ValueError(f"mean={self.mean} and std={self.std}: expected three numbers each, red green blue")
        numbers = (self.scale, self.shift, *(self.mean or ()), *(self.std or ()))
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"scale, shift, mean and std hold {numbers}, of which not all are finite")
        if self.scale <= 0 or (self.std is not None and min(self.std) <= 0):
            raise ValueError(f"scale={self.scale}, std={self.std}: both must be above 0")
        if self.pad_size is not None and not self.pad:
            raise ValueError(f"pad_size={self.pad_size} without pad=True would be ignored")

    def __call__(
        self,
        pictures: Sequence[Tensor] | Tensor,
        *,
        objects: Sequence[Objects] | None = None,
        semantic: Sequence[Tensor] | Tensor | None = None,
    ) -> dict[str, Any]:
        """A batch for the model, of pictures (3, y, x): uint8, or floats in [0, 1], which are resized as bytes.

        Gives `pixel_values` (b, 3, y, x); with `pad`, `pixel_mask` (b, y, x), 1 on pictures and 0 on padding. With
        `objects`, `labels`: a dict for each picture of `class_labels` (m), `boxes` (m, 4), centre and size in parts of
        the padded picture, and `masks` (m, y, x) where there are some. With `semantic`, maps (y, x) of classes,
        `labels` (b, y, x), 255 where nothing counts.

        ValueError for other shapes and channels, pixels that are no numbers or outside their range, boxes outside
        their picture, maps of another size than theirs, and pictures that do not end up of one size without `pad`.
        """
        pictures = list(pictures)
        if not pictures:
            raise ValueError("there are no pictures in this batch")
        for picture in pictures:
            check_pixels(picture)
            if picture.ndim != 3:
                raise ValueError(f"a picture is (3, y, x), not {tuple(picture.shape)}; give a list or a batch of them")
        new = [self.resized(picture) for picture in pictures]
        size = self._common_size([_size(picture) for picture in new])
        out: dict[str, Any] = {"pixel_values": torch.stack([padded(self.normalised(one), size) for one in new])}
        if self.pad:
            out["pixel_mask"] = torch.stack([padded(torch.ones(_size(one), dtype=torch.long), size) for one in new])
        if objects is not None:
            self._check_number("objects", objects, pictures)
            several = zip(objects, pictures, new, strict=True)
            out["labels"] = [self._labels(one, _size(old), _size(to), size) for one, old, to in several]
        if semantic is not None:
            if objects is not None:
                raise ValueError("labels are either of objects or of semantic maps; give one of them")
            self._check_number("semantic", semantic, pictures)
            maps = [self._map(one, picture) for one, picture in zip(semantic, pictures, strict=True)]
            out["labels"] = torch.stack([padded(one, size, value=IGNORED_CLASS) for one in maps]).long()
        return out

    @property
    def one_size(self) -> bool:
        """Whether pictures of any size end up of one, before they are padded."""
        return self.crop is not None or not (self.size is None or isinstance(self.size, ShortestEdge))

    def new_size(self, size: Size) -> Size:
        """Rows and columns that a picture of `size` is resized to, before it is cropped."""
        if self.size is None:
            return size
        rows, columns = self.size.of(size) if isinstance(self.size, ShortestEdge) else self.size
        if min(rows, columns) < 1:
            raise ValueError(f"a picture of {size[0]} × {size[1]} pixels is too narrow: resized, an edge has none left")
        return -(-rows // self.multiple_of) * self.multiple_of, -(-columns // self.multiple_of) * self.multiple_of

    def resized(self, picture: Tensor) -> Tensor:
        """(3, y, x) resized and cropped; floats that need no resizing stay floats."""
        if self.size is not None:
            picture = resize_bytes(as_bytes(picture), self.new_size(_size(picture)), self.resample)
        return picture if self.crop is None else cut_middle(picture, self.crop)

    def normalised(self, pictures: Tensor) -> Float[Tensor, "*b 3 y x"]:
        """`(scale · x + shift − mean) / std` of bytes, or of floats in [0, 1], which are x / 255."""
        if pictures.is_floating_point():
            values = pictures * (255 * self.scale)
        else:
            values = (pictures.double() * self.scale).float()
        if self.shift:
            values = values + self.shift
        if self.mean is None or self.std is None:
            return values
        mean, std = (values.new_tensor(three)[:, None, None] for three in (self.mean, self.std))
        return (values - mean) / std

    def pixels(self, pixel_values: Float[Tensor, "*b 3 y x"]) -> Float[Tensor, "*b 3 y x"]:
        """The way back from `normalised`: pictures in [0, 1] to be looked at."""
        if self.mean is not None and self.std is not None:
            mean, std = (pixel_values.new_tensor(three)[:, None, None] for three in (self.mean, self.std))
            pixel_values = pixel_values * std + mean
        return ((pixel_values - self.shift) / (255 * self.scale)).clamp(0, 1)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `preprocessor_config.json`, which Hugging Face's processor of the `family` opens."""
        from glassformer.image.processor_file import save_image_processor

        return save_image_processor(self, folder)

    def _common_size(self, sizes: list[Size]) -> Size:
        if not self.pad:
            if len(set(sizes)) > 1:
                raise ValueError(f"pictures of the sizes {sorted(set(sizes))} make no batch; crop them, or pad=True")
            return sizes[0]
        largest = max(rows for rows, _ in sizes), max(columns for _, columns in sizes)
        if self.pad_size is None:
            return largest
        if largest[0] > self.pad_size[0] or largest[1] > self.pad_size[1]:
            raise ValueError(
                f"a picture is {largest[0]} × {largest[1]} pixels when resized, above pad_size={self.pad_size}"
            )
        return self.pad_size

    def _labels(self, objects: Objects, old: Size, new: Size, size: Size) -> dict[str, Tensor]:
        if self.crop is not None:
            raise ValueError(f"boxes and masks are not kept through crop={self.crop}; crop them before, by a transform")
        check_boxes(objects.boxes, old)
        scaled = objects.boxes * objects.boxes.new_tensor([new[1] / old[1], new[0] / old[0]]).repeat(2)
        labels = {"class_labels": objects.classes.long(), "boxes": centre_boxes(scaled, size)}
        if objects.masks is not None:
            if objects.masks.shape[1:] != old:
                raise ValueError(f"masks of {tuple(objects.masks.shape[1:])} for a picture of {old}; one size expected")
            masks = [resize_bytes(mask.byte(), new, "nearest").bool() for mask in objects.masks]
            labels["masks"] = padded(torch.stack(masks) if masks else torch.zeros(0, *new, dtype=torch.bool), size)
        return labels

    def _map(self, classes: Tensor, picture: Tensor) -> UInt8[Tensor, "y x"]:
        if classes.shape != picture.shape[1:]:
            raise ValueError(f"a map of classes of shape {tuple(classes.shape)} for a picture of {_size(picture)}")
        if classes.dtype != torch.uint8:
            raise ValueError(f"maps of classes are uint8, 255 where nothing counts, not {classes.dtype}")
        if self.reduce_labels:
            classes = torch.where(classes % 255 == 0, IGNORED_CLASS, classes - 1)
        if self.size is not None:
            classes = resize_bytes(classes, self.new_size(_size(picture)), "nearest")
        return classes if self.crop is None else cut_middle(classes, self.crop, outside=IGNORED_CLASS)

    @staticmethod
    def _check_number(name: str, values: Sequence[Any] | Tensor, pictures: Sequence[Any]) -> None:
        if len(values) != len(pictures):
            raise ValueError(f"{len(values)} {name} for {len(pictures)} pictures; give one for each")


def load_image_processor(folder: str | os.PathLike[str]) -> ImageProcessor:
    """The processor that a folder's, or a hub id's, `preprocessor_config.json` describes; see `processor_file`."""
    from glassformer.image.processor_file import read_image_processor

    return read_image_processor(folder)


def resize_bytes(picture: UInt8[Tensor, "*c y x"], size: Size, resample: str) -> UInt8[Tensor, "*c y2 x2"]:
    """Resize bytes by Pillow: a picture (3, y, x) or one channel (y, x). Rounded to whole bytes, as Pillow does."""
    from PIL import Image

    layout = picture.permute(1, 2, 0) if picture.ndim == 3 else picture
    image = Image.fromarray(np.ascontiguousarray(layout.cpu().numpy()))
    resized = torch.from_numpy(
        np.array(image.resize((size[1], size[0]), resample=Image.Resampling(RESAMPLE[resample])))
    )
    return (resized.permute(2, 0, 1).contiguous() if picture.ndim == 3 else resized).to(picture.device)


def cut_middle(picture: Tensor, size: Size, *, outside: float = 0) -> Tensor:
    """The middle (..., rows, columns) of a picture, `outside` around it where the picture is smaller."""
    rows, columns = _size(picture)
    top, left = (rows - size[0]) // 2, (columns - size[1]) // 2
    return F.pad(picture, (-left, left + size[1] - columns, -top, top + size[0] - rows), value=outside)


def padded(picture: Tensor, size: Size, *, value: float = 0) -> Tensor:
    """A picture (..., y, x) with `value` below and at the right of it, up to `size`."""
    rows, columns = _size(picture)
    return F.pad(picture, (0, size[1] - columns, 0, size[0] - rows), value=value)


def mask_labels(labels: Sequence[dict[str, Tensor]]) -> tuple[list[Float[Tensor, "_ y x"]], list[Int[Tensor, "_"]]]:
    """Labels of objects with masks, as MaskFormer and Mask2Former take them: `mask_labels` and `class_labels`."""
    return [one["masks"].float() for one in labels], [one["class_labels"] for one in labels]


def _size(picture: Tensor) -> Size:
    return picture.shape[-2], picture.shape[-1]
