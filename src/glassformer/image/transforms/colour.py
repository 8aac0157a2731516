"""Colours: brighter and darker, more and less contrast and saturation, other hues. Objects and maps stay as they are.

Pictures are blended with a duller one, `dull + factor · (picture − dull)`, as Pillow's ImageEnhance does: factor 0 is
dull, 1 the picture, above 1 more than it. Dull is black (brightness), the mean grey (contrast), grey (saturation).
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.image.transforms.batch import PictureBatch, spread, uniform

Pictures = Float[Tensor, "b *t 3 y x"]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: how bright red, green and blue look


def grey(pictures: Float[Tensor, "*b 3 y x"]) -> Float[Tensor, "*b 1 y x"]:
    """How bright each pixel looks."""
    weights = pictures.new_tensor(LUMA)[:, None, None]
    return (pictures * weights).sum(dim=-3, keepdim=True)


def mean_grey(pictures: Pictures) -> Float[Tensor, "b ..."]:
    """The mean brightness of each picture, or clip."""
    return spread(grey(pictures).flatten(1).mean(dim=1), pictures)


def blend(
    dull: Tensor, pictures: Float[Tensor, "b *t 3 y x"], factor: Float[Tensor, "b"]
) -> Float[Tensor, "b *t 3 y x"]:
    """`dull + factor · (picture − dull)`, cut to [0, 1]."""
    return torch.lerp(dull.expand_as(pictures), pictures, spread(factor, pictures)).clamp(0, 1)


def shift_hue(pictures: Pictures, turns: Float[Tensor, "b"]) -> Pictures:
    """Hues turned round the circle of colours; lightness and saturation stay (in HSV, Smith 1978).

    With value V = max, chroma C = max − min and hue H in sixths of a turn, channel n = 5, 3, 1 (red, green, blue) is
    `V − C · clamp(min(k, 4 − k), 0, 1)`, `k = (n + H) mod 6`.
    """
    value, chroma = pictures.amax(dim=-3), pictures.amax(dim=-3) - pictures.amin(dim=-3)
    red, green, blue = pictures.unbind(dim=-3)
    of = chroma.clamp(min=1e-8)
    hue = torch.where(
        value == red, (green - blue) / of, torch.where(value == green, 2 + (blue - red) / of, 4 + (red - green) / of)
    )
    hue = hue + 6 * spread(turns, hue)
    channels = []
    for n in (5, 3, 1):
        k = (n + hue) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=-3).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """Factors drawn evenly from `[1 − x, 1 + x]` for each picture, hues turned by up to `hue` of the circle.

    In this order: brightness, contrast, saturation, hue. 0 leaves one out.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected a number from 0 to 1")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue={self.hue}; expected a part of the circle, from 0 to 0.5")

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        brightness, contrast, saturation = (
            uniform(len(batch), 1 - most, 1 + most, generator)
            for most in (self.brightness, self.contrast, self.saturation)
        )
        turns = uniform(len(batch), -self.hue, self.hue, generator)
        pictures = batch.pictures
        if self.brightness:
            pictures = blend(pictures.new_zeros(()), pictures, brightness)
        if self.contrast:
            pictures = blend(mean_grey(pictures), pictures, contrast)
        if self.saturation:
            pictures = blend(grey(pictures), pictures, saturation)
        if self.hue:
            pictures = shift_hue(pictures, turns)
        return replace(batch, pictures=pictures)
