"""Resize, crop and flip: each looks at its picture through a window and fills a new picture with what is seen there.

A window is a start and an extent along each axis, in pixels of the old picture. The middle of new pixel i lies at
`start + (i + 1/2) · extent / size`. Pixels are averaged there by a triangle as wide as a new pixel, at least as an old
one (so that shrinking does not alias): a product with one matrix for the rows and one for the columns, which for crops
and flips hold a single 1 a row. Masks take the pixel that the middle falls into; boxes move as their edges do.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.image.objects import Objects, boxes_of
from glassformer.image.processor import IGNORED_CLASS
from glassformer.image.transforms.batch import PictureBatch, uniform

Size = tuple[int, int]
LEAST_VISIBLE = 0.1  # of an object's area: below, it is no longer among the objects


@dataclass(frozen=True)
class CropWindows:
    """For each picture of a batch, rows and columns: where the window starts, how far it reaches, if it is flipped."""

    start: Float[Tensor, "b 2"]
    extent: Float[Tensor, "b 2"]
    flipped: Bool[Tensor, "b 2"]

    @classmethod
    def whole(cls, number: int, size: Size) -> "CropWindows":
        """Windows that show all."""
        extent = torch.tensor(size, dtype=torch.float32).expand(number, 2)
        return cls(torch.zeros(number, 2), extent, torch.zeros(number, 2, dtype=torch.bool))

    def middles(self, axis: int, size: int) -> Float[Tensor, "b i"]:
        """Where the middles of the new pixels lie in the old picture."""
        start, extent = self.start[:, axis, None], self.extent[:, axis, None]
        middles = start + (torch.arange(size) + 0.5) * (extent / size)
        return torch.where(self.flipped[:, axis, None], middles.flip(1), middles)

    def weights(self, axis: int, old: int, new: int) -> Float[Tensor, "b i j"]:
        """How much of each old pixel is in each new one; rows sum to 1, or to 0 outside the picture."""
        middles, pixels = self.middles(axis, new)[..., None], torch.arange(old) + 0.5
        start, extent = self.start[:, axis, None, None], self.extent[:, axis, None, None]
        width = (extent / new).clamp(min=1)
        weights = (1 - (pixels - middles).abs() / width).clamp(min=0)
        weights = weights * ((pixels > start) & (pixels < start + extent) & (middles > 0) & (middles < old))
        return weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)

    def nearest(self, axis: int, old: int, new: int) -> tuple[Int[Tensor, "b i"], Bool[Tensor, "b i"]]:
        """The old pixel that each new one's middle falls into, and whether there is one."""
        index = self.middles(axis, new).floor().long()
        return index.clamp(0, old - 1), (index >= 0) & (index < old)


def look(batch: PictureBatch, windows: CropWindows, size: Size) -> PictureBatch:
    """The batch seen through windows, at a new size; black, class 255 and no mask outside the picture."""
    pictures = batch.pictures
    rows, columns = (
        windows.weights(axis, batch.size[axis], size[axis])
        .to(pictures)
        .reshape(len(batch), *[1] * (pictures.ndim - 3), size[axis], -1)
        for axis in (0, 1)
    )
    objects = batch.objects
    if objects is not None:
        objects = tuple(_seen(one, windows, number, size) for number, one in enumerate(objects))
    semantic = batch.semantic
    if semantic is not None:
        maps = [_picked(one, windows, number, size, IGNORED_CLASS) for number, one in enumerate(semantic)]
        semantic = torch.stack(maps)
    seen = (rows @ pictures @ columns.mT).clamp(0, 1)  # sums of weights pass 1 by a rounding
    return replace(batch, pictures=seen, objects=objects, semantic=semantic)


def _picked(map: Tensor, windows: CropWindows, number: int, size: Size, outside: int) -> Tensor:
    """One map (..., y, x) by nearest pixels."""
    (rows, has_row), (columns, has_column) = (windows.nearest(axis, map.shape[axis - 2], size[axis]) for axis in (0, 1))
    picked = map[..., rows[number][:, None], columns[number]]
    there = has_row[number][:, None] & has_column[number]
    return torch.where(there.to(map.device), picked, torch.full_like(picked, outside))


def _seen(objects: Objects, windows: CropWindows, number: int, size: Size) -> Objects:
    boxes = moved_boxes(objects.boxes, windows, number, size)
    if objects.masks is None:
        return in_sight(objects, boxes, size)
    masks = _picked(objects.masks, windows, number, size, 0)
    zoom = size[0] * size[1] / windows.extent[number].prod()
    before = objects.masks.flatten(1).sum(1) * zoom.to(boxes)
    return with_masks(objects, masks, before)


