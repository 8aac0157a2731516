"""Mistakes with pictures: patches, class token and positions, in our ViT and in Hugging Face's."""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from planted_differences import Patch, mistake
from torch import Tensor

from glassformer.parts.patch import GridPosition, PatchEmbedding

OURS, THEIRS = "encoder", "vit.embeddings"


@mistake("patches column by column", "vit", "ours", f"{OURS}.patches", "patch order")
def _(patch: Patch, _: Any) -> None:
    right = PatchEmbedding.forward
    patch.setattr(PatchEmbedding, "forward", lambda self, x: turned(right(self, x)))


def turned(grid: Tensor) -> Tensor:
    return grid.transpose(1, 2).reshape(grid.shape)


@mistake("patches from the last to the first", "vit-unbiased", "theirs", f"{THEIRS}.patch_embeddings.projection",
         "patch order")  # fmt: skip
def _(patch: Patch, model: Any) -> None:
    projection = model.vit.embeddings.patch_embeddings.projection
    right = projection.forward
    patch.setattr(projection, "forward", lambda x: right(x).flip(2, 3))


@mistake("pixels before channels", "vit", "ours", f"{OURS}.patches", "pixel order")
def _(patch: Patch, _: Any) -> None:
    def wrong(self: Any, image: Tensor) -> Tensor:
        p = self.patch_size
        cut = rearrange(image, "b c (rows y) (columns x) -> b rows columns (y x c)", y=p, x=p)
        return F.linear(cut, self.weight.flatten(1), self.bias)

    patch.setattr(PatchEmbedding, "forward", wrong)


@mistake("class token at the end", "vit", "theirs", THEIRS, "class token")
def _(patch: Patch, model: Any) -> None:
    right = model.vit.embeddings.forward
    last = lambda *given, **named: right(*given, **named).roll(-1, 1)  # noqa: E731
    patch.setattr(model.vit.embeddings, "forward", last)


@mistake("patches without positions", "vit-unbiased", "ours", OURS, "positions")
def _(patch: Patch, _: Any) -> None:
    def wrong(right: Tensor) -> Tensor:
        return torch.cat([right[:, :1], torch.zeros_like(right[:, 1:])], 1)

    change_positions(patch, wrong)


@mistake("positions begin at the first patch", "vit", "ours", OURS, "positions")
def _(patch: Patch, _: Any) -> None:
    change_positions(patch, lambda right: torch.cat([torch.zeros_like(right[:, :1]), right[:, :-1]], 1))


@mistake("positions interpolated bilinearly", "vit", "ours", OURS, "position interpolation")
def _(patch: Patch, _: Any) -> None:
    interpolate(patch, mode="bilinear")


@mistake("positions interpolated corner to corner", "vit-unbiased", "ours", OURS, "position interpolation")
def _(patch: Patch, _: Any) -> None:
    interpolate(patch, align_corners=True)


def change_positions(patch: Patch, by: Any) -> None:
    right = GridPosition.forward
    patch.setattr(GridPosition, "forward", lambda self, rows, columns: by(right(self, rows, columns)))


def interpolate(patch: Patch, **otherwise: Any) -> None:
    """Only while our positions are at work: theirs are interpolated by the same function."""
    right, forward = F.interpolate, GridPosition.forward

    def wrong(self: GridPosition, rows: int, columns: int) -> Tensor:
        with patch.context() as inner:
            inner.setattr(F, "interpolate", lambda x, **given: right(x, **given | otherwise))
            return forward(self, rows, columns)

    patch.setattr(GridPosition, "forward", wrong)
