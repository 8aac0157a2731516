"""Annotations as the COCO data set has them: boxes, polygons and run lengths, in one .json (Lin et al. 2014).

Box `[x, y, width, height]` in pixels; a mask is a list of polygons `[x0, y0, x1, y1, ...]`, or run lengths down the
columns, which begin with zeros: `{"size": [rows, columns], "counts": ...}`, as numbers or as COCO's compressed text.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from glassformer.checkpoints.folders import read_json
from glassformer.image.datasets import (
    PictureSet,
    Record,
    Records,
    checked_headers,
    fraction_of,
    needs_kind,
    put_aside,
    take,
)
from glassformer.image.files import picture_size, read_image
from glassformer.image.objects import Objects
from glassformer.image.processor import Size

SPARE = 1.0  # pixels that a box may reach beyond its picture, by rounding; it is cut there


@dataclass(frozen=True)
class Annotated:
    """A picture's file and its annotations, not yet read."""

    path: Path
    size: Size
    annotations: tuple[Mapping[str, Any], ...]


def coco(name: str, kind: str, options: dict[str, str], seed: int) -> PictureSet:
    """Pictures and objects of one .json, or of two; classes are numbered in the order of their ids."""
    needs_kind(kind, ("detection", "instances"), name)
    take(options, ("validation", "pictures", "validation_pictures", "boxes"), name)
    if options.get("boxes", "clip") != "clip":
        raise ValueError(f"boxes={options['boxes']!r} is not known; boxes=clip cuts them at the picture's edge")
    clip = "boxes" in options
    fraction = fraction_of(options.get("validation"), 0.1)
    labels, train = annotated(Path(name).expanduser(), options.get("pictures"))
    if fraction is None:
        path = Path(options["validation"]).expanduser()
        theirs, validation = annotated(path, options.get("validation_pictures", options.get("pictures")))
        if theirs != labels:
            raise ValueError(f"{path} has other categories than {name}: {sorted(theirs.items() ^ labels.items())[:3]}")
    else:
        validation = []
    entries = [*train, *validation]
    lacking = [] if "pictures" in options else [one.path for one in entries if not one.path.is_file()]
    if lacking:
        raise FileNotFoundError(f"{lacking[0]} is not there ({len(lacking):,} of {len(entries):,} pictures are "
                                f"missing); if those of {name} are not beside it, say "
                                f"where they are: '{name}?pictures=FOLDER'")  # fmt: skip
    for entry, size in zip(entries, checked_headers([entry.path for entry in entries], picture_size), strict=True):
        if size != entry.size:
            raise ValueError(f"{entry.path} is {size[0]} × {size[1]} pixels, and {name} says {entry.size}")
    numbers = {id: number for number, id in enumerate(sorted(labels))}

    def read(entry: Annotated) -> Record:
        objects = objects_of(entry, numbers, masks=kind == "instances", clip=clip)
        return Record(picture=read_image(entry.path), objects=objects, place=str(entry.path))

    for entry in entries:
        objects_of(entry, numbers, masks=False, clip=clip)  # boxes are quick: a bad one is named now
    if fraction is not None:
        train, validation = put_aside(train, [0] * len(train), fraction, seed)
    names = tuple(labels[id] for id in sorted(labels))
    return PictureSet(name, kind, names, Records(train, read), Records(validation, read))


