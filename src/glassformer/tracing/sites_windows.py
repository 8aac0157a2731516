"""Attention in windows (Swin): where the windows lie, and the biases and masks within them, tried otherwise."""

import math
import re

import torch
from torch import Tensor

from glassformer.parts import WindowBias
from glassformer.parts.windows import Windows
from glassformer.tracing.hypotheses import Finding, Hypothesis, tested
from glassformer.tracing.place import Place
from glassformer.tracing.points import ForwardPass, Point


def window_findings(place: Place) -> tuple[list[Finding], list[str]]:
    """How far the windows of each of the two are shifted, by what their attention is given."""
    grid, value = grid_of(place), place.point.value
    if grid is None or value.ndim != 3 or math.isqrt(value.shape[1]) ** 2 != value.shape[1]:
        return [], []
    size = math.isqrt(value.shape[1])
    usual = shift_of(place, size)
    shifts = list(dict.fromkeys((usual, 0, size // 2, -(size // 2), size // 2 + 1, size - size // 2)))
    variants: list[Hypothesis] = []
    for shift in shifts:
        windows = Windows(grid.shape[1], grid.shape[2], size, shift).split(grid.double())
        does = f"shifts its windows by {shift}" if shift else "does not shift its windows"
        key = "" if shift == usual else "window shift"
        variants.append(Hypothesis(key, does, lambda windows=windows: windows))
    return tested(place, variants)


def window_biases(place: Place, q: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """How it is read -> the bias (1 or b, h, t, t) of the windows' offsets, hidden places at −inf; the usual first."""
    table, size = table_of(place.a, place.module_a), math.isqrt(q.shape[2])
    if table is None or size * size != q.shape[2] or table.shape[1] != q.shape[1]:
        return {}
    part = WindowBias(table.shape[1], (math.isqrt(len(table)) + 1) // 2).double()
    with torch.no_grad():
        part.table.copy_(table)
        usual = part(size)
    turned = usual.unflatten(2, (size, size)).unflatten(4, (size, size))
    columns_first = turned.permute(0, 1, 3, 2, 5, 4).flatten(4, 5).flatten(2, 3)
    hidden = hidden_by_shift(place, size, rows)
    ways = {
        "by the offset of the query from the key": usual + hidden,
        "by the offset of the key from the query": usual.mT + hidden,
        "by columns before rows": columns_first + hidden,
    }
    return ways | ({"and no mask where the windows are shifted": usual} if hidden.any() else {})


def hidden_by_shift(place: Place, size: int, rows: Tensor) -> Tensor:
    """−inf where a shifted window has places that were no neighbours, for the windows `rows` of a batch; else 0."""
    grid, shift = grid_of(place), shift_of(place, size)
    if grid is None or not shift:
        return torch.zeros(())
    visible = Windows(grid.shape[1], grid.shape[2], size, shift).visible(grid.device)
    visible = visible[rows % len(visible), None]
    return torch.zeros(visible.shape, dtype=torch.float64).masked_fill(~visible, float("-inf"))


def shift_of(place: Place, size: int) -> int:
    """Half a window in every second block."""
    numbers = re.findall(r"blocks\.(\d+)", place.module_a)
    return size // 2 if numbers and int(numbers[-1]) % 2 else 0


def grid_of(place: Place) -> Tensor | None:
    """What was normalised last, as a's grid (b y x d); None where neither model keeps a grid."""
    mine, theirs = normed(place.a, place.point), normed(place.b, place.other)
    if mine is None or theirs is None:
        return None
    shape = next((x.shape for x in (mine, theirs) if x.ndim == 4), None)
    return None if shape is None or mine.numel() != math.prod(shape) else mine.reshape(shape)


def normed(run: ForwardPass, point: Point) -> Tensor | None:
    """What the last norm before a point gave."""
    for before in reversed(run.points[: run.points.index(point)]):
        weight = getattr(run.modules[before.module], "weight", None)
        if before.side == "out" and isinstance(weight, Tensor) and weight.ndim == 1:
            return before.value
    return None


def table_of(run: ForwardPass, path: str) -> Tensor | None:
    """The table of offsets (offsets, heads) of the block that a path leads into."""
    block = re.match(r".*blocks\.\d+\.", f"{path}.")
    names = ("bias.table", "relative_position_bias_table")
    for name, parameter in run.model.named_parameters():
        if block and name.startswith(block[0]) and name.endswith(names):
            return parameter.detach().double().cpu()
    return None
