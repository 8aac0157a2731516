"""RandAugment: `num_ops` changes drawn from fourteen, all of one strength (Cubuk et al. 2020).

Colours change as Pillow's ImageOps and ImageEnhance change them. Geometry turns, leans or moves a picture round its
middle, grey where nothing was; masks go along, and boxes become those of their masks, or of their moved corners.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from glassformer.foundation.suggest import did_you_mean
from glassformer.image.objects import Objects
from glassformer.image.processor import IGNORED_CLASS
from glassformer.image.transforms.batch import PictureBatch, spread
from glassformer.image.transforms.colour import blend, grey, mean_grey
from glassformer.image.transforms.windows import in_sight, with_masks

Pictures = Float[Tensor, "b *t 3 y x"]
Strength = Float[Tensor, "b"]
GREY = 0.5


def auto_contrast(pictures: Pictures, strength: Strength) -> Pictures:
    """Each channel stretched to reach from 0 to 1; one that is flat stays."""
    low, high = (_by_channel(pictures, kind) for kind in (torch.amin, torch.amax))
    return torch.where(high > low, (pictures - low) / (high - low).clamp(min=1e-6), pictures)


def equalize(pictures: Pictures, strength: Strength) -> Pictures:
    """Each channel's values, in 256 steps, made about equally frequent (histogram equalisation, as Pillow's)."""
    channels = (pictures * 255).round().long().movedim(-3, 1)
    flat = channels.flatten(2)
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.long, device=flat.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    highest = counts.gather(2, flat.amax(dim=2, keepdim=True))
    step = (counts.sum(2, keepdim=True) - highest) // 255
    below = counts.cumsum(2) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=flat.device))
    return (table.gather(2, flat).reshape(channels.shape).movedim(1, -3) / 255).to(pictures)


def solarize(pictures: Pictures, strength: Strength) -> Pictures:
    """Pixels from a threshold on, 1 − |strength|, are inverted."""
    return torch.where(pictures >= spread(1 - strength.abs(), pictures), 1 - pictures, pictures)


def posterize(pictures: Pictures, strength: Strength) -> Pictures:
    """The lowest bits set to 0: 8 − round(4 · |strength|) stay."""
    step = spread(2.0 ** (4 * strength.abs()).round(), pictures)
    return ((pictures * 255).round() / step).floor() * step / 255


def colour(pictures: Pictures, strength: Strength) -> Pictures:
    """Saturation times 1 ± 0.9."""
    return blend(grey(pictures), pictures, 1 + 0.9 * strength)


def contrast(pictures: Pictures, strength: Strength) -> Pictures:
    """Contrast times 1 ± 0.9."""
    return blend(mean_grey(pictures), pictures, 1 + 0.9 * strength)


def brightness(pictures: Pictures, strength: Strength) -> Pictures:
    """Brightness times 1 ± 0.9."""
    return blend(pictures.new_zeros(()), pictures, 1 + 0.9 * strength)


def sharpness(pictures: Pictures, strength: Strength) -> Pictures:
    """Sharpness times 1 ± 0.9; dull is the mean with the eight neighbours, oneself counted five times."""
    kernel = pictures.new_ones(1, 1, 3, 3) / 13
    kernel[..., 1, 1] = 5 / 13
    smooth = pictures.clone()
    if min(pictures.shape[-2:]) > 2:  # pixels at the edge stay
        middle = F.conv2d(pictures.reshape(-1, 1, *pictures.shape[-2:]), kernel)
        smooth[..., 1:-1, 1:-1] = middle.reshape(*pictures.shape[:-2], *middle.shape[-2:])
    return blend(smooth, pictures, 1 + 0.9 * strength)


def _by_channel(pictures: Pictures, kind: Callable) -> Tensor:
    """The least or the largest value of each picture's, or clip's, channels."""
    dims = [dim for dim in range(1, pictures.ndim) if dim != pictures.ndim - 3]
    return kind(pictures, dim=dims, keepdim=True)


COLOURS: dict[str, Callable[[Pictures, Strength], Pictures]] = {
    "identity": lambda pictures, strength: pictures,
    "auto_contrast": auto_contrast,
    "equalize": equalize,
    "solarize": solarize,
    "posterize": posterize,
    "colour": colour,
    "contrast": contrast,
    "brightness": brightness,
    "sharpness": sharpness,
}
SPACES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*COLOURS, *SPACES)


def motion(name: str, strength: float, size: tuple[int, int]) -> Float[Tensor, "2 3"]:
    """The affine map, of (x, y) from the picture's middle, that takes new pixels to where they were.

    Turned by up to 30°, leaning by up to 0.3, moved by up to 150/331 of the picture, as in the paper's search space.
    """
    rows, columns = size
    turn, lean, move = math.radians(30 * strength), 0.3 * strength, 150 / 331 * strength
    return torch.tensor(
        {
            "rotate": [[math.cos(turn), math.sin(turn), 0], [-math.sin(turn), math.cos(turn), 0]],
            "shear_x": [[1, lean, 0], [0, 1, 0]],
            "shear_y": [[1, 0, 0], [lean, 1, 0]],
            "translate_x": [[1, 0, -move * columns], [0, 1, 0]],
            "translate_y": [[1, 0, 0], [0, 1, -move * rows]],
        }[name],
        dtype=torch.float64,
    )


def move(batch: PictureBatch, maps: Float[Tensor, "b 2 3"], *, fill: float = GREY) -> PictureBatch:
    """A batch moved by affine maps, each of new places to old ones, from the middle; `fill` where nothing was."""
    rows, columns = batch.size
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    half = torch.tensor([columns / 2, rows / 2], dtype=torch.float64)
    places = torch.stack([x, y, torch.ones_like(x)], dim=-1).double()
    places[..., :2] -= half
    old = torch.einsum("bij,yxj->byxi", maps, places)
    pictures = batch.pictures.flatten(1, -3)  # channels, those of all frames
    grid = (old / half).to(pictures)
    seen = F.grid_sample(pictures - fill, grid, mode="bilinear", align_corners=False) + fill
    index = (old + half).floor().long()
    there = (index >= 0).all(-1) & (index < torch.tensor([columns, rows])).all(-1)
    columns_of, rows_of = index[..., 0].clamp(0, columns - 1), index[..., 1].clamp(0, rows - 1)

    def picked(number: int, map: Tensor, outside: int) -> Tensor:
        new = map[..., rows_of[number], columns_of[number]]
        return torch.where(there[number].to(map.device), new, torch.full_like(new, outside))

    objects, semantic = batch.objects, batch.semantic
    if objects is not None:
        several = enumerate(zip(objects, maps, strict=True))
        objects = tuple(_moved(one, map, number, batch.size, picked) for number, (one, map) in several)
    if semantic is not None:
        semantic = torch.stack([picked(number, one, IGNORED_CLASS) for number, one in enumerate(semantic)])
    new = seen.reshape(batch.pictures.shape).clamp(0, 1)
    return replace(batch, pictures=new, objects=objects, semantic=semantic)


def _moved(
    objects: Objects, map: Tensor, number: int, size: tuple[int, int], picked: Callable[[int, Tensor, int], Tensor]
) -> Objects:
    if objects.masks is not None:
        before = objects.masks.flatten(1).sum(1) / map[:, :2].det().abs().to(objects.boxes)  # grown or shrunk alike
        return with_masks(objects, picked(number, objects.masks, 0), before)
    half = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
    boxes = objects.boxes.double().cpu()
    corners = torch.stack([boxes[:, [a, b]] for a in (0, 2) for b in (1, 3)], dim=1) - half
    turned = (corners - map[:, 2]) @ map[:, :2].inverse().mT + half
    around = torch.cat([turned.amin(dim=1), turned.amax(dim=1)], dim=1)
    return in_sight(objects, around.to(objects.boxes), size)


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """Each picture goes through `num_ops` operations, drawn for it with replacement, of strength `magnitude` of 30.

    Which way (brighter or darker, left or right) is drawn too. `operations` are some of `OPERATIONS`.
    """

    num_ops: int = 2
    magnitude: float = 9
    operations: tuple[str, ...] = OPERATIONS

    def __post_init__(self) -> None:
        if self.num_ops < 0 or not 0 <= self.magnitude <= 30:
            raise ValueError(f"num_ops={self.num_ops}, magnitude={self.magnitude}: expected 0 or more, and 0 to 30")
        for name in self.operations:
            if name not in OPERATIONS:
                raise ValueError(f"{name!r} is no operation{did_you_mean(name, OPERATIONS)}")
        if not self.operations:
            raise ValueError(f"there are no operations to draw from; expected some of {', '.join(OPERATIONS)}")

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        for _ in range(self.num_ops):
            drawn = torch.randint(len(self.operations), (len(batch),), generator=generator)
            sign = torch.randint(2, (len(batch),), generator=generator) * 2 - 1
            batch = self._applied(batch, [self.operations[number] for number in drawn], sign * self.magnitude / 30)
        return batch

    def _applied(self, batch: PictureBatch, names: list[str], strength: Float[Tensor, "b"]) -> PictureBatch:
        pictures = batch.pictures.clone()
        for name, change in COLOURS.items():
            which = torch.tensor([own == name for own in names], device=pictures.device)
            if which.any():
                pictures[which] = change(pictures[which], strength[which.cpu()].to(pictures))
        batch = replace(batch, pictures=pictures)
        moving = [number for number, name in enumerate(names) if name in SPACES]
        if not moving:
            return batch
        maps = torch.stack([motion(names[number], float(strength[number]), batch.size) for number in moving])
        some = move(_some(batch, moving), maps)
        pictures[moving] = some.pictures
        objects, semantic = batch.objects, batch.semantic
        if objects is not None and some.objects is not None:
            changed = dict(zip(moving, some.objects, strict=True))
            objects = tuple(changed.get(number, one) for number, one in enumerate(objects))
        if semantic is not None and some.semantic is not None:
            semantic = semantic.clone()
            semantic[moving] = some.semantic
        return replace(batch, pictures=pictures, objects=objects, semantic=semantic)


def _some(batch: PictureBatch, which: list[int]) -> PictureBatch:
    return PictureBatch(
        pictures=batch.pictures[which],
        objects=None if batch.objects is None else tuple(batch.objects[number] for number in which),
        semantic=None if batch.semantic is None else batch.semantic[which],
    )
