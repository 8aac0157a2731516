"""A random rectangle of each picture, erased: what is learned may hang on no single part of it (Zhong et al. 2020)."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from glassformer.image.transforms.batch import PictureBatch, spread, uniform

Size = tuple[int, int]


def inside(start: Int[Tensor, "b 2"], extent: Int[Tensor, "b 2"], size: Size) -> Bool[Tensor, "b y x"]:
    """Whether a pixel lies in its picture's rectangle; half-open."""
    along = []
    for axis, length in enumerate(size):
        pixels, first = torch.arange(length), start[:, axis, None]
        along.append((pixels >= first) & (pixels < first + extent[:, axis, None]))
    return along[0][:, :, None] & along[1][:, None, :]


@dataclass(frozen=True, kw_only=True)
class RandomErasing:
    """With this probability, a rectangle becomes random pixels, or `fill`.

    `area` is a part of the picture's; `ratio` is height by width, drawn evenly on a logarithmic scale. A rectangle that
    would not fit is cut to the picture. Objects and maps of classes stay: they stand behind it.
    """

    probability: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    fill: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"area={self.area}, ratio={self.ratio}: expected 0 < low <= high, and areas up to 1")
        if self.fill is not None and not 0 <= self.fill <= 1:
            raise ValueError(f"fill={self.fill}; expected a brightness from 0 to 1, or None for random pixels")

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        size = torch.tensor(batch.size)
        drawn = torch.rand(len(batch), generator=generator) < self.probability
        area = uniform(len(batch), *self.area, generator) * size.prod()
        ratio = uniform(len(batch), math.log(self.ratio[0]), math.log(self.ratio[1]), generator).exp()
        wanted = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).round().long()
        extent = torch.minimum(wanted.clamp(min=1), size)
        start = (torch.rand(len(batch), 2, generator=generator) * (size - extent + 1)).long()
        erased = inside(start, extent, batch.size) & drawn[:, None, None]
        erased = erased.reshape(len(batch), *[1] * (batch.pictures.ndim - 3), *batch.size).to(batch.pictures.device)
        if self.fill is None:
            noise = torch.rand((len(batch), *batch.pictures.shape[-3:]), generator=generator)
            noise = noise.reshape(len(batch), *[1] * (batch.pictures.ndim - 4), *noise.shape[1:])  # of all frames
        else:
            noise = spread(torch.full((len(batch),), self.fill), batch.pictures)
        return replace(batch, pictures=torch.where(erased, noise.to(batch.pictures), batch.pictures))