def moved_boxes(boxes: Float[Tensor, "m 4"], windows: CropWindows, number: int, size: Size) -> Float[Tensor, "m 4"]:
    """Boxes in pixels of the new picture, beyond its edges too."""
    start, extent = (one[number].flip(0).to(boxes) for one in (windows.start, windows.extent))
    new = boxes.new_tensor([size[1], size[0]])
    corners = (boxes.unflatten(1, (2, 2)) - start) * (new / extent)
    flipped = windows.flipped[number].flip(0).to(boxes.device)
    return torch.where(flipped, new - corners.flip(1), corners).flatten(1)


def in_sight(objects: Objects, boxes: Float[Tensor, "m 4"], size: Size) -> Objects:
    """Objects whose `boxes` are cut at the picture's edge; those of which too little is left are left out."""
    edge = boxes.new_tensor([size[1], size[0]]).repeat(2)
    cut = torch.minimum(boxes.clamp(min=0), edge)
    sides = (cut[:, 2:] - cut[:, :2]).clamp(min=0)
    kept = (sides.prod(1) >= LEAST_VISIBLE * (boxes[:, 2:] - boxes[:, :2]).prod(1)) & (sides > 0).all(1)
    return Objects(classes=objects.classes[kept], boxes=cut[kept])


def with_masks(objects: Objects, masks: Bool[Tensor, "m y x"], before: Float[Tensor, "m"]) -> Objects:
    """Objects with new masks, their boxes those of the masks; without those that had `before` pixels and lost most."""
    area = masks.flatten(1).sum(1)
    kept = (area > 0) & (area >= LEAST_VISIBLE * before)
    return Objects(classes=objects.classes[kept], boxes=boxes_of(masks[kept]).to(objects.boxes), masks=masks[kept])


@dataclass(frozen=True)
class Resize:
    """To `size`, rows and columns, whatever the shape was. Equal to `interpolate(mode="bilinear", antialias=True)`."""

    size: Size

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        return look(batch, CropWindows.whole(len(batch), batch.size), self.size)


@dataclass(frozen=True)
class CentreCrop:
    """The middle of that size, black around it where the picture is smaller."""

    size: Size

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        start = [[(old - new) // 2 for old, new in zip(batch.size, self.size, strict=True)]]
        windows = CropWindows.whole(len(batch), self.size)
        return look(batch, replace(windows, start=torch.tensor(start).float().expand(len(batch), 2)), self.size)


@dataclass(frozen=True)
class RandomCrop:
    """A piece of `size` from anywhere in the picture and `padding` black pixels on each side of it.

    Raises ValueError where the picture with its padding is smaller than the piece.
    """

    size: Size
    padding: int = 0

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        room = [old + 2 * self.padding - new for old, new in zip(batch.size, self.size, strict=True)]
        if min(room) < 0:
            raise ValueError(f"no piece of {self.size} fits a picture of {batch.size} with padding={self.padding}")
        starts = [torch.randint(free + 1, (len(batch),), generator=generator) - self.padding for free in room]
        windows = CropWindows.whole(len(batch), self.size)
        return look(batch, replace(windows, start=torch.stack(starts, dim=1).float()), self.size)


@dataclass(frozen=True)
class RandomResizedCrop:
    """A piece of random area and shape, resized to `size` (Szegedy et al. 2015, "Going deeper with convolutions", 6).

    `area` is a part of the picture's, `ratio` width by height, drawn evenly on a logarithmic scale; what would not fit
    into the picture is cut to it. Without a `size` it is the picture's own again.
    """

    size: Size | None
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"area={self.area}, ratio={self.ratio}: expected 0 < low <= high, and areas up to 1")

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        rows, columns = batch.size
        area = uniform(len(batch), *self.area, generator) * rows * columns
        ratio = uniform(len(batch), math.log(self.ratio[0]), math.log(self.ratio[1]), generator).exp()
        wanted = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], dim=1)
        old = torch.tensor(batch.size, dtype=torch.float32)
        extent = torch.minimum(wanted.round().clamp(min=1), old)
        start = (torch.rand(len(batch), 2, generator=generator) * (old - extent + 1)).floor()
        windows = CropWindows.whole(len(batch), batch.size)
        windows = replace(windows, start=torch.minimum(start, old - extent), extent=extent)
        return look(batch, windows, self.size or batch.size)


@dataclass(frozen=True)
class RandomFlip:
    """Left and right exchanged, with this probability."""

    probability: float = 0.5

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        drawn = torch.rand(len(batch), generator=generator) < self.probability
        flipped = torch.stack([torch.zeros_like(drawn), drawn], dim=1)
        return look(batch, replace(CropWindows.whole(len(batch), batch.size), flipped=flipped), batch.size)
