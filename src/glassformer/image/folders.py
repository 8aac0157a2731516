"""Sets of pictures in folders: a folder for each class, and pairs of a picture and its mask; and the digits."""

from collections.abc import Sequence
from pathlib import Path

import torch

from glassformer.image.datasets import (
    PictureSet,
    Record,
    Records,
    checked_headers,
    fraction_of,
    needs_kind,
    put_aside,
    read_labels,
    take,
)
from glassformer.image.files import SUFFIXES, picture_size, read_image, read_mask
from glassformer.image.processor import IGNORED_CLASS
from glassformer.text.rows import PAIR, read_rows

PARTS = {"train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test",)}
"""Folders that hold a part of a set, in the order they are looked for."""

Labelled = tuple[Path, int]
Pair = tuple[Path, Path]


def digits(name: str, kind: str, options: dict[str, str], seed: int) -> PictureSet:
    """Handwritten digits, grey, 8 × 8; `data.images / 16` in [0, 1] (Alpaydin and Kaynak 1998, by scikit-learn)."""
    needs_kind(kind, ("classification",), name)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("digits come with scikit-learn: pip install 'glassformer[vision]'") from error
    images, labels = (torch.as_tensor(half) for half in load_digits(return_X_y=True))
    pictures = (images.reshape(-1, 1, 8, 8) * (255 / 16)).round().to(torch.uint8)
    targets: list[int] = labels.tolist()
    fraction = fraction_of(take(options, ("validation",), name).get("validation"), 0.2)
    if fraction is None:
        raise ValueError(f"digits have validation={options['validation']!r}; expected a number above 0, up to 1")

    def read(index: int) -> Record:
        return Record(picture=pictures[index].expand(3, 8, 8), label=targets[index], place=f"digit {index}")

    train, validation = put_aside(range(len(targets)), targets, fraction, seed)
    names = tuple(str(digit) for digit in range(10))
    return PictureSet(name, kind, names, Records(train, read), Records(validation, read))


def folder_of_classes(name: str, kind: str, options: dict[str, str], seed: int) -> PictureSet:
    """root/class/x.png, or root/train/class/x.png, root/validation/class/x.png and root/test/class/x.png."""
    needs_kind(kind, ("classification",), name)
    labels, *parts = parts_of_classes(name, options, seed, SUFFIXES)
    checked_headers([path for part in parts for path, _ in part], picture_size)
    train, validation, test = (Records(part, _labelled) for part in parts)
    return PictureSet(name, kind, labels, train, validation, test)


def _labelled(entry: Labelled) -> Record:
    path, label = entry
    return Record(picture=read_image(path), label=label, place=str(path))


def parts_of_classes(
    name: str, options: dict[str, str], seed: int, suffixes: Sequence[str]
) -> tuple[tuple[str, ...], list[Labelled], list[Labelled], list[Labelled]]:
    """The classes' names and the files to learn from, to validate and to test on, each with its class, of a folder of
    folders. Where it has a part to test on, and none to validate on, the former is taken for the latter.

    Raises ValueError where there are no classes, a class is empty, or a class to validate on is not learned.
    """
    root = Path(name).expanduser()
    said = take(options, ("validation",), name).get("validation")
    train = part_of(root, "train") or root
    fraction = fraction_of(said, 0.1)
    held = Path(said).expanduser() if said is not None and fraction is None else None
    if held is not None and not held.is_dir():
        raise FileNotFoundError(f"validation={held} is no folder here, and no number between 0 and 1")
    test = part_of(root, "test") if train != root else None
    if said is None and train != root:
        held = part_of(root, "validation")
        held, test = (test, None) if held is None else (held, test)
    labels, entries = classes_of(train, suffixes)
    tested = [] if test is None else _of_these(test, labels, train, suffixes)
    if held is not None:
        return labels, entries, _of_these(held, labels, train, suffixes), tested
    return labels, *put_aside(entries, [label for _, label in entries], fraction or 0.1, seed), tested


def _of_these(held: Path, labels: Sequence[str], train: Path, suffixes: Sequence[str]) -> list[Labelled]:
    """The files of a folder of folders, with their classes as `labels` number them."""
    theirs, others = classes_of(held, suffixes)
    if strange := sorted(set(theirs) - set(labels)):
        raise ValueError(f"{held} has the class {strange[0]!r}, which {train} has not; it cannot be learned")
    return [(path, labels.index(theirs[label])) for path, label in others]


