"""Scenes: a generated world of coloured shapes, endless and seeded, with everything that is to be known of a picture.

Shapes of all colours, textures and sizes lie over each other on varied backgrounds. Of each picture is given: how many
there are of each shape, their boxes and masks of visible pixels, a map of classes, each one's attributes, a caption.
Picture k depends on the seed and k alone. What is hidden almost whole is not there: see `Scenes.least_visible`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, compress, islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int, UInt8
from torch import Tensor

from glassformer.foundation.counting import draws
from glassformer.foundation.suggest import did_you_mean
from glassformer.image.backgrounds import NUM_DRAWS as GROUND
from glassformer.image.backgrounds import Backgrounds, named
from glassformer.image.captions import Thing, caption
from glassformer.image.objects import Objects, boxes_of
from glassformer.image.piles import Pile, paint, piled
from glassformer.image.shapes import COLOURS, SHAPES, TEXTURES, Figures, stamps, two_colours

SIZES = {"small": (0.085, 0.115), "medium": (0.135, 0.165), "large": (0.19, 0.23)}
"""The radius of each, from and to, in parts of the picture."""

_COLOURS, _SIZES = tuple(COLOURS), tuple(SIZES)
_TENSORS, _TUPLES = ("pictures", "semantic", "counts"), ("objects", "captions", "things", "backgrounds")
_RADII = np.array(list(SIZES.values()))
_OWN = 9  # numbers drawn for each object
_WORDS = 6  # and for a caption
_AT_ONCE = 64  # pictures drawn together, so that their floats stay in the cache


@dataclass(frozen=True, kw_only=True)
class SceneBatch:
    """Pictures, and what is on them.

    pictures  red, green, blue
    objects   of each picture: class (its place in `Scenes.shapes`), box and mask of visible pixels; later ones in front
    semantic  0 for the background, else the visible object's class + 1
    counts    objects of each class
    things    each object's attributes, in the order of `objects`
    """

    pictures: UInt8[Tensor, "b 3 y x"]
    objects: tuple[Objects, ...]
    semantic: UInt8[Tensor, "b y x"]
    counts: Int[Tensor, "b n"]
    captions: tuple[str, ...]
    things: tuple[tuple[Thing, ...], ...]
    backgrounds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Pictures of `size` × `size` with `least` to `most` shapes each, of the kinds `shapes`.

    An object stays where at least the part `least_visible` of it can be seen, neither hidden nor beyond the picture's
    edge; others are left out of the picture, not only of what is said of it, so there may be fewer than `least`.
    """

    size: int = 64
    seed: int = 0
    least: int = 1
    most: int = 5
    shapes: tuple[str, ...] = SHAPES
    least_visible: float = 0.35
    _grounds: Backgrounds = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.size < 24:
            raise ValueError(f"size={self.size} is too small for shapes to be told apart; expected 24 or more")
        if not 0 <= self.least <= self.most <= 12:
            raise ValueError(f"least={self.least} and most={self.most} objects; expected 0 ≤ least ≤ most ≤ 12")
        if not 0 < self.least_visible <= 1:
            raise ValueError(f"least_visible={self.least_visible} is a part of an object: above 0, and at most 1")
        for shape in self.shapes:
            if shape not in SHAPES:
                raise ValueError(f"there is no shape {shape!r}{did_you_mean(shape, SHAPES)}")
        if not self.shapes or len(set(self.shapes)) < len(self.shapes):
            raise ValueError(f"shapes={self.shapes}; expected one or more, each once")
        draws(self.seed, [], 0)
        object.__setattr__(self, "_grounds", Backgrounds(self.size, self.seed))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes: of the shapes."""
        return self.shapes

    def batch(self, numbers: Sequence[int]) -> SceneBatch:
        """The pictures of these numbers. ValueError for a negative one, and for none at all."""
        if not len(numbers):
            raise ValueError("a batch of no numbers has no pictures; give at least one")
        parts = [self._part(numbers[at : at + _AT_ONCE]) for at in range(0, len(numbers), _AT_ONCE)]
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
        listed = {name: tuple(chain.from_iterable(getattr(part, name) for part in parts)) for name in _TUPLES}
        return SceneBatch(**joined, **listed)  # type: ignore[arg-type]

    def _part(self, numbers: Sequence[int]) -> SceneBatch:
        chance = draws(self.seed, numbers, 1 + GROUND + _WORDS + _OWN * self.most)
        number, ground, words, own = np.split(chance, np.cumsum([1, GROUND, _WORDS]), axis=1)
        num_objects = self.least + (number[:, 0] * (self.most - self.least + 1)).astype(np.int64)
        picture, slot = np.nonzero(np.arange(self.most) < num_objects[:, None])
        figures, kinds = self._figures(picture, own.reshape(len(chance), self.most, _OWN)[picture, slot])
        drawn = stamps(figures)
        pile = piled(drawn, picture, slot, (len(chance), self.most, self.size), self.least_visible)
        canvas = self._grounds.paint(ground)
        paint(canvas, picture, drawn, pile.stays)
        things = _by_picture(self._things(figures, kinds, pile), pile)
        grounds = named(ground)
        said = zip(things, grounds, pile.hides, words.tolist(), strict=True)
        return SceneBatch(
            pictures=torch.from_numpy((canvas * 255 + 0.5).astype(np.uint8)),
            captions=tuple(caption(some, ground, self.size, hides, chance) for some, ground, hides, chance in said),
            things=tuple(things),
            backgrounds=tuple(grounds),
            **self._labels(pile, picture, slot, kinds[:, 0]),
        )

    def _figures(
        self, picture: Int[np.ndarray, "n"], own: Float64[np.ndarray, "n k"]
    ) -> tuple[Figures, Int[np.ndarray, "n 4"]]:
        """What is to be drawn; and of each its class, colour, texture and size."""
        options = np.array([len(self.shapes), len(COLOURS), len(TEXTURES), len(SIZES)])
        kinds = (own[:, :4] * options).astype(np.int64)
        low, high = _RADII[kinds[:, 3]].T
        radius = self.size * (low + (high - low) * own[:, 4])
        margin = 0.8 * radius
        x, y = (margin + (self.size - 2 * margin) * at for at in own[:, 5:7].T)
        first, second = two_colours(kinds[:, 1], own[:, 8])
        lengths = {"x": x, "y": y, "radius": radius, "angle": 2 * np.pi * own[:, 7],
                   "period": self.size * (0.075 + 0.03 * own[:, 8])}  # fmt: skip
        figures = Figures(
            picture=picture,
            shape=np.array([SHAPES.index(shape) for shape in self.shapes])[kinds[:, 0]],
            texture=kinds[:, 2],
            first=first,
            second=second,
            **{name: value.astype(np.float32) for name, value in lengths.items()},
        )
        return figures, kinds

    def _things(self, figures: Figures, kinds: Int[np.ndarray, "n 4"], pile: Pile) -> list[Thing]:
        words = zip((self.shapes, _COLOURS, TEXTURES, _SIZES), kinds.T.tolist(), strict=True)
        named = ([names[kind] for kind in column] for names, column in words)
        lengths = (figures.x, figures.y, figures.radius, figures.angle, pile.visible)
        return [Thing(*one) for one in zip(*named, *(length.tolist() for length in lengths), strict=True)]

    def _labels(
        self, pile: Pile, picture: Int[np.ndarray, "n"], slot: Int[np.ndarray, "n"], kind: Int[np.ndarray, "n"]
    ) -> dict[str, Any]:
        b, n = len(pile.owner), len(self.shapes)
        of_slot = np.zeros((b, 1 + self.most), np.uint8)
        of_slot[picture, slot + 1] = kind + 1
        semantic = of_slot[np.arange(b)[:, None, None], pile.owner]
        stays = pile.stays
        picture, slot, kind = picture[stays], slot[stays], kind[stays]
        masks = torch.from_numpy(pile.owner[picture] == (slot + 1)[:, None, None])
        pieces = (each.split(pile.counts.tolist()) for each in (torch.from_numpy(kind), boxes_of(masks), masks))
        return {
            "semantic": torch.from_numpy(semantic),
            "counts": torch.from_numpy(np.bincount(picture * n + kind, minlength=b * n).reshape(b, n)),
            "objects": tuple(Objects(classes=c, boxes=x, masks=m) for c, x, m in zip(*pieces, strict=True)),
        }


def _by_picture(things: Sequence[Thing], pile: Pile) -> list[tuple[Thing, ...]]:
    there = compress(things, pile.stays.tolist())
    return [tuple(islice(there, count)) for count in pile.counts.tolist()]
