"""Stamps laid over each other: which is seen at each pixel, what each hides of the others, and what is left to see."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, UInt8

from glassformer.image.shapes import Stamp


@dataclass(frozen=True, kw_only=True)
class Pile:
    """What is seen of `n` stamps on `b` pictures.

    owner    0 for the background, else 1 + the slot of the stamp that is seen there
    stays    whether a stamp is on its picture at all
    visible  the part of each that is seen; of those that do not stay, what would have been
    counts   stamps that stay, for each picture
    hides    for each picture, (i, j) -> the part of its j-th staying stamp that the i-th covers
    """

    owner: UInt8[np.ndarray, "b y x"]
    stays: Bool[np.ndarray, "n"]
    visible: Float64[np.ndarray, "n"]
    counts: Int[np.ndarray, "b"]
    hides: list[dict[tuple[int, int], float]]


def piled(
    drawn: Sequence[Stamp],
    picture: Int[np.ndarray, "n"],
    slot: Int[np.ndarray, "n"],
    shape: tuple[int, int, int],
    least_visible: float,
) -> Pile:
    """Lay the stamps on their pictures in order, each in its slot; those of which too little is seen do not stay.

    A stamp has the pixels that it covers by half or more. `shape` is pictures, slots, and the pictures' size.
    """
    b, most, size = shape
    solid = [stamp.cover >= 0.5 for stamp in drawn]
    whole = np.ones((b, most), np.int64)
    whole[picture, slot] = [max(np.count_nonzero(each), 1) for each in solid]
    owner = np.zeros((b, size, size), np.uint8)
    taken = np.zeros((b, most, 1 + most), np.int64)
    places = list(zip(picture.tolist(), slot.tolist(), strict=True))
    everything = np.ones(len(drawn), bool)
    _lay(owner, taken, drawn, solid, places, everything)
    visible = _visible(taken, whole)[picture, slot]
    stays = visible >= least_visible
    if not stays.all():
        again = np.zeros(b, bool)
        again[picture[~stays]] = True
        owner[again], taken[again] = 0, 0
        _lay(owner, taken, drawn, solid, places, stays & again[picture])
        visible = np.where(stays, _visible(taken, whole)[picture, slot], visible)
    there = np.zeros((b, most), bool)
    there[picture, slot] = stays
    hides: list[dict[tuple[int, int], float]] = [{} for _ in range(b)]
    rank = there.cumsum(axis=1) - 1
    share = taken[:, :, 1:] / whole[:, None]
    for k, i, j in np.argwhere(share > 0).tolist():
        hides[k][int(rank[k, i]), int(rank[k, j])] = float(share[k, i, j])
    return Pile(owner=owner, stays=stays, visible=visible, counts=there.sum(axis=1), hides=hides)


def _visible(taken: Int[np.ndarray, "b most slots"], whole: Int[np.ndarray, "b most"]) -> Float64[np.ndarray, "b most"]:
    """What each took, less what the others took of it."""
    left = taken.sum(axis=2) - taken[:, :, 1:].sum(axis=1)
    return left / whole


def _lay(
    owner: UInt8[np.ndarray, "b y x"],
    taken: Int[np.ndarray, "b most slots"],
    drawn: Sequence[Stamp],
    solid: Sequence[Bool[np.ndarray, "_ _"]],
    places: Sequence[tuple[int, int]],
    which: Bool[np.ndarray, "n"],
) -> None:
    """Write the stamps' slots into `owner`, and whose pixels each took into `taken`."""
    size, slots = owner.shape[1], taken.shape[2]
    for i in np.flatnonzero(which).tolist():
        picture, slot = places[i]
        rows, columns, own_rows, own_columns = drawn[i].inside(size)
        region, inside = owner[picture, rows, columns], solid[i][own_rows, own_columns]
        taken[picture, slot] = np.bincount(region[inside], minlength=slots)
        region[inside] = slot + 1


def paint(
    canvas: Float32[np.ndarray, "b 3 y x"],
    picture: Int[np.ndarray, "n"],
    drawn: Sequence[Stamp],
    which: Bool[np.ndarray, "n"],
) -> None:
    """Blend the stamps that `which` marks into their pictures, in order."""
    size = canvas.shape[-1]
    for i in np.flatnonzero(which).tolist():
        rows, columns, own_rows, own_columns = drawn[i].inside(size)
        region = canvas[picture[i], :, rows, columns]
        step = drawn[i].paint[:, own_rows, own_columns] - region
        step *= drawn[i].cover[own_rows, own_columns]
        region += step
