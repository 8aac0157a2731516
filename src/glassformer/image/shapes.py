"""Shapes, textures and colours of generated pictures: many of them drawn at once, smooth at their edges.

A shape is a function of a place (u, v), in units of the shape's radius: below 0 inside, above 0 outside, and near the
edge about the distance from it. A texture says for each place how much it has of the first of two colours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

Plane = Float32[np.ndarray, "n #y #x"]
SHAPES = ("circle", "ring", "square", "triangle", "star", "cross", "heart", "crescent")
TEXTURES = ("plain", "stripes", "dots", "checker", "gradient")
COLOURS = {
    "red": (0.86, 0.12, 0.15), "orange": (0.98, 0.55, 0.08), "yellow": (0.97, 0.90, 0.16), "green": (0.13, 0.66, 0.25),
    "cyan": (0.20, 0.82, 0.88), "blue": (0.15, 0.30, 0.88), "purple": (0.58, 0.22, 0.78), "white": (0.98, 0.98, 0.98),
}  # fmt: skip
PALETTE = np.array(list(COLOURS.values()), np.float32)

_REACH = 1.1  # no shape goes further from its centre, in radii


@dataclass(frozen=True, kw_only=True)
class Figures:
    """`n` shapes to draw: each on its picture, later ones over earlier ones. Lengths are in pixels."""

    picture: Int[np.ndarray, "n"]
    shape: Int[np.ndarray, "n"]
    texture: Int[np.ndarray, "n"]
    x: Float32[np.ndarray, "n"]
    y: Float32[np.ndarray, "n"]
    radius: Float32[np.ndarray, "n"]
    angle: Float32[np.ndarray, "n"]
    period: Float32[np.ndarray, "n"]
    first: Float32[np.ndarray, "n 3"]
    second: Float32[np.ndarray, "n 3"]

    def __len__(self) -> int:
        return len(self.picture)

    def select(self, which: Bool[np.ndarray, "n"] | Int[np.ndarray, "k"]) -> Self:
        """Those that a boolean array marks, or an integer one numbers."""
        return type(self)(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


class Stamp(NamedTuple):
    """One figure drawn on a square of w × w pixels, whose first stands at row `top` and column `left`."""

    cover: Float32[np.ndarray, "w w"]
    paint: Float32[np.ndarray, "3 w w"]
    top: int
    left: int

    def inside(self, size: int) -> tuple[slice, slice, slice, slice]:
        """Rows and columns of a picture of `size` that it touches, then those of the stamp."""
        w = len(self.cover)
        rows, columns = ((max(at, 0), min(at + w, size)) for at in (self.top, self.left))
        return (
            slice(*rows), slice(*columns),
            slice(rows[0] - self.top, rows[1] - self.top), slice(columns[0] - self.left, columns[1] - self.left),
        )  # fmt: skip


def stamps(figures: Figures) -> list[Stamp]:
    """Each figure drawn alone: how much of each pixel it covers, from 0 to 1, and its colours."""
    drawn: list[Stamp] = [None] * len(figures)  # type: ignore[list-item]
    for group in _alike(figures):
        some = figures.select(group)
        reach = int(np.ceil(_REACH * some.radius.max())) + 1
        top, left = (np.floor(at).astype(np.int64) - reach for at in (some.y, some.x))
        steps = np.arange(2 * reach + 1, dtype=np.float32) + np.float32(0.5)
        across = (steps + (left - some.x)[:, None].astype(np.float32))[:, None, :]
        down = (steps + (top - some.y)[:, None].astype(np.float32))[:, :, None]
        cos, sin = (turn(some.angle)[:, None, None] for turn in (np.cos, np.sin))
        u, v = cos * across + sin * down, cos * down - sin * across
        radius = some.radius[:, None, None]
        distance = _DISTANCES[int(some.shape[0])](u / radius, v / radius)
        cover = np.clip(np.float32(0.5) - distance * radius, 0, 1)
        paint = _painted(some, u, v)
        for i, *stamp in zip(group.tolist(), cover, paint, top.tolist(), left.tolist(), strict=True):
            drawn[i] = Stamp(*stamp)
    return drawn


def two_colours(
    colour: Int[np.ndarray, "n"], chance: Float64[np.ndarray, "n"]
) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"]]:
    """The colours of these places in `COLOURS`, and what textures mix each with: paler, or (white always) darker.

    Half of the numbers in [0, 1) make it paler.
    """
    first = PALETTE[colour]
    paler = (chance < 0.5) & (first.min(axis=1) < 0.9)
    return first, np.where(paler[:, None], 1 - 0.35 * (1 - first), 0.35 * first).astype(np.float32)


def _alike(figures: Figures) -> Iterator[Int[np.ndarray, "k"]]:
    """The figures in groups of one shape, about one size."""
    kind = figures.shape * 4096 + np.ceil(figures.radius / 4).astype(np.int64)
    order = np.argsort(kind, kind="stable")
    if len(order):
        yield from np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)


def _painted(figures: Figures, u: Plane, v: Plane) -> Float32[np.ndarray, "n 3 y x"]:
    """The colours of figures at the places (u, v), in pixels from each one's centre."""
    period, radius = (one[:, None, None] for one in (figures.period, figures.radius))
    share = np.ones_like(u)
    for texture in range(1, len(TEXTURES)):
        which = np.flatnonzero(figures.texture == texture)
        if len(which):
            share[which] = shares(texture, u[which], v[which], period[which], radius[which])
    first, second = (colour[:, :, None, None] for colour in (figures.first, figures.second))
    return second + share[:, None] * (first - second)


