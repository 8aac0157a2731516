"""Sets of clips to learn from, in parts; clips are read when they are asked for, all headers checked before.

clips = load_clips("motions?frames=8&train=5000")                   # drawn when they are asked for
clips = load_clips("sports", frames=16)                             # a folder: sports/golf/1.mp4, ...
clips = load_clips("clips.csv", frames=16)                          # the columns `clip` and `label`
clips.train[0].clip, clips.train[0].label
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from glassformer.foundation.suggest import did_you_mean
from glassformer.image.datasets import Records, checked_headers, fraction_of, put_aside, take
from glassformer.image.folders import Labelled, parts_of_classes
from glassformer.image.generated import parts_of, whole_numbers
from glassformer.text.examples import options_of
from glassformer.text.rows import read_rows
from glassformer.video.files import SUFFIXES, clip_size, read_clip


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """One clip and its class; `place` says where it stands, for messages."""

    clip: UInt8[Tensor, "t 3 y x"]
    label: int
    place: str


@dataclass(frozen=True)
class ClipSet:
    """Clips in parts; `labels` are the names of the classes, in the order of their numbers.

    `train` is empty where all are there to validate on, `test` where the source has no such part.
    """

    name: str
    labels: tuple[str, ...]
    train: Sequence[ClipRecord]
    validation: Sequence[ClipRecord]
    test: Sequence[ClipRecord] = ()

    def __post_init__(self) -> None:
        if not len(self.validation):
            raise ValueError(f"{self.name} has no clips to validate on")


def load_clips(source: str, *, frames: int | None = None, seed: int = 0) -> ClipSet:
    """The clips that `source` names, `frames` of each, evenly over it; all where None.

    - "motions": moving shapes whose label no single frame gives away, drawn on the spot;
      "?size=32&train=10000&validation=500&test=500&seed=0" are their side and how many there are (to test on: none),
      "&plain=1" leaves patterns out; 8 frames where None is given;
    - a folder with a folder for each class, of clips; or with `train`, `validation` (or `val`) and `test` that hold
      these, where one of the latter two may be missing;
    - a .csv with the columns `clip`, a file beside it, and `label`.

    "?validation=" names another folder or .csv to validate on, or the part of the clips that is put aside: 0.1, of each
    class alike, drawn by the seed, where nothing is said; 1 is all of them.

    Raises:
        FileNotFoundError, OSError: something is not there.
        ValueError: a file is damaged (all headers are looked at before), a class or the set is empty; names it.
        ImportError: clips need the package `av`.
    """
    name, options = options_of(source)
    if frames is not None and frames < 1:
        raise ValueError(f"frames={frames} of each clip; expected 1 or more")
    if name == "motions":
        return _motions(name, options, frames or 8)
    if name.lower().endswith(".csv"):
        labels, *parts = _table(name, options, seed)
    elif Path(name).expanduser().is_dir():
        labels, *parts = parts_of_classes(name, options, seed, SUFFIXES)
    else:
        near = did_you_mean(name, ["motions"])
        raise FileNotFoundError(f"{name!r} is neither clips by name nor a folder or .csv here{near}")
    checked_headers([path for part in parts for path, _ in part], clip_size)
    read = _reader(frames)
    return ClipSet(name, labels, *(Records(part, read) for part in parts))


def _reader(frames: int | None) -> Callable[[Labelled], ClipRecord]:
    def read(entry: Labelled) -> ClipRecord:
        path, label = entry
        return ClipRecord(clip=read_clip(path, frames), label=label, place=str(path))

    return read


def _motions(name: str, options: dict[str, str], frames: int) -> ClipSet:
    from glassformer.video.motions import Motions

    defaults = {"size": 32, "train": 10_000, "validation": 500, "test": 0, "seed": 0, "frames": frames, "plain": 0}
    said = whole_numbers(options, defaults, name)
    world = Motions(size=said["size"], frames=said["frames"], seed=said["seed"], plain=bool(said["plain"]))

    def read(number: int) -> ClipRecord:
        clips, labels = world.batch([number])
        return ClipRecord(clip=clips[0], label=int(labels[0]), place=f"motion {number} of seed {world.seed}")

    parts = parts_of(said["train"], said["validation"], said["test"])
    return ClipSet(name, world.labels, *(Records(part, read) for part in parts))


def _table(name: str, options: dict[str, str], seed: int) -> tuple[tuple[str, ...], list[Labelled], list[Labelled]]:
    said = take(options, ("validation",), name).get("validation")
    fraction = fraction_of(said, 0.1)
    rows = _rows(name)
    labels = tuple(sorted({label for _, label in rows}))
    entries = [(path, labels.index(label)) for path, label in rows]
    if fraction is not None:
        return labels, *put_aside(entries, [label for _, label in entries], fraction, seed)
    held = _rows(said or name)
    if strange := sorted({label for _, label in held} - set(labels)):
        raise ValueError(f"{said} has the class {strange[0]!r}, which {name} has not; it cannot be learned")
    return labels, entries, [(path, labels.index(label)) for path, label in held]


def _rows(name: str) -> list[tuple[Path, str]]:
    rows, place = read_rows(name, ("clip", "label")), Path(name).expanduser().parent
    lacking = next((column for column in ("clip", "label") if column not in rows[0].values), None)
    if lacking is not None:
        raise ValueError(f"{name} has the columns {', '.join(rows[0].values)}, and no {lacking!r}")
    return [(place / row.values["clip"].strip(), row.values["label"].strip()) for row in rows]
