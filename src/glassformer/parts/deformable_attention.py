"""Deformable attention (Zhu et al. 2021): a query reads a few places around its own, and says itself which."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from glassformer.parts.linear import Linear

Sizes = Sequence[tuple[int, int]]
"""Rows and columns of each level of a pyramid of grids."""


class DeformableAttention(nn.Module):
    """output(Σ over levels l and points p of A_lp · value(x_l at reference + Δ_lp)) per head  (equation 3).

    The offsets Δ, in places of the level's own grid, and the weights A, a softmax over all levels and points together,
    are linear in the query; values between places are interpolated, those outside the grid are 0. It costs as much for
    a large grid as for a small one.

    Offsets begin with each head looking into a direction of its own, a point farther out than the one before; weights
    begin equal (appendix A.3 and the released code).
    """

    def __init__(self, dim: int, num_heads: int, *, num_levels: int, num_points: int) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}; choose a divisor")
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.offsets = Linear(dim, num_heads * num_levels * num_points * 2)
        self.weights = Linear(dim, num_heads * num_levels * num_points)
        self.value = Linear(dim, dim)
        self.output = Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Offsets and weights as said above, whatever the query; the others' matrices by Glorot and Bengio (2010)."""
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1)
        start = torch.einsum("h a, p -> h p a", direction, steps.to(direction.dtype))
        start = start[:, None].expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            for layer in (self.offsets, self.weights, self.value, self.output):
                layer.weight.zero_()
                assert layer.bias is not None
                layer.bias.zero_()
            assert self.offsets.bias is not None
            self.offsets.bias.copy_(start.flatten())
        for layer in (self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)

    def forward(
        self,
        query: Float[Tensor, "b t d"],
        reference: Float[Tensor, "#b t l 2"],
        grids: Float[Tensor, "b s d"],
        sizes: Sizes,
        *,
        present: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Read `grids`, the levels' places one level after another, row by row.

        Args:
            query: what asks.
            reference: where it stands in each level, x and y in parts of the grid's width and height.
            grids: s is the sum of rows · columns over the levels.
            sizes: rows and columns of each level.
            present: False where a place is padding: its value is 0. None: all are real.

        Raises ValueError for levels that do not fit.
        """
        lengths = [rows * columns for rows, columns in sizes]
        if len(sizes) != self.num_levels or sum(lengths) != grids.shape[1]:
            raise ValueError(
                f"sizes={list(sizes)} speak of {len(sizes)} levels and {sum(lengths)} places; expected "
                f"{self.num_levels} levels and {grids.shape[1]} places"
            )
        value = self.value(grids)
        if present is not None:
            value = value * present[..., None].to(value.dtype)
        shape = dict(h=self.num_heads, l=self.num_levels, p=self.num_points)
        offset = rearrange(self.offsets(query), "b t (h l p a) -> b h t l p a", **shape, a=2)
        extent = offset.new_tensor([(columns, rows) for rows, columns in sizes])[:, None]  # l 1 2
        points = rearrange(reference, "b t l a -> b 1 t l 1 a") + offset / extent
        weights = rearrange(self.weights(query), "b t (h lp) -> (b h) 1 t lp", h=self.num_heads).softmax(-1)
        points = (2 * points - 1).flatten(0, 1)
        read = []
        for level, ((rows, columns), places) in enumerate(zip(sizes, value.split(lengths, 1), strict=True)):
            grid = rearrange(places, "b (y x) (h k) -> (b h) k y x", y=rows, x=columns, h=self.num_heads)
            read.append(F.grid_sample(grid, points[:, :, level], align_corners=False))
        values = torch.cat(read, dim=-1)
        out = (values * weights.to(values)).sum(-1)  # `grid_sample` gives float32 under autocast; mixed types are slow
        return self.output(rearrange(out, "(b h) k t -> b t (h k)", h=self.num_heads))

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, num_levels={self.num_levels}, num_points={self.num_points}"


def grid_centres(sizes: Sizes, like: Tensor) -> Float[Tensor, "1 s l 2"]:
    """Where the places of a pyramid stand, x and y in parts of width and height, the same in each level."""
    centres = []
    for rows, columns in sizes:
        y = (torch.arange(rows, device=like.device, dtype=like.dtype) + 0.5) / rows
        x = (torch.arange(columns, device=like.device, dtype=like.dtype) + 0.5) / columns
        centres.append(torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)], -1).flatten(0, 1))
    return torch.cat(centres)[None, :, None].expand(1, -1, len(sizes), 2)
