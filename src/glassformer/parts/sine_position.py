"""Waves for places in a picture: the sinusoids of the Transformer, for rows and for columns, side by side."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TEMPERATURE = 10_000.0


def sine_points(points: Float[Tensor, "*m n"], width: int) -> Float[Tensor, "*m w"]:
    """n · `width` waves for points `x y …` in [0, 1]: those of y first, then of x, then of what else there is.

    Wave i of a coordinate p is sin(2π p / 10000^(i/width)) where i is even, and the cosine of the wave before it where
    i is odd (Carion et al. 2020, appendix A.4; the order and 2π are those of the released code).
    """
    wide = points.to(torch.promote_types(points.dtype, torch.float32)) * 2 * math.pi
    pairs = torch.arange(width, device=points.device).div(2, rounding_mode="floor")
    angles = wide[..., None] / TEMPERATURE ** (2 * pairs.to(wide.dtype) / width)
    waves = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-2)
    order = [1, 0, *range(2, points.shape[-1])] if points.shape[-1] > 1 else [0]
    return waves[..., order, :].flatten(-2).to(points.dtype)


def sine_grid(present: Bool[Tensor, "b y x"], dim: int, dtype: torch.dtype) -> Float[Tensor, "b y x d"]:
    """`sine_points` of the places of a grid, half of `dim` for rows and half for columns.

    Row r of a picture that has R rows `present` stands at (r + 1) / R: pictures of any size run from 0 to 1, and
    padding below and to the right moves nobody.
    """
    wide = torch.promote_types(dtype, torch.float32)
    rows, columns = present.to(wide).cumsum(1), present.to(wide).cumsum(2)
    places = torch.stack([columns / (columns[:, :, -1:] + 1e-6), rows / (rows[:, -1:] + 1e-6)], dim=-1)
    return sine_points(places, dim // 2).to(dtype)
