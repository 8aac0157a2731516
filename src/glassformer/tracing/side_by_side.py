"""Small matrices printed beside each other, and how far they are apart."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

WIDTH = 112
"""Characters of a line: what a page of the course shows without scrolling."""
GAP = "    "


def side_by_side(matrices: Mapping[str, Any], *, decimals: int = 3, differences: bool = False) -> str:
    """Each matrix under its name, one beside the other, as many as fit in a line; the others below.

    Of three dimensions the first is counted down the page, as `[0]`, `[1]`; a vector is a row, a number is one by one.
    Whole numbers are printed without decimals. `differences=True` adds the line of `differences`.

    Args:
        matrices: arrays, tensors (their values, wherever they are) or nested lists of numbers, by name.

    Raises:
        ValueError: for no matrix at all, for more than three dimensions, and for differences of unlike shapes.
    """
    arrays = {name: array_of(matrix) for name, matrix in matrices.items()}
    if not arrays:
        raise ValueError("there is no matrix to print; give at least one by its name")
    for name, array in arrays.items():
        if array.ndim > 3:
            raise ValueError(f"{name!r} has {array.ndim} dimensions; a page shows up to 3, so pick a part of it")
    blocks = [_block(name, array, decimals) for name, array in arrays.items()]
    lines: list[list[list[str]]] = [[]]
    for block in blocks:
        used = sum(len(each[0]) + len(GAP) for each in lines[-1])
        if lines[-1] and used + len(block[0]) > WIDTH:
            lines.append([])
        lines[-1].append(block)
    text = "\n\n".join(_beside(line) for line in lines)
    return f"{text}\n{_differences(arrays)}" if differences else text


def differences(matrices: Mapping[str, Any]) -> str:
    """One line: the largest |difference| of each matrix from the first.

    Raises ValueError for fewer than two matrices, and where their shapes are not alike.
    """
    return _differences({name: array_of(matrix) for name, matrix in matrices.items()})


def array_of(matrix: Any) -> np.ndarray[Any, Any]:
    """The numbers of a tensor, an array or nested lists."""
    if isinstance(matrix, Tensor):
        matrix = matrix.detach().cpu()
        matrix = (matrix.float() if matrix.is_floating_point() and matrix.element_size() < 4 else matrix).numpy()
    return np.asarray(matrix)


def _differences(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    (first, expected), *others = arrays.items()
    if not others:
        raise ValueError(f"{first!r} stands alone; differences are between two matrices or more")
    said = []
    for name, array in others:
        if array.shape != expected.shape:
            raise ValueError(f"{name!r} has shape {array.shape} and {first!r} {expected.shape}; they must be alike")
        with np.errstate(invalid="ignore"):  # ∞ − ∞, which the next line does not take
            apart = np.abs(array.astype(float) - expected.astype(float))
        apart = np.where(array == expected, 0.0, apart)
        largest = float(apart.max(initial=0.0))
        said.append(f"{name} {largest:.0e}" if largest else f"{name} 0")
    return f"largest difference from {first}: {', '.join(said)}"


def _block(name: str, array: np.ndarray[Any, Any], decimals: int) -> list[str]:
    """The lines of one matrix, all equally long."""
    rows: list[str] = []
    width = max((len(_number(value, decimals)) for value in array.flat), default=1)
    slabs = [np.atleast_2d(array)] if array.ndim < 3 else list(array)
    for i, slab in enumerate(slabs):
        for j, row in enumerate(slab):
            label = "" if array.ndim < 3 else f"[{i}] " if j == 0 else " " * len(f"[{i}] ")
            rows.append(label + "  ".join(_number(value, decimals).rjust(width) for value in row))
        if i + 1 < len(slabs):
            rows.append("")
    longest = max(len(line) for line in [name, *rows])
    return [line.ljust(longest) for line in [name, *rows]]


def _number(value: Any, decimals: int) -> str:
    if np.issubdtype(type(value), np.floating):
        text = f"{value:.{decimals}f}"
        return text.removeprefix("-") if not text.strip("-0.") else text  # no minus before zeros
    return str(int(value))


def _beside(blocks: list[list[str]]) -> str:
    height = max(len(block) for block in blocks)
    filled = [block + [" " * len(block[0])] * (height - len(block)) for block in blocks]
    return "\n".join(GAP.join(parts).rstrip() for parts in zip(*filled, strict=True))
