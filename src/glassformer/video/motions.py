"""Motions: generated clips whose label no single frame gives away.

Two shapes move and perhaps a third stands by, on a background that stays. The motion is the label: both drift left,
right, up or down; both go to and fro (bounce); one circles the other (orbit); or they exchange their places (swap).

**Why one frame says nothing.** The picture has no edge: who leaves on one side enters on the other. Let A and B be the
places of the two. In every class and at every time, A is evenly distributed over the picture, and independent of it
B − A has a direction evenly distributed over the circle and a length drawn alike. For A, B begin so; a drift or a
bounce adds to both the same; an orbit turns B − A by an angle that is independent of it; a swap turns it about the
middle, which is evenly distributed itself. Everything else is drawn without a look at the class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int, UInt8
from torch import Tensor

from glassformer.foundation.counting import draws
from glassformer.foundation.suggest import did_you_mean
from glassformer.image.backgrounds import NUM_DRAWS as GROUND
from glassformer.image.backgrounds import Backgrounds
from glassformer.image.piles import paint
from glassformer.image.shapes import COLOURS, SHAPES, TEXTURES, Figures, stamps, two_colours

MOTIONS = ("left", "right", "up", "down", "bounce", "orbit clockwise", "orbit counter-clockwise", "swap")
_NAMES = (SHAPES, tuple(COLOURS), TEXTURES)
_OWN, _PATH = 7, 10  # numbers drawn for each shape, and for the motion
_AT_ONCE = 8  # clips drawn together


class Track(NamedTuple):
    """One shape of a clip: what it looks like, and where its centre is in each frame, in pixels (x, y)."""

    shape: str
    colour: str
    texture: str
    radius: float
    places: tuple[tuple[float, float], ...]


class Clip(NamedTuple):
    """What happens in a clip: enough to draw it, to speak of it, or to give it a sound. The first two shapes move."""

    motion: str
    tracks: tuple[Track, ...]


@dataclass(frozen=True, kw_only=True)
class Motions:
    """Clips of `frames` pictures of `size` × `size`; clip k depends on the seed and k alone.

    `labels` are the motions that there are; each is as frequent as the others. In half of the clips a third shape
    stands by. `plain` leaves out the patterns, of shapes and backgrounds, for small models. ValueError for fewer frames
    than 4, in which to and fro cannot be told from there.
    """

    size: int = 32
    frames: int = 8
    seed: int = 0
    labels: tuple[str, ...] = MOTIONS
    plain: bool = False
    _grounds: Backgrounds = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.size < 16 or self.frames < 4:
            raise ValueError(f"size={self.size}, frames={self.frames}; expected 16 pixels and 4 frames, or more")
        for label in self.labels:
            if label not in MOTIONS:
                raise ValueError(f"there is no motion {label!r}{did_you_mean(label, MOTIONS)}")
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels={self.labels}; expected one motion or more, each once")
        draws(self.seed, [], 0)
        object.__setattr__(self, "_grounds", Backgrounds(self.size, self.seed))

    def batch(self, numbers: Sequence[int]) -> tuple[UInt8[Tensor, "b t 3 y x"], Int[Tensor, "b"]]:
        """The clips of these numbers, and each one's label: its place in `labels`. ValueError for a negative number."""
        if not len(numbers):
            raise ValueError("a batch of no numbers has no clips; give at least one")
        parts = [self._drawn(numbers[at : at + _AT_ONCE]) for at in range(0, len(numbers), _AT_ONCE)]
        clips, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        return torch.from_numpy(clips), torch.from_numpy(labels)

    def records(self, numbers: Sequence[int]) -> tuple[Clip, ...]:
        """What happens in each of these clips."""
        label, places, kinds, radius, _, _ = self._plan(numbers)
        there = ~np.isnan(places[..., 0, 0])
        return tuple(
            Clip(
                self.labels[label[i]],
                tuple(_track(kinds[i, j], radius[i, j], places[i, j]) for j in np.flatnonzero(who)),
            )
            for i, who in enumerate(there)
        )

    def _plan(self, numbers: Sequence[int]) -> tuple[np.ndarray, ...]:
        """Labels (b), places (b, 3, t, 2) in pixels (NaN where no third shape is), kinds, radii, and the rest."""
        chance = draws(self.seed, numbers, 1 + _PATH + GROUND + 3 * _OWN)
        which, path, ground, own = np.split(chance, np.cumsum([1, _PATH, GROUND]), axis=1)
        label = (which[:, 0] * len(self.labels)).astype(np.int64)
        own = own.reshape(len(chance), 3, _OWN)
        if self.plain:
            ground[:, 1], own[..., 2] = 0, 0  # the patterns' and the textures' first, which are plain
        kinds = (own[..., :3] * [len(names) for names in _NAMES]).astype(np.int64)
        radius = self.size * (0.11 + 0.05 * own[..., 3])
        motion = np.array([MOTIONS.index(name) for name in self.labels])[label]
        return label, self.size * paths(motion, path, self.frames), kinds, radius, own[..., 4:], ground

    def _drawn(self, numbers: Sequence[int]) -> tuple[UInt8[np.ndarray, "b t 3 y x"], Int[np.ndarray, "b"]]:
        label, places, kinds, radius, looks, ground = self._plan(numbers)
        b, t, size = len(label), self.frames, self.size
        clip, shape, frame = np.nonzero(~np.isnan(places[..., 0]))
        x, y = places[clip, shape, frame].T
        copy = np.stack(np.meshgrid((-size, 0, size), (-size, 0, size)), axis=-1).reshape(-1, 1, 2)
        x, y = np.broadcast_to(x, (9, len(x))) + copy[..., 0], np.broadcast_to(y, (9, len(y))) + copy[..., 1]
        reach = 1.1 * radius[clip, shape] + 1
        n, which = np.nonzero(((-reach < x) & (x < size + reach) & (-reach < y) & (y < size + reach)).T)  # in order
        first, second = two_colours(kinds[..., 1].ravel(), looks[..., 0].ravel())
        one = (clip * 3 + shape)[n]
        figures = Figures(
            picture=(clip * t + frame)[n],
            shape=kinds[..., 0].ravel()[one],
            texture=kinds[..., 2].ravel()[one],
            x=x[which, n].astype(np.float32),
            y=y[which, n].astype(np.float32),
            radius=radius.ravel()[one].astype(np.float32),
            angle=(2 * np.pi * looks[..., 1].ravel())[one].astype(np.float32),
            period=(size * (0.09 + 0.05 * looks[..., 2].ravel()))[one].astype(np.float32),
            first=first[one],
            second=second[one],
        )
        canvas = self._grounds.paint(ground).repeat(t, axis=0)
        paint(canvas, figures.picture, stamps(figures), np.ones(len(figures), bool))
        return (canvas * 255 + 0.5).astype(np.uint8).reshape(b, t, 3, size, size), label


