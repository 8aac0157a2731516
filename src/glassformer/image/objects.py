"""What stands in one picture: a class, a box and perhaps a mask for each object.

A box is `x0 y0 x1 y1` in pixels, half-open: column x lies inside where `x0 <= x < x1`, so `x1 - x0` is the width and
the box of the whole picture is `0 0 width height`. Models predict boxes as centre and size, in parts of the picture's
width and height (DETR, Carion et al. 2020, section 3.1): `centre_boxes` and `corner_boxes` go there and back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The `m` objects of one picture; m may be 0. Checked when it is made: shapes, finite boxes, each with an area."""

    classes: Int[Tensor, "m"]
    boxes: Float[Tensor, "m 4"]
    masks: Bool[Tensor, "m y x"] | None = None

    def __post_init__(self) -> None:
        if self.classes.ndim != 1 or self.classes.is_floating_point():
            raise ValueError(f"classes are whole numbers (m), not {self.classes.dtype} {tuple(self.classes.shape)}")
        check_boxes(self.boxes)
        if len(self.boxes) != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes and {len(self.boxes)} boxes: each object needs one of each")
        if self.masks is None:
            return
        if self.masks.ndim != 3 or self.masks.dtype != torch.bool or len(self.masks) != len(self.classes):
            expected = f"boolean ({len(self.classes)}, y, x)"
            raise ValueError(f"masks are {expected} here, not {self.masks.dtype} {tuple(self.masks.shape)}")

    @classmethod
    def none(cls, *, mask_size: Sequence[int] | None = None) -> Self:
        """An empty picture's objects; `mask_size` (y, x) where masks are expected."""
        masks = None if mask_size is None else torch.zeros(0, *mask_size, dtype=torch.bool)
        return cls(classes=torch.zeros(0, dtype=torch.long), boxes=torch.zeros(0, 4), masks=masks)

    @classmethod
    def from_masks(cls, classes: Int[Tensor, "m"], masks: Bool[Tensor, "m y x"]) -> Self:
        """Objects whose boxes are those of their masks."""
        return cls(classes=classes, boxes=boxes_of(masks), masks=masks)

    def __len__(self) -> int:
        return len(self.classes)

    def select(self, which: Bool[Tensor, "m"] | Int[Tensor, "k"]) -> Self:
        """Those that a boolean tensor marks, or an integer one numbers."""
        masks = None if self.masks is None else self.masks[which]
        return type(self)(classes=self.classes[which], boxes=self.boxes[which], masks=masks)


def check_boxes(boxes: Float[Tensor, "m 4"], size: Sequence[int] | None = None) -> None:
    """ValueError where a box is not finite, has no area, or reaches beyond a picture of `size` (y, x).

    Edges are compared with a hundredth of a pixel to spare, for boxes that were scaled.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(f"boxes are float (m, 4): x0 y0 x1 y1; these are {boxes.dtype} {tuple(boxes.shape)}")
    _refuse(boxes, ~boxes.isfinite().all(dim=1), "has an edge that is no finite number")
    _refuse(boxes, (boxes[:, 2:] <= boxes[:, :2]).any(dim=1), "has no area: x1 must be above x0, and y1 above y0")
    if size is not None:
        end = boxes.new_tensor([size[1], size[0]]) + 0.01
        outside = (boxes[:, :2] < -0.01).any(dim=1) | (boxes[:, 2:] > end).any(dim=1)
        _refuse(boxes, outside, f"reaches beyond its picture of width {size[1]} and height {size[0]}")


def _refuse(boxes: Float[Tensor, "m 4"], wrong: Bool[Tensor, "m"], why: str) -> None:
    if wrong.any():
        first = int(wrong.nonzero()[0])
        edges = " ".join(f"{edge:g}" for edge in boxes[first].tolist())
        raise ValueError(f"box {first} ({edges}) {why}")


def boxes_of(masks: Bool[Tensor, "m y x"]) -> Float[Tensor, "m 4"]:
    """The tightest box around each mask, half-open; ValueError where a mask is empty, for then there is none."""
    if masks.ndim != 3 or masks.dtype != torch.bool:
        raise ValueError(f"masks are boolean (m, y, x), not {masks.dtype} {tuple(masks.shape)}")
    columns, rows = masks.any(dim=1), masks.any(dim=2)
    if not columns.any(dim=1).all():
        raise ValueError(f"mask {int((~columns.any(dim=1)).nonzero()[0])} is empty, so it has no box")
    first = [line.int().argmax(dim=1) for line in (columns, rows)]
    last = [line.shape[1] - line.flip(1).int().argmax(dim=1) for line in (columns, rows)]
    return torch.stack(first + last, dim=1).float()


def centre_boxes(boxes: Float[Tensor, "*m 4"], size: Sequence[int]) -> Float[Tensor, "*m 4"]:
    """`x0 y0 x1 y1` in pixels of a picture of `size` (y, x), as centre, width and height in parts of the picture."""
    start, end = boxes.unflatten(-1, (2, 2)).unbind(-2)
    return torch.cat([(start + end) / 2, end - start], dim=-1) / _scale(boxes, size)


def corner_boxes(boxes: Float[Tensor, "*m 4"], size: Sequence[int]) -> Float[Tensor, "*m 4"]:
    """The way back from `centre_boxes`."""
    centre, extent = boxes.unflatten(-1, (2, 2)).unbind(-2)
    return torch.cat([centre - extent / 2, centre + extent / 2], dim=-1) * _scale(boxes, size)


def _scale(boxes: Float[Tensor, "*m 4"], size: Sequence[int]) -> Float[Tensor, "4"]:
    rows, columns = size
    return boxes.new_tensor([columns, rows, columns, rows])
