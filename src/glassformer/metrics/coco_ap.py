"""Average precision as COCO counts it (Lin et al. 2014), by faster-coco-eval: of boxes, or of masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS: dict[str, Any] = {"boxes": "bbox", "masks": "segm"}
"""What is compared -> the package's word for it."""
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""The mean over IoU 0.50, 0.55 … 0.95; at 0.50; at 0.75; of objects below 32², up to 96², and above, in pixels."""


def coco_ap(
    predictions: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]], *, kind: str = "boxes"
) -> dict[str, float]:
    """AP, AP50, AP75 and AP by size, from 0 to 1, over all classes and pictures; at most 100 predictions of each.

    Args:
        predictions: for each picture `scores` (m,), `classes` (m,), and `boxes` (m, 4), x0 y0 x1 y1 in pixels, or
            `masks` (m, y, x), as arrays or tensors, masks also as `run_lengths` of them.
        references: for each picture `classes` and `boxes` or `masks`.
        kind: "boxes" or "masks", what IoU is taken of.

    A number that no object decides, such as that of large objects where there are none, is left out. 0 where nothing
    is predicted.

    Raises:
        ValueError: another kind; not one prediction for each reference; no object in any picture. KeyError: a mapping
            lacks what is asked of it. ImportError: without faster-coco-eval.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected 'boxes' or 'masks'")
    if len(predictions) != len(references):
        raise ValueError(f"predictions of {len(predictions)} pictures are held against {len(references)}; one for each")
    from faster_coco_eval import COCO, COCOeval_faster

    there = [note for i, each in enumerate(references) for note in _notes(each, kind, i, len(predictions))]
    said = [note for i, each in enumerate(predictions) for note in _notes(each, kind, i, len(predictions), scored=True)]
    if not there:
        raise ValueError("no picture has an object, so there is no precision to measure")
    if not said:
        return dict.fromkeys(NAMES[:3], 0.0)
    classes = sorted({note["category_id"] for note in there + said})
    for number, note in enumerate(there, 1):
        note["id"] = number
    truth = COCO(
        {
            "images": [{"id": i, **_size(each, kind)} for i, each in enumerate(references)],
            "annotations": there,
            "categories": [{"id": number, "name": str(number)} for number in classes],
        }
    )
    evaluation = COCOeval_faster(truth, truth.loadRes(said), KINDS[kind], print_function=lambda *_: None)
    evaluation.run()
    values = zip(NAMES, np.asarray(evaluation.stats).tolist(), strict=False)
    return {name: value for name, value in values if value >= 0}


def _notes(
    each: Mapping[str, Any], kind: str, picture: int, total: int, *, scored: bool = False
) -> list[dict[str, Any]]:
    """The annotations of one picture, as COCO writes them."""
    for name in ("classes", kind, *(["scores"] if scored else [])):
        if name not in each:
            raise KeyError(f"what is {'said' if scored else 'there'} of picture {picture} of {total} has no {name!r}")
    notes: list[dict[str, Any]] = []
    for i, number in enumerate(np.asarray(each["classes"]).tolist()):
        place, area = _place(each, kind, i)
        note = {"image_id": picture, "category_id": int(number), "iscrowd": 0, "area": area, **place}
        notes.append(note | ({"score": float(each["scores"][i])} if scored else {}))
    return notes


def _size(each: Mapping[str, Any], kind: str) -> dict[str, int]:
    masks = each["masks"] if kind == "masks" else []  # boxes need no size
    rows, columns = (masks[0]["size"] if masks else (0, 0)) if isinstance(masks, list) else masks.shape[1:]
    return {"height": int(rows), "width": int(columns)}


def _place(each: Mapping[str, Any], kind: str, i: int) -> tuple[dict[str, Any], float]:
    if kind == "boxes":
        x0, y0, x1, y1 = (float(edge) for edge in each["boxes"][i])
        return {"bbox": [x0, y0, x1 - x0, y1 - y0]}, (x1 - x0) * (y1 - y0)
    from faster_coco_eval.core import mask as runs

    mask = each["masks"][i]
    (encoded,) = [dict(mask)] if isinstance(mask, Mapping) else run_lengths([mask])
    box = [float(edge) for edge in runs.toBbox([encoded])[0]]
    return {"segmentation": encoded, "bbox": box}, float(runs.area(encoded))


def run_lengths(masks: Any) -> list[dict[str, Any]]:
    """Masks (m, y, x) as COCO's run lengths, which take little room."""
    from faster_coco_eval.core import mask as runs

    return [runs.encode(np.asfortranarray(np.asarray(mask).astype(np.uint8))) for mask in masks]


def from_run_lengths(encoded: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The way back, (m, y, x), of masks of this size."""
    from faster_coco_eval.core import mask as runs

    masks = [np.asarray(runs.decode(dict(each))).astype(bool) for each in encoded]
    return np.stack(masks) if masks else np.zeros((0, *size), bool)


def ap_of_classes(
    predictions: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]], count: int, *, kind: str
) -> dict[int, float]:
    """AP of each of the classes 0 … count − 1 that is there; arguments are those of `coco_ap`."""
    there = {number for each in references for number in np.asarray(each["classes"]).tolist()}
    sides = [[{name: each[name] for name in ("scores", "classes", kind) if name in each} for each in side]
             for side in (predictions, references)]  # fmt: skip
    found = {}
    for number in sorted(there & set(range(count))):
        some = ([_of(each, number) for each in side] for side in sides)
        found[number] = coco_ap(*some, kind=kind)["ap"]
    return found


def _of(each: Mapping[str, Any], number: int) -> dict[str, Any]:
    kept = np.flatnonzero(np.asarray(each["classes"]) == number)
    return {name: [value[i] for i in kept] if isinstance(value, list) else np.asarray(value)[kept]
            for name, value in each.items()}  # fmt: skip
