"""The first point where two models differ, with all that was seen on the way there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from glassformer.tracing.align import Alignment, Pair, Part
from glassformer.tracing.points import ForwardPass, Point


def value_of(point: Point, part: Part) -> Tensor:
    """The columns that count."""
    return point.value if part is None or point.side != "out" else point.value[..., part[0] : part[1]]


def real(value: Tensor, *seen: ForwardPass) -> Tensor:
    """At real tokens only, where the tensor has a place for each token of an attention mask."""
    for run in seen:
        if run.present is not None and value.shape[:2] == run.present.shape:
            return value[run.present]
    return value


def alike(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the same number of axes: positions, say, may be given once for all rows."""
    if a.shape == b.shape or a.ndim == b.ndim or not a.ndim or not b.ndim or a.shape[-1] != b.shape[-1]:
        return _one_row(a, b)
    try:
        return torch.broadcast_tensors(a, b)  # type: ignore[return-value]
    except RuntimeError:
        return a, b


def _one_row(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.ndim == b.ndim and a.ndim > 1 and a.shape[1:] == b.shape[1:] and 1 in (a.shape[0], b.shape[0]):
        return torch.broadcast_tensors(a, b)  # type: ignore[return-value]
    if a.ndim == b.ndim == 4 and a.shape == b.transpose(1, 2).shape:
        return a, b.transpose(1, 2)  # heads before places, or behind them
    if a.ndim == b.ndim == 4 and a.shape != b.shape:  # channels before the places of a grid, or behind them
        if a.shape == b.movedim(1, -1).shape:
            return a, b.movedim(1, -1)
        if a.movedim(1, -1).shape == b.shape:
            return a.movedim(1, -1), b
    return a, b


@dataclass(frozen=True, eq=False)
class Place:
    """Both runs, the pair of points that differ first, and the modules whose own computation made them."""

    a: ForwardPass
    b: ForwardPass
    alignment: Alignment
    point: Point
    other: Point
    pair: Pair
    module_a: str
    module_b: str
    tolerance: float

    @classmethod
    def at(
        cls,
        a: ForwardPass,
        b: ForwardPass,
        alignment: Alignment,
        point: Point,
        other: Point,
        pair: Pair,
        tolerance: float,
    ) -> "Place":
        """The place of a pair of points."""
        left = culprit(a, point, {pair.a for pair in alignment.pairs})
        right = culprit(b, other, {pair.b for pair in alignment.pairs})
        return cls(a, b, alignment, point, other, pair, left, right, tolerance)

    @property
    def value_a(self) -> Tensor:
        """What a has, at real tokens, in float64."""
        return self._values()[0]

    @property
    def value_b(self) -> Tensor:
        return self._values()[1]

    def _values(self) -> tuple[Tensor, Tensor]:
        both = alike(value_of(self.point, self.pair.a_part), value_of(self.other, self.pair.b_part))
        return real(both[0].double(), self.a, self.b), real(both[1].double(), self.a, self.b)

    def shown(self) -> tuple[Tensor, Tensor]:
        """Both values with all their axes, 0 at padding."""
        both = alike(value_of(self.point, self.pair.a_part), value_of(self.other, self.pair.b_part))
        for run in (self.a, self.b):
            if run.present is not None and both[0].shape[:2] == run.present.shape:
                hidden = ~run.present.view(*run.present.shape, *[1] * (both[0].ndim - 2))
                return both[0].masked_fill(hidden, 0), both[1].masked_fill(hidden, 0)
        return both

    def cut(self, value: Tensor) -> Tensor:
        """A value computed for all places, at real tokens only."""
        whole = value_of(self.other, self.pair.b_part)
        return real(alike(value.double(), whole)[0], self.a, self.b)

    def input(self) -> Tensor | None:
        """What went into the module of a."""
        found = self.a.value(self.point.module, "in", self.point.call)
        return None if found is None else (found.double() if found.is_floating_point() else found)

    def earlier(self) -> list[Point]:
        """a's points before this one."""
        return self.a.points[: self.a.points.index(self.point)]

    def head_width(self) -> int | None:
        """The width of a head, from the modules around, else from the config."""
        for path in (self.module_a, *reversed(self.point.inside)):
            for name in ("head_dim", "attention_head_size", "key_value_proj_dim"):
                if isinstance(found := getattr(self.a.modules[path], name, None), int):
                    return found
        config = getattr(self.a.model, "config", None)
        for name in ("head_dim", "num_heads", "num_attention_heads", "n_head", "n_heads"):
            if isinstance(found := getattr(config, name, None), int) and found:
                return found if name == "head_dim" else self.point.value.shape[-1] // found or None
        return None


def culprit(seen: ForwardPass, point: Point, paired: set[str]) -> str:
    """The module whose own computation made the value: what came out of it, or what it handed to one within it.

    What a module of no counterpart made, and handed on, is its own doing; the outputs of others have been compared.
    """
    if point.side == "out":
        return point.module
    if point.made_by is not None and point.made_by not in paired:
        return point.made_by
    return point.inside[-1] if point.inside else ""


def equal(a: Tensor | None, b: Tensor | None, tolerance: float = 1e-6) -> bool:
    """Whether two parameters are the same, or both absent."""
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=tolerance, atol=1e-12)
