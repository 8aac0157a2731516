"""The first point where two models differ, with all that was seen on the way there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from glassformer.tracing.align import Alignment, Pair, Part
from glassformer.tracing.points import Point, Run


def value_of(point: Point, part: Part, seen: Run) -> Tensor:
    """The columns that count, at real tokens."""
    value = point.value
    if part is not None and point.side == "out":
        value = value[..., part[0] : part[1]]
    return real(value, seen)


def real(value: Tensor, seen: Run) -> Tensor:
    """Without the padding, where the tensor has a place for each token."""
    present = seen.present
    if present is not None and value.shape[:2] == present.shape:
        return value[present]
    return value


@dataclass(frozen=True, eq=False)
class Place:
    """Both runs, the pair of points that differ first, and the modules whose own computation made them."""

    a: Run
    b: Run
    alignment: Alignment
    point: Point
    other: Point
    pair: Pair
    module_a: str
    module_b: str
    tolerance: float

    @classmethod
    def at(cls, a: Run, b: Run, alignment: Alignment, point: Point, other: Point, pair: Pair, tolerance: float) -> "Place":
        """The place of a pair of points."""
        return cls(a, b, alignment, point, other, pair, culprit(a, point), culprit(b, other), tolerance)

    @property
    def head_dim(self) -> int | None:
        """The width of a head, where the module has heads."""
        found = getattr(self.a.modules[self.module_a], "head_dim", None)
        return found if isinstance(found, int) else None

    @property
    def value_a(self) -> Tensor:
        return value_of(self.point, self.pair.a_part, self.a).double()

    @property
    def value_b(self) -> Tensor:
        return value_of(self.other, self.pair.b_part, self.b).double()

    def cut(self, value: Tensor) -> Tensor:
        """A value computed for all places, at real tokens only."""
        return real(value.double(), self.a if self.a.present is not None else self.b)

    def input(self) -> Tensor | None:
        """What went into the module of a."""
        found = self.a.value(self.module_a, "in", self.point.call)
        return None if found is None else (found.double() if found.is_floating_point() else found)

    def earlier(self) -> list[Point]:
        """a's points before this one."""
        return self.a.points[: self.a.points.index(self.point)]


def culprit(seen: Run, point: Point) -> str:
    """The module whose own computation made the value: what came out of it, or what it handed to one within it."""
    if point.side == "out":
        return point.module
    if point.made_by is not None:
        return point.made_by
    return point.inside[-1] if point.inside else ""


def alike(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the same number of axes: positions, say, may be given once for all rows."""
    if a.shape == b.shape or not a.ndim or not b.ndim or a.shape[-1] != b.shape[-1]:
        return a, b
    try:
        return tuple(torch.broadcast_tensors(a, b))  # type: ignore[return-value]
    except RuntimeError:
        return a, b


def equal(a: Tensor | None, b: Tensor | None, tolerance: float = 1e-6) -> bool:
    """Whether two parameters are the same, or both absent."""
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=tolerance, atol=1e-12)
