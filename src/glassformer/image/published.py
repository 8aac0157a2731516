"""Sets of pictures of Hugging Face's hub, by their package `datasets`; a picture is decoded when it is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from glassformer.foundation.suggest import did_you_mean
from glassformer.image.datasets import PictureSet, Record, Records, as_uint8, fraction_of, put_aside, take
from glassformer.image.files import as_tensor
from glassformer.image.objects import Objects
from glassformer.image.processor import IGNORED_CLASS

COLUMNS = {
    "picture": ("picture", "image", "img", "pixel_values"),
    "label": ("label", "labels", "fine_label", "class"),
    "objects": ("objects", "annotations"),
    "mask": ("mask", "annotation", "label", "labels", "segmentation_mask"),
}
"""What is needed -> columns that have it, the first that there is; an option names another."""

WHAT = {"classification": "label", "detection": "objects", "semantic": "mask"}


def from_hub(name: str, kind: str, options: dict[str, str], seed: int) -> PictureSet:
    """The parts "train" and "validation", or else "test", or else a tenth put aside.

    Objects are lists under `bbox` (x, y, width, height in pixels, cut at the picture's edge) and `category`.

    Raises ImportError where `datasets` is not installed, OSError where the set cannot be fetched, ValueError where it
    has no part "train", or not the columns.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("hf: needs the package datasets: pip install 'glassformer[datasets]'") from error
    if kind not in WHAT:
        raise ValueError(f"{name!r} is read for {', '.join(WHAT)}; kind={kind!r} is read from COCO files")
    take(options, ("picture", WHAT[kind], "validation"), name)
    path, _, config = name.removeprefix("hf:").partition(":")
    try:
        found = datasets.load_dataset(path, config or None)
    except (OSError, ValueError, RuntimeError) as error:
        raise OSError(f"cannot load the data set {name!r}: {error}") from error
    parts = {str(split): rows for split, rows in found.items()}
    if "train" not in parts:
        raise ValueError(f"the data set {name!r} has {', '.join(parts)}; a part 'train' is needed")
    rows = parts["train"]
    columns = {role: _column(role, rows, options, name) for role in ("picture", WHAT[kind])}
    fraction = fraction_of(options.get("validation"), 0.1)
    said = "validation" in options
    held = options.get("validation") if fraction is None else None
    if held is None and not said:
        held = next((split for split in ("validation", "test") if split in parts), None)
    if held is not None and held not in parts:
        raise ValueError(f"validation={held!r} is no part of {name!r}{did_you_mean(held, parts)}")
    labels = _labels(rows, columns[WHAT[kind]], kind)

    def read(place: tuple[str, int]) -> Record:
        part, number = place
        return _record(parts[part][number], columns, kind, f"{name}, {part} {number}")

    if held is None:
        keys: Sequence[Any] = list(rows[columns["label"]]) if kind == "classification" else [0] * len(rows)
        train, validation = put_aside([("train", n) for n in range(len(rows))], keys, fraction or 0.1, seed)
    else:
        train = [("train", n) for n in range(len(rows))]
        validation = [(held, n) for n in range(len(parts[held]))]
    return PictureSet(name, kind, labels, Records(train, read), Records(validation, read))


def _column(role: str, rows: Any, options: Mapping[str, str], name: str) -> str:
    wanted = (options[role],) if role in options else COLUMNS[role]
    column = next((column for column in wanted if column in rows.column_names), None)
    if column is None:
        has = ", ".join(rows.column_names)
        raise ValueError(f"{name!r} has the columns {has}; which holds the {role}? say so: '{name}?{role}=COLUMN'")
    return column


def _labels(rows: Any, column: str, kind: str) -> tuple[str, ...]:
    """The names that the set gives its classes; where it gives none, numbers, for which all are looked at."""
    feature = rows.features[column]
    if kind == "detection":
        inner = getattr(feature, "feature", feature)
        feature = inner["category"] if isinstance(inner, Mapping) and "category" in inner else None
        feature = getattr(feature, "feature", feature)
    if names := getattr(feature, "names", None):
        return tuple(names)
    if kind == "classification":
        highest = max(rows[column])
    elif kind == "detection":
        highest = max((number for objects in rows[column] for number in objects["category"]), default=0)
    else:
        counted = (mask[mask != IGNORED_CLASS] for mask in map(_map, rows[column]))
        highest = max((int(numbers.max()) for numbers in counted if len(numbers)), default=0)
    return tuple(f"class {number}" for number in range(int(highest) + 1))


def _record(row: Mapping[str, Any], columns: Mapping[str, str], kind: str, place: str) -> Record:
    try:
        picture = as_tensor(row[columns["picture"]], name=place)
        if kind == "classification":
            return Record(picture=picture, place=place, label=int(row[columns["label"]]))
        if kind == "semantic":
            return Record(picture=picture, place=place, semantic=_map(row[columns["mask"]]))
        objects = row[columns["objects"]]
        boxes = torch.tensor(objects["bbox"], dtype=torch.float32).reshape(-1, 4)
        boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)  # from x, y, width, height
        edge = boxes.new_tensor([picture.shape[2], picture.shape[1]]).repeat(2)
        boxes = torch.minimum(boxes, edge).clamp(min=0)
        kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        classes = torch.tensor(objects["category"], dtype=torch.long)
        return Record(picture=picture, place=place, objects=Objects(classes=classes[kept], boxes=boxes[kept]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place} is not what a set for {kind} has: {error}") from error


def _map(mask: Any) -> torch.Tensor:
    numbers = np.array(mask)
    if numbers.ndim != 2 or numbers.max(initial=0) > 255:
        raise ValueError(f"a map of classes has one channel and numbers up to 255; this is {numbers.shape}")
    return as_uint8(numbers)
