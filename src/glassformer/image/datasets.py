"""Sets of pictures to learn from, in parts; pictures are read when they are asked for, all headers checked before.

pictures = load_pictures("digits")                                  # scikit-learn's, on this machine
pictures = load_pictures("flowers")                                 # a folder: flowers/rose/1.jpg, ...
pictures = load_pictures("train.json?pictures=photos&validation=val.json", kind="instances")    # COCO
pictures = load_pictures("photos::masks", kind="semantic")          # two folders, or a .csv of picture,mask
pictures = load_pictures("hf:ylecun/mnist")                         # by Hugging Face's `datasets`
pictures.train[0].picture, pictures.train[0].label
"""

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, overload

import torch
from jaxtyping import UInt8
from torch import Tensor

from glassformer.foundation.suggest import did_you_mean
from glassformer.image.objects import Objects
from glassformer.text.examples import options_of
from glassformer.text.rows import PAIR

Entry = TypeVar("Entry")
R = TypeVar("R")

KINDS = {
    "classification": "a label for each picture",
    "detection": "objects with boxes",
    "instances": "objects with boxes and masks",
    "semantic": "a map of classes",
}
"""What is known of a picture."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One picture (3, y, x) and what its set's kind knows of it; `place` says where it stands, for messages."""

    picture: UInt8[Tensor, "3 y x"]
    place: str
    label: int | None = None
    objects: Objects | None = None
    semantic: UInt8[Tensor, "y x"] | None = None


@dataclass(frozen=True)
class Records(Sequence[R], Generic[Entry, R]):
    """Records that are read one by one, when asked for, from what is known of them before."""

    entries: Sequence[Entry]
    read: Callable[[Entry], R]

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> R | Self:
        if isinstance(index, slice):
            return type(self)(self.entries[index], self.read)
        return self.read(self.entries[index])


@dataclass(frozen=True)
class PictureSet:
    """Pictures in parts; `labels` are the names of the classes, in the order of their numbers.

    `train` is empty where all are there to validate on, `test` where the source has no such part.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    train: Sequence[Record]
    validation: Sequence[Record]
    test: Sequence[Record] = ()

    def __post_init__(self) -> None:
        if not len(self.validation):
            raise ValueError(f"{self.name} has no pictures to validate on")


def load_pictures(source: str, kind: str = "classification", *, seed: int = 0) -> PictureSet:
    """The pictures that `source` names, with what the `kind` says (`KINDS`).

    - "digits": 1,797 handwritten digits of 8 × 8 pixels, which come with scikit-learn (classification);
    - "scenes": shapes on backgrounds, drawn on the spot (detection, instances, semantic);
      "?size=64&train=10000&validation=500&test=500&most=5&seed=0" are their side, how many there are (to test on:
      none), and of how many shapes;
    - a folder with a folder for each class, of pictures of any size; or with `train`, `validation` (or `val`) and
      `test` that hold these, where one of the latter two may be missing (classification);
    - a COCO .json (detection; instances by polygons or run lengths); "?pictures=FOLDER" says where the pictures are,
      else they are beside it; crowds are left out; "boxes=clip" cuts boxes at their picture's edge, which else raise;
    - "PICTURES::MASKS", two folders whose files have the same names, or a .csv with the columns `picture` and `mask`
      (semantic); the number of a pixel is its class, 255 is none; "?labels=FILE" names the classes, a line each;
    - "hf:NAME" or "hf:NAME:CONFIG": a set of Hugging Face's hub, by their package `datasets`; columns that differ in
      name from `picture`, `label`, `objects` or `mask` are given: "hf:uoft-cs/cifar10?picture=img".

    "?validation=" names what to validate on as the source is named, or which part of the pictures to put aside for it:
    0.1 where nothing is said (0.2 of the digits), of each class alike, drawn by the seed; 1 is all of them.

    Raises:
        FileNotFoundError, OSError: something is not there.
        ValueError: a file is damaged (all files' headers are looked at before), the set is empty, or does not fit the
            kind; names the file. What stands behind a header is found when the picture is asked for.
        ImportError: a package is needed for it, and named.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is nothing that pictures are known by{did_you_mean(kind, KINDS)}")
    name, options = options_of(source)
    if name == "digits":
        from glassformer.image.folders import digits as load
    elif name == "scenes":
        from glassformer.image.generated import scenes as load
    elif name.startswith("hf:"):
        from glassformer.image.published import from_hub as load
    elif PAIR in name or name.lower().endswith(".csv"):
        from glassformer.image.folders import picture_mask_pairs as load
    elif name.lower().endswith(".json"):
        from glassformer.image.coco import coco as load
    elif Path(name).expanduser().is_dir():
        from glassformer.image.folders import folder_of_classes as load
    else:
        near = did_you_mean(name, ["digits", "scenes"])
        raise FileNotFoundError(f"{name!r} is neither pictures by name nor a folder, .json or .csv here{near}")
    return load(name, kind, options, seed)


def take(options: dict[str, str], known: Sequence[str], source: str) -> dict[str, str]:
    """The options. Raises ValueError for one that the source does not have."""
    for option in options:
        if option not in known:
            raise ValueError(f"{source!r} has no option {option!r}{did_you_mean(option, known)}")
    return options


def needs_kind(kind: str, known: Sequence[str], source: str) -> None:
    """Raise ValueError where a source does not know of its pictures what is asked."""
    if kind not in known:
        has = " or ".join(known)
        raise ValueError(f"{source!r} is for {has}, not for kind={kind!r}, which needs {KINDS[kind]}")


def fraction_of(said: str | None, otherwise: float) -> float | None:
    """The part that "validation=0.2" puts aside; None where it names a file or a folder."""
    if said is None:
        return otherwise
    try:
        fraction = float(said)
    except ValueError:
        return None
    if not 0 < fraction <= 1:
        raise ValueError(f"validation={said} is no part of all; expected a number above 0, up to 1, or a name")
    return fraction


def put_aside(
    entries: Sequence[Entry], keys: Sequence[Hashable], fraction: float, seed: int
) -> tuple[list[Entry], list[Entry]]:
    """Entries to learn from and to validate on: of each key the same part, drawn by the seed; the order stays."""
    chance, groups = random.Random(seed), {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    held: set[int] = set()
    for group in groups.values():
        held |= set(chance.sample(group, round(len(group) * fraction)))
    parts: tuple[list[Any], list[Any]] = ([], [])
    for index, entry in enumerate(entries):
        parts[index in held].append(entry)
    if entries and not all(parts) and fraction < 1:
        few = f"{len(entries)} entries are too few to put {fraction:g} of them aside"
        raise ValueError(f"{few}; name what to validate on: '?validation='")
    return parts


def checked_headers(paths: Sequence[Path], look: Callable[[Path], Any]) -> list[Any]:
    """What `look` finds in each file's header. One ValueError names the bad ones, before any work is done."""
    found, bad = [], []
    for path in paths:
        try:
            found.append(look(path))
        except (OSError, ValueError) as error:
            bad.append(str(error))
    if bad:
        more = f" (and {len(bad) - 1} more of {len(paths)} files)" if len(bad) > 1 else ""
        raise ValueError(f"{bad[0]}{more}")
    return found


def read_labels(path: Path) -> tuple[str, ...]:
    """Names of classes, a line each."""
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8; the names of the classes were expected, a line each") from error
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"{path} names {len(names)} classes, {len(set(names))} different ones; expected a name a line")
    return names


def as_uint8(values: Any) -> UInt8[Tensor, "..."]:
    """A copy of what NumPy or a list holds, as bytes."""
    return torch.as_tensor(values).to(torch.uint8).clone()