def annotated(path: Path, folder: str | None) -> tuple[dict[int, str], list[Annotated]]:
    """Names of the categories by their ids, and the pictures with their annotations, crowds left out."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; expected a .json of COCO annotations")
    content = read_json(path)
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            raise ValueError(f"{path} has no list {part!r}; a COCO .json has images, annotations and categories")
    place = path.parent if folder is None else Path(folder).expanduser()
    try:
        labels = {category["id"]: str(category["name"]) for category in content["categories"]}
        files = {image["id"]: image for image in content["images"]}
        sizes = {id: (int(image["height"]), int(image["width"])) for id, image in files.items()}
        found: dict[int, list[Mapping[str, Any]]] = {id: [] for id in files}
        for annotation in content["annotations"]:
            for key, known in (("image_id", files), ("category_id", labels)):
                if annotation[key] not in known:
                    named = f"{path}: annotation {annotation.get('id')}"
                    raise ValueError(f"{named} has {key}={annotation[key]}, which is not in the file")
            if not annotation.get("iscrowd"):
                found[annotation["image_id"]].append(annotation)
        paths = {id: place / image["file_name"] for id, image in files.items()}
    except KeyError as error:
        raise ValueError(f"{path} lacks {error} in one of its images, annotations or categories") from error
    return labels, [Annotated(paths[id], sizes[id], tuple(found[id])) for id in files]


def objects_of(entry: Annotated, numbers: Mapping[int, int], *, masks: bool, clip: bool) -> Objects:
    """The objects of a picture. ValueError names the annotation whose box or mask cannot be."""
    kept, boxes = [], []
    for annotation in entry.annotations:
        box = _box(annotation, entry, clip)
        if box is not None:
            kept.append(annotation)
            boxes.append(box)
    classes = torch.tensor([numbers[annotation["category_id"]] for annotation in kept], dtype=torch.long)
    found = None
    if masks:
        drawn = [mask_of(annotation, entry) for annotation in kept]
        found = torch.stack(drawn) if drawn else torch.zeros(0, *entry.size, dtype=torch.bool)
    return Objects(classes=classes, boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), masks=found)


def _box(annotation: Mapping[str, Any], entry: Annotated, clip: bool) -> tuple[float, float, float, float] | None:
    named = f"{entry.path.name}: annotation {annotation.get('id')}"
    box = annotation.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(n, int | float) for n in box)):
        raise ValueError(f"{named} has bbox={box!r}; expected [x, y, width, height]")
    x, y, width, height = map(float, box)
    if not all(map(math.isfinite, box)):
        raise ValueError(f"{named} has bbox={box}, which holds no finite numbers")
    rows, columns = entry.size
    outside = min(x, y) < -SPARE or x + width > columns + SPARE or y + height > rows + SPARE
    edges = max(x, 0.0), max(y, 0.0), min(x + width, float(columns)), min(y + height, float(rows))
    empty = edges[2] <= edges[0] or edges[3] <= edges[1]
    if clip:
        return None if empty else edges
    if outside or empty:
        why = f"reaches beyond its picture ({columns} wide, {rows} high)" if outside else "has no area"
        raise ValueError(f"{named} has bbox={box}, which {why}; '?boxes=clip' cuts boxes, and drops empty ones")
    return edges


def mask_of(annotation: Mapping[str, Any], entry: Annotated) -> Bool[Tensor, "y x"]:
    """The mask of polygons or run lengths, drawn as COCO's own tools do it."""
    try:
        from faster_coco_eval.core import mask as runs
    except ImportError as error:
        raise ImportError("masks of COCO need faster-coco-eval: pip install 'glassformer[vision]'") from error
    named = f"{entry.path.name}: annotation {annotation.get('id')}"
    drawn, (rows, columns) = annotation.get("segmentation"), entry.size
    if isinstance(drawn, list) and drawn and all(isinstance(polygon, list) for polygon in drawn):
        if any(len(polygon) < 6 or len(polygon) % 2 for polygon in drawn):
            raise ValueError(f"{named} has a polygon of fewer than three corners")
        encoded = runs.merge([run for polygon in drawn for run in runs.frPyObjects([polygon], rows, columns)])
    elif isinstance(drawn, dict) and isinstance(drawn.get("counts"), list):
        if drawn.get("size") != [rows, columns] or sum(drawn["counts"]) != rows * columns or min(drawn["counts"]) < 0:
            raise ValueError(f"{named} has run lengths that do not fill its picture of {rows} × {columns} pixels")
        encoded = runs.frPyObjects(drawn, rows, columns)
    elif isinstance(drawn, dict) and isinstance(drawn.get("counts"), str):
        if drawn.get("size") != [rows, columns] or sum(lengths(drawn["counts"])) != rows * columns:
            raise ValueError(f"{named} has run lengths that do not fill its picture of {rows} × {columns} pixels")
        encoded = {"size": [rows, columns], "counts": drawn["counts"].encode()}
    else:
        raise ValueError(f"{named} has no segmentation of polygons or run lengths; kind='instances' needs masks")
    return torch.from_numpy(runs.decode(encoded)).bool()


def lengths(text: str) -> list[int]:
    """Run lengths of COCO's compressed text: 5 bits a character, lowest first, differences to the one before the last.

    −1 stands for what is no such text, so that nothing it sums to fits.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value, shift = 0, 0
    return [-1] if shift or min(counts, default=0) < 0 else counts
