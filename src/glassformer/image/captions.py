"""Sentences about a generated picture: what is on it, of which colour, texture and size, and where to each other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ADJECTIVES = {"plain": "plain", "stripes": "striped", "dots": "dotted", "checker": "checkered", "gradient": "shaded"}
_LISTS = (
    "{things} on a {ground} background.",
    "On a {ground} background: {things}.",
    "The picture shows {things} on a {ground} background.",
    "There {is} {things}, and behind {them} a {ground} background.",
)
_RELATIONS = ("{A} is {where} {b}.", "{A} can be seen {where} {b}.", "{A} stands {where} {b}.")
_HIDDEN = ("{A} hides a part of {b}.", "{A} is in front of {b}.", "{B} is partly behind {a}.")
_ALONE = ("It is {where}.", "It stands {where}.", "You find it {where}.")


class Thing(NamedTuple):
    """One object of a scene, in words and numbers: enough to draw it, to speak of it, or to give it a sound.

    `x`, `y` (its centre), `radius` are in pixels, `angle` in radians; `visible` is the part of it that is not hidden.
    """

    shape: str
    colour: str
    texture: str
    size: str
    x: float
    y: float
    radius: float
    angle: float
    visible: float


def caption(
    things: Sequence[Thing], ground: str, size: int, hides: Mapping[tuple[int, int], float], chance: Sequence[float]
) -> str:
    """One to three sentences. `hides[i, j]` is the part of thing j that thing i covers; `chance`: 6 numbers in [0, 1).

    Every word is true of the picture: "left of" and the like are said of centres that clearly differ, "in front of"
    where a tenth or more is hidden, and "the red star" only where there is one red star.
    """
    if not things:
        return _capital(("nothing on a {} background.", "an empty {} background.")[chance[0] < 0.5].format(ground))
    listed = _counted(things) if len(things) > 2 and chance[1] < 0.4 else [described(thing) for thing in things]
    one = len(things) == 1
    sentences = [
        _pick(_LISTS, chance[0]).format(
            things=_joined(listed), ground=ground, **{"is": "is" if one else "are"}, them="it" if one else "them"
        )
    ]
    if one and chance[2] < 0.7:
        sentences.append(_pick(_ALONE, chance[3]).format(where=place(things[0], size)))
    elif not one:
        sentences += _related(things, size, hides, chance)
    return " ".join(_capital(sentence) for sentence in sentences)


def place(thing: Thing, size: int) -> str:
    """Where in a picture of `size` its centre is: in one of nine parts."""
    across, down = (min(int(3 * at / size), 2) for at in (thing.x, thing.y))
    if across == down == 1:
        return "in the middle"
    side = ("left", "", "right")[across]
    return f"on the {side}" if down == 1 else f"at the {('top', '', 'bottom')[down]} {side}".rstrip()


def relation(first: Thing, second: Thing, size: int) -> str | None:
    """Where the first is, seen from the second; None where neither direction is clear."""
    across, down = first.x - second.x, first.y - second.y
    if max(abs(across), abs(down)) < size / 6 or 2 * min(abs(across), abs(down)) > max(abs(across), abs(down)):
        return None
    if abs(across) > abs(down):
        return "to the left of" if across < 0 else "to the right of"
    return "above" if down < 0 else "below"


def described(thing: Thing) -> str:
    """"a large red striped star"."""  # fmt: skip
    return _described(thing.size, thing.colour, thing.texture, thing.shape)


@lru_cache(4096)
def _described(size: str, colour: str, texture: str, shape: str) -> str:
    return f"a {size} {colour} {_ADJECTIVES[texture]} {shape}"


def plural(shape: str) -> str:
    """"stars", "crosses"."""  # fmt: skip
    return shape + ("es" if shape.endswith("s") else "s")


def _counted(things: Sequence[Thing]) -> list[str]:
    counts = Counter(thing.shape for thing in things)
    return [f"a {shape}" if n == 1 else f"{NUMBERS[n]} {plural(shape)}" for shape, n in counts.items()]


def _related(
    things: Sequence[Thing], size: int, hides: Mapping[tuple[int, int], float], chance: Sequence[float]
) -> list[str]:
    """Up to two sentences: of a pair where one hides the other, and of a pair that stand clearly apart."""
    said = []
    covering = [pair for pair, share in hides.items() if share >= 0.1]
    if covering and chance[2] < 0.7:
        names = _names(things, _pick(covering, chance[3]))
        said += [_said(_pick(_HIDDEN, chance[4]), names)] if names else []
    start = int(chance[5] * len(things))
    i, j = start, (start + 1) % len(things)
    where = relation(things[i], things[j], size)
    if where and (names := _names(things, (i, j))):
        said.append(_said(_pick(_RELATIONS, chance[4]), names, where))
    return said


def _said(template: str, names: tuple[str, str], where: str = "") -> str:
    a, b = names
    return template.format(A=a, a=a, B=b, b=b, where=where)


def _names(things: Sequence[Thing], pair: tuple[int, int]) -> tuple[str, str] | None:
    """The shortest words that mean one thing only, for both of a pair; None where none do."""
    found = [_name(things, things[i]) for i in pair]
    return None if None in found else (found[0], found[1])  # type: ignore[return-value]


def _name(things: Sequence[Thing], thing: Thing) -> str | None:
    if sum(other.shape == thing.shape for other in things) == 1:
        return f"the {thing.shape}"
    if sum(other[:2] == thing[:2] for other in things) == 1:
        return f"the {thing.colour} {thing.shape}"
    if sum(other[:4] == thing[:4] for other in things) == 1:
        return f"the{described(thing)[1:]}"
    return None


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _pick(options: Sequence, chance: float):
    return options[int(chance * len(options))]


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