def shares(texture: int, u: Plane, v: Plane, period: Plane, radius: Plane) -> Plane:
    """How much of the first colour a texture (its place in `TEXTURES`) has at (u, v) pixels from the centre."""
    turn = np.float32(2 * np.pi) / period
    if texture == 1:
        return np.clip(0.5 + 2 * np.sin(turn * u), 0, 1)
    if texture == 2:  # a dot around each place where both cosines are 1
        return np.clip(2 - 2 * (np.cos(turn * u) + np.cos(turn * v)), 0, 1)
    if texture == 3:
        return np.clip(0.5 + 3 * np.sin(turn / 2 * u) * np.sin(turn / 2 * v), 0, 1)
    return np.clip(0.5 + u / (2 * radius), 0, 1) if texture == 4 else np.ones_like(u)


def _circle(u: Plane, v: Plane) -> Plane:
    return np.hypot(u, v) - np.float32(0.92)


def _ring(u: Plane, v: Plane) -> Plane:
    return np.abs(np.hypot(u, v) - np.float32(0.72)) - np.float32(0.24)


def _square(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.78)


def _triangle(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u) * np.float32(0.866) - v / 2, v) - np.float32(0.5)


def _star(u: Plane, v: Plane) -> Plane:
    """Five lines join each corner with the next but one: inside are the places that at most one of them shuts out."""
    most = runner_up = np.full_like(u, -np.inf)
    for corner in range(5):
        turn = 2 * np.pi * corner / 5
        line = np.float32(np.sin(turn)) * u - np.float32(np.cos(turn)) * v
        runner_up = np.maximum(runner_up, np.minimum(most, line))
        most = np.maximum(most, line)
    return runner_up - np.float32(np.cos(2 * np.pi / 5) * 1.1)


def _cross(u: Plane, v: Plane) -> Plane:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.minimum(u, v) - np.float32(0.33), np.maximum(u, v) - np.float32(0.95))


def _heart(u: Plane, v: Plane) -> Plane:
    """A square on its corner, and a circle on each of its upper two sides."""
    p, q, a = (u - v + 0.1) * np.float32(0.707), (-u - v + 0.1) * np.float32(0.707), np.float32(0.48)
    circles = np.minimum(np.hypot(p - a, q), np.hypot(p, q - a))
    return np.minimum(np.maximum(np.abs(p), np.abs(q)), circles) - a


def _crescent(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.hypot(u, v) - np.float32(0.95), np.float32(0.72) - np.hypot(u - np.float32(0.5), v))


_DISTANCES: tuple[Callable[[Plane, Plane], Plane], ...] = (
    _circle, _ring, _square, _triangle, _star, _cross, _heart, _crescent,
)  # fmt: skip
