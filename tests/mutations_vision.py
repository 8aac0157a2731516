"""The classic mistakes of people who write image transformers; see `mutations.py`."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from mutations import Patch, mistake
from torch import Tensor

from glassformer.models import vit
from glassformer.parts import patch as patches
from glassformer.parts import windows


@mistake("class token behind the patches, not in front", "vit")
def _(patch: Patch) -> None:
    def cat(parts: list[Tensor], dim: int) -> Tensor:
        return torch.cat(parts[::-1], dim)

    patch.setattr(vit, "torch", SimpleNamespace(cat=cat, randn=torch.randn))


@mistake("the head reads the last patch, not the class token", "vit")
def _(patch: Patch) -> None:
    patch.setattr(vit.ViTForImageClassification, "features", lambda self, encoded: encoded.last_hidden_state[:, -1])


@mistake("positions of the patches off by one", "vit")
def _(patch: Patch) -> None:
    right = patches.GridPosition.forward

    def wrong(self: patches.GridPosition, rows: int, columns: int) -> Tensor:
        there = right(self, rows, columns)
        return torch.cat([there[:, :1], there[:, 1:].roll(1, dims=1)], dim=1)

    patch.setattr(patches.GridPosition, "forward", wrong)


@mistake("positions interpolated with rows and columns exchanged", "vit-unbiased")
def _(patch: Patch) -> None:
    right = patches.GridPosition.forward
    patch.setattr(patches.GridPosition, "forward", lambda self, rows, columns: right(self, columns, rows))


@mistake("positions interpolated linearly", "vit")
def _(patch: Patch) -> None:
    def interpolate(x: Tensor, **options: Any) -> Tensor:
        return F.interpolate(x, **options | {"mode": "bilinear"})

    patch.setattr(patches, "F", SimpleNamespace(interpolate=interpolate, linear=F.linear))


@mistake("pixels of a patch with the channel last", "vit")
def _(patch: Patch) -> None:
    def wrong(x_: Tensor, how: str, **sizes: int) -> Tensor:
        return rearrange(x_, how.replace("(c y x)", "(y x c)"), **sizes)

    patch.setattr(patches, "rearrange", wrong)


@mistake("windows see over the wrapped edge", "swin")
def _(patch: Patch) -> None:
    patch.setattr(windows.Windows, "mask", lambda self, batch, device: windows.Mask())


@mistake("the mask of shifted windows in the order of another picture's", "swin")
def _(patch: Patch) -> None:
    def wrong(self: windows.Windows, batch: int, device: torch.device) -> windows.Mask:
        if not self.shift:
            return windows.Mask()
        return windows.Mask.dense(self.visible(device).repeat_interleave(batch, 0)[:, None])

    patch.setattr(windows.Windows, "mask", wrong)


@mistake("the shift is not undone", "swin")
def _(patch: Patch) -> None:
    right = windows.Windows.join

    def wrong(self: windows.Windows, x: Tensor) -> Tensor:
        return right(windows.Windows(self.rows, self.columns, self.size), x)

    patch.setattr(windows.Windows, "join", wrong)


@mistake("windows are never shifted", "swin-unbiased")
def _(patch: Patch) -> None:
    right = windows.Windows.fit.__func__  # type: ignore[attr-defined]
    wrong = classmethod(lambda cls, rows, columns, size, shift: right(cls, rows, columns, size, 0))
    patch.setattr(windows.Windows, "fit", wrong)


@mistake("the bias of key from query, not of query from key", "swin")
def _(patch: Patch) -> None:
    right = windows.WindowBias.forward
    patch.setattr(windows.WindowBias, "forward", lambda self, size: right(self, size).mT)


@mistake("the bias of columns taken for that of rows", "swin")
def _(patch: Patch) -> None:
    right = windows.WindowBias.forward

    def wrong(self: windows.WindowBias, size: int) -> Tensor:
        bias = right(self, size).unflatten(2, (size, size)).unflatten(4, (size, size))
        return bias.transpose(2, 3).transpose(4, 5).flatten(4, 5).flatten(2, 3)

    patch.setattr(windows.WindowBias, "forward", wrong)
