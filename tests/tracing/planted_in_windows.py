"""Mistakes with Swin's windows: how far they are shifted, what is hidden in them, and their biases by offset."""

from dataclasses import replace
from typing import Any

import torch
from planted_differences import Patch, mistake

from glassformer.ops.mask import Mask

OURS, THEIRS = "encoder.stages.0.blocks", "swin.encoder.layers.0.blocks"


def inside(patch: Patch, model: Any, block: int, by: Any) -> None:
    """A block of ours is given what `by(windows, mask)` makes of its windows and mask."""
    found = model.get_submodule(f"{OURS}.{block}")
    right = found.forward

    def wrong(x: Any, *, windows: Any, mask: Any) -> Any:
        windows, mask = by(windows, mask)
        return right(x, windows=windows, mask=mask)

    patch.setattr(found, "forward", wrong)


@mistake("windows shifted the other way", "swin", "ours", f"{OURS}.1", "window shift")
def _(patch: Patch, model: Any) -> None:
    inside(patch, model, 1, lambda windows, mask: (replace(windows, shift=-windows.shift), mask))


@mistake("windows not shifted", "swin", "ours", f"{OURS}.1", "window shift")
def _(patch: Patch, model: Any) -> None:
    inside(patch, model, 1, lambda windows, mask: (replace(windows, shift=0), mask))


@mistake("shifted windows without a mask", "swin", "ours", f"{OURS}.1.attention", "window mask")
def _(patch: Patch, model: Any) -> None:
    inside(patch, model, 1, lambda windows, mask: (windows, Mask()))


@mistake("offsets of the key from the query", "swin", "ours", f"{OURS}.0.attention", "relative bias")
def _(patch: Patch, model: Any) -> None:
    bias = model.get_submodule(f"{OURS}.0.bias")
    right = bias.forward
    patch.setattr(bias, "forward", lambda size: right(size).mT)


@mistake("offsets by columns before rows", "swin", "theirs", f"{THEIRS}.0.attention", "relative bias")
def _(_: Patch, model: Any) -> None:
    attention = next(part for part in model.get_submodule(f"{THEIRS}.0").modules()
                     if hasattr(part, "relative_position_index"))  # fmt: skip
    index = attention.relative_position_index
    size = round(index.numel() ** 0.25)
    turned = index.view(size, size, size, size).permute(1, 0, 3, 2).reshape(index.shape)
    assert not torch.equal(turned, index)
    attention.relative_position_index = turned.contiguous()