def part_of(root: Path, part: str) -> Path | None:
    """The folder of `root` that holds a part, by one of its names; None where there is none."""
    return next((root / name for name in PARTS[part] if (root / name).is_dir()), None)


def classes_of(root: Path, suffixes: Sequence[str]) -> tuple[tuple[str, ...], list[Labelled]]:
    """The folders of `root` in alphabetical order, and their files of these suffixes; others, and hidden ones, are not.

    Raises ValueError for a folder without folders, and for a class without files.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise ValueError(f"{root} holds no folders; expected one for each class, of files ({', '.join(suffixes)})")
    entries: list[Labelled] = []
    for label, folder in enumerate(folders):
        files = files_below(folder, suffixes)
        if not files:
            raise ValueError(f"{folder} holds no files of the class {folder.name!r} ({', '.join(suffixes)})")
        entries += [(path, label) for path in files]
    return tuple(folder.name for folder in folders), entries


def files_below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder and of its folders, in order; hidden ones are not among them."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def picture_mask_pairs(name: str, kind: str, options: dict[str, str], seed: int) -> PictureSet:
    """Pictures and their maps of classes: "PICTURES::MASKS", or a .csv with the columns `picture` and `mask`."""
    needs_kind(kind, ("semantic",), name)
    take(options, ("validation", "labels"), name)
    fraction = fraction_of(options.get("validation"), 0.1)
    train, validation = pairs_of(name), [] if fraction is not None else pairs_of(options["validation"])
    sizes = [checked_headers([pair[which] for pair in (*train, *validation)], picture_size) for which in (0, 1)]
    for (picture, mask), size, other in zip((*train, *validation), *sizes, strict=True):
        if size != other:
            raise ValueError(f"{picture} is {size[0]} × {size[1]} pixels, and its mask {mask} {other[0]} × {other[1]}")
    if "labels" in options:
        labels = read_labels(Path(options["labels"]).expanduser())
    else:
        labels = tuple(f"class {number}" for number in range(_classes(train + validation)))
    if fraction is not None:
        train, validation = put_aside(train, [0] * len(train), fraction, seed)

    def read(pair: Pair) -> Record:
        picture, mask = read_image(pair[0]), read_mask(pair[1])
        highest = int(mask[mask != IGNORED_CLASS].amax()) if (mask != IGNORED_CLASS).any() else 0
        if highest >= len(labels):
            raise ValueError(f"{pair[1]} holds the class {highest}; there are {len(labels)}, counted from 0")
        return Record(picture=picture, semantic=mask, place=str(pair[0]))

    return PictureSet(name, kind, labels, Records(train, read), Records(validation, read))


def pairs_of(name: str) -> list[Pair]:
    """The files that belong together. Raises where a picture has no mask, or a mask no picture."""
    if PAIR not in name:
        place = Path(name).expanduser().parent
        rows = read_rows(name, ("picture", "mask"))
        lacking = next((column for column in ("picture", "mask") if column not in rows[0].values), None)
        if lacking is not None:
            raise ValueError(f"{name} has the columns {', '.join(rows[0].values)}, and no {lacking!r}")
        return [(place / row.values["picture"].strip(), place / row.values["mask"].strip()) for row in rows]
    halves = []
    for half in name.split(PAIR):
        folder = Path(half).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"{half!r} is no folder here; expected PICTURES{PAIR}MASKS, two folders")
        files = files_below(folder, SUFFIXES)
        halves.append({path.relative_to(folder).with_suffix(""): path for path in files})
        if len(halves[-1]) < len(files):
            raise ValueError(f"{folder} has two files whose names differ in their suffix alone; pairs go by the name")
    if len(halves) != 2 or not halves[0]:
        raise ValueError(f"{name!r} holds no pictures; expected PICTURES{PAIR}MASKS, two folders")
    pictures, masks = halves
    for lonely, where in ((pictures.keys() - masks.keys(), "mask"), (masks.keys() - pictures.keys(), "picture")):
        if lonely:
            raise ValueError(f"{min(lonely)} has no {where} of this name ({len(lonely)} such in {name})")
    return [(pictures[key], masks[key]) for key in sorted(pictures)]


def _classes(pairs: Sequence[Pair]) -> int:
    """How many classes the masks count: every mask is read for it."""
    highest = 0
    for mask in checked_headers([mask for _, mask in pairs], read_mask):
        counted = mask[mask != IGNORED_CLASS]
        highest = max(highest, int(counted.amax()) if len(counted) else 0)
    return highest + 1
