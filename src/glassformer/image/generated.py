"""Scenes as a set of pictures: each is drawn when it is asked for, and always the same."""

from collections.abc import Mapping

from glassformer.image.datasets import PictureSet, Record, Records, needs_kind, take

HELD = 1 << 30  # numbers from here on are to validate on: no set to learn from, however large, reaches them


def whole_numbers(options: Mapping[str, str], defaults: Mapping[str, int], source: str) -> dict[str, int]:
    """The options of a set that is made on the spot, each a whole number. Raises ValueError for others."""
    take(dict(options), list(defaults), source)
    for option, said in options.items():
        if not said.isdecimal() or (int(said) < 1 and option != "seed"):
            raise ValueError(f"{source!r} has {option}={said}; expected a whole number, 1 or more")
    return {**defaults, **{option: int(said) for option, said in options.items()}}


def parts_of(train: int, validation: int) -> tuple[range, range]:
    """Numbers of what is learned from, and of what is validated on."""
    return range(train), range(HELD, HELD + validation)


def scenes(name: str, kind: str, options: dict[str, str], seed: int) -> PictureSet:
    """`glassformer.image.scenes.Scenes`; the pictures depend on the option `seed`, not on that of a run."""
    from glassformer.image.scenes import Scenes

    needs_kind(kind, ("detection", "instances", "semantic"), name)
    said = whole_numbers(options, {"size": 64, "train": 10_000, "validation": 500, "seed": 0, "most": 5}, name)
    world = Scenes(size=said["size"], seed=said["seed"], most=said["most"])

    def read(number: int) -> Record:
        drawn = world.batch([number])
        place = f"scene {number} of seed {world.seed}"
        if kind == "semantic":
            return Record(picture=drawn.pictures[0], semantic=drawn.semantic[0], place=place)
        return Record(picture=drawn.pictures[0], objects=drawn.objects[0], place=place)

    labels = ("background", *world.classes) if kind == "semantic" else world.classes
    train, validation = parts_of(said["train"], said["validation"])
    return PictureSet(name, kind, labels, Records(train, read), Records(validation, read))
