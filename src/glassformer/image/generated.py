"""Scenes as a set of pictures: each is drawn when it is asked for, and always the same."""

from collections.abc import Mapping
from dataclasses import replace

from glassformer.image.datasets import PictureSet, Record, Records, needs_kind, take

HELD = 1 << 30  # numbers from here on are to validate on, from twice as many to test on: no set reaches the next


def whole_numbers(options: Mapping[str, str], defaults: Mapping[str, int], source: str) -> dict[str, int]:
    """The options of a set that is made on the spot, whole numbers, 0 where their default is. ValueError for others."""
    take(dict(options), list(defaults), source)
    for option, said in options.items():
        if not said.isdecimal() or int(said) < min(defaults[option], 1):
            least = min(defaults[option], 1)
            raise ValueError(f"{source!r} has {option}={said}; expected a whole number, {least} or more")
    return {**defaults, **{option: int(said) for option, said in options.items()}}


def parts_of(train: int, validation: int, test: int) -> tuple[range, range, range]:
    """Numbers of what is learned from, of what is validated on, and of what is tested on."""
    return range(train), range(HELD, HELD + validation), range(2 * HELD, 2 * HELD + test)


def scenes(name: str, kind: str, options: dict[str, str], seed: int) -> PictureSet:
    """`glassformer.image.scenes.Scenes`; the pictures depend on the option `seed`, not on that of a run."""
    from glassformer.image.scenes import Scenes

    needs_kind(kind, ("detection", "instances", "semantic"), name)
    defaults = {"size": 64, "train": 10_000, "validation": 500, "test": 0, "seed": 0, "most": 5}
    said = whole_numbers(options, defaults, name)
    world = Scenes(size=said["size"], seed=said["seed"], most=said["most"])

    def read(number: int) -> Record:
        drawn = world.batch([number])
        place = f"scene {number} of seed {world.seed}"
        if kind == "semantic":
            return Record(picture=drawn.pictures[0], semantic=drawn.semantic[0], place=place)
        objects = drawn.objects[0] if kind == "instances" else replace(drawn.objects[0], masks=None)
        return Record(picture=drawn.pictures[0], objects=objects, place=place)

    labels = ("background", *world.classes) if kind == "semantic" else world.classes
    parts = parts_of(said["train"], said["validation"], said["test"])
    return PictureSet(name, kind, labels, *(Records(part, read) for part in parts))
