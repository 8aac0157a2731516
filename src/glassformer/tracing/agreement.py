"""How far two tensors are apart, how far their dtypes let them be, and where they are."""

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDINGS = 16
"""Roundings of the largest value that two ways to compute the same may differ by, at the first point."""


def allowed(a: Tensor, b: Tensor, floor: float = 0.0) -> float:
    """What may differ, as a share of the largest value: 16 roundings, or ten times what differed before."""
    eps = max(torch.finfo(x.dtype).eps if x.is_floating_point() else 0.0 for x in (a, b))
    return max(ROUNDINGS * eps, min(10 * floor, 1000 * eps, 0.25))


def error(a: Tensor, b: Tensor) -> float:
    """The largest |a − b| as a share of the largest |b|; infinite where the shapes, or what is finite, differ."""
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    a, b = a.double(), b.double()
    finite = b.isfinite()
    if not torch.equal(finite, a.isfinite()):
        return float("inf")
    a, b = a[finite], b[finite]
    if a.numel() == 0:
        return 0.0
    return float((a - b).abs().max() / max(float(b.abs().max()), 1e-30))


@dataclass(frozen=True)
class Difference:
    """How two values at one point differ.

    error     the largest |a − b|, as a share of the largest |b|
    tolerance what their dtypes allow
    share     the share of entries that differ by more
    where     for each axis that is not touched everywhere, its name and the places that are
    worst     the place of the largest difference, and the two values there
    """

    error: float
    tolerance: float
    share: float
    where: tuple[tuple[str, tuple[int, ...]], ...]
    worst: tuple[tuple[int, ...], float, float]

    def __str__(self) -> str:
        text = f"by {self.error:.1e} of the largest value, in {self.share:.0%} of the entries"
        for axis, places in self.where:
            shown = ", ".join(map(str, places[:6])) + (", …" if len(places) > 6 else "")
            text += f"; {axis} {shown}"
        return text


AXES = {2: ("row", "channel"), 3: ("row", "position", "channel"), 4: ("row", "head", "position", "column")}


def difference(a: Tensor, b: Tensor, tolerance: float, head_dim: int | None = None) -> Difference:
    """What there is to say of two tensors of one shape that differ. With `head_dim`, channels are counted as heads."""
    a, b = a.double(), b.double()
    gap = (a - b).abs().nan_to_num(nan=float("inf"))
    far = gap > tolerance * max(float(b.abs().nan_to_num(posinf=0.0).max()), 1e-30)
    axes = AXES.get(a.ndim, tuple(f"axis {i}" for i in range(a.ndim)))
    where = []
    for i, name in enumerate(axes):
        touched = far.movedim(i, 0).flatten(1).any(1) if a.ndim > 1 else far
        if name == "channel" and head_dim and touched.numel() % head_dim == 0:
            name, touched = "head", touched.view(-1, head_dim).any(1)
        if not touched.all() and touched.any():
            where.append((name, tuple(touched.nonzero().flatten().tolist())))
    index = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape)) if gap.numel() else ()
    worst = (index, float(a[index]), float(b[index])) if gap.numel() else (index, 0.0, 0.0)
    return Difference(error(a, b), tolerance, float(far.double().mean()), tuple(where), worst)