def _track(kinds: Int[np.ndarray, "3"], radius: float, places: Float64[np.ndarray, "t 2"]) -> Track:
    shape, colour, texture = (names[kind] for names, kind in zip(_NAMES, kinds.tolist(), strict=True))
    return Track(shape, colour, texture, float(radius), tuple((x, y) for x, y in places.tolist()))


def paths(
    motion: Int[np.ndarray, "b"], chance: Float64[np.ndarray, "b 10"], frames: int
) -> Float64[np.ndarray, "b 3 t 2"]:
    """Where the shapes of each clip are, in parts of the picture: A, B, and the one that stands by, or NaN.

    `motion` is the place in `MOTIONS`, `chance` numbers in [0, 1).
    """
    time = np.arange(frames)
    start, stood = chance[:, None, 0:2], chance[:, None, 2:4]
    length, direction = 0.28 + 0.10 * chance[:, 4, None], 2 * np.pi * chance[:, 5, None]
    speed = (0.55 + 0.20 * chance[:, 6, None]) / (frames - 1)  # of a picture's width, for each frame
    along = speed * time
    period = (0.6 + 0.3 * chance[:, 7, None]) * frames
    phase = time / period + chance[:, 8, None]
    to_and_fro = speed * period * (np.abs((phase % 1) - 0.5) - 0.25)
    turn = 2 * np.pi * (0.5 + 0.3 * chance[:, 6, None]) * time / (frames - 1)
    half = np.pi * time / (frames - 1) * np.where(chance[:, 8, None] < 0.5, 1, -1)
    kind = motion[:, None]
    zero = np.zeros_like(along)
    sideways = chance[:, 7, None] * 10 % 1 < 0.5
    across = np.select([kind == 0, kind == 1, (kind == 4) & sideways], [-along, along, to_and_fro], zero)
    down = np.select([kind == 2, kind == 3, (kind == 4) & ~sideways], [-along, along, to_and_fro], zero)
    angle = direction + np.select([kind == 5, kind == 6, kind == 7], [turn, -turn, half], zero)  # y points down
    apart = length[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    a = start + np.stack([across, down], axis=-1) - np.where(kind[..., None] == 7, apart / 2, 0)
    bystander = np.where(chance[:, 9, None, None] < 0.5, stood, np.nan) + np.zeros_like(a)
    return np.stack([a, a + apart, bystander], axis=1) % 1
