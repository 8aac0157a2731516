"""What a model's numbers say of a picture: boxes, a map of classes, or segments, at the picture's own size.

Equal to the post-processing of Hugging Face's processors (DETR, Deformable DETR, SegFormer, MaskFormer, Mask2Former).
`sizes` are rows and columns of the pictures as they were before they were prepared.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from glassformer.image.objects import corner_boxes
from glassformer.image.processor import Size


@dataclass(frozen=True, kw_only=True)
class Detections:
    """The objects that were found in one picture: how sure, what, and where (`x0 y0 x1 y1` in pixels)."""

    scores: Float[Tensor, "m"]
    classes: Int[Tensor, "m"]
    boxes: Float[Tensor, "m 4"]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The segments that were found in one picture; `numbers` says whose each pixel is, −1 where it is nobody's."""

    scores: Float[Tensor, "m"]
    classes: Int[Tensor, "m"]
    masks: Float[Tensor, "m y x"]
    numbers: Int[Tensor, "y x"]

    def __len__(self) -> int:
        return len(self.scores)


def softmax_detections(
    logits: Float[Tensor, "b q n"], pred_boxes: Float[Tensor, "b q 4"], sizes: Sequence[Size], *, threshold: float = 0.5
) -> list[Detections]:
    """One class for each query, the most probable; the last logit is "no object" (DETR, Carion et al. 2020)."""
    _check_number(logits, sizes)
    scores, classes = logits.softmax(dim=-1)[..., :-1].max(dim=-1)
    return [_above(threshold, *picture) for picture in zip(sizes, scores, classes, pred_boxes, strict=True)]


def sigmoid_detections(
    logits: Float[Tensor, "b q n"],
    pred_boxes: Float[Tensor, "b q 4"],
    sizes: Sequence[Size],
    *,
    threshold: float = 0.5,
    top_k: int = 100,
) -> list[Detections]:
    """The `top_k` most probable pairs of query and class: one may name several (Deformable DETR, Zhu et al. 2021)."""
    _check_number(logits, sizes)
    scores, pairs = logits.sigmoid().flatten(1).topk(min(top_k, logits[0].numel()), dim=1)
    queries, classes = pairs // logits.shape[2], pairs % logits.shape[2]
    boxes = pred_boxes.gather(1, queries[..., None].expand(-1, -1, 4))
    return [_above(threshold, *picture) for picture in zip(sizes, scores, classes, boxes, strict=True)]


def semantic_maps(logits: Float[Tensor, "b n y x"], sizes: Sequence[Size]) -> list[Int[Tensor, "_ _"]]:
    """The class of each pixel: the largest logit after they are resized to each picture's size, bilinearly."""
    _check_number(logits, sizes)
    return [_resized(one, size).argmax(dim=0) for one, size in zip(logits, sizes, strict=True)]


def semantic_maps_of_masks(
    class_logits: Float[Tensor, "b q n"],
    mask_logits: Float[Tensor, "b q y x"],
    sizes: Sequence[Size],
    *,
    working_size: Size | None = None,
) -> list[Int[Tensor, "_ _"]]:
    """Maps from queries: Σ_q p_q(class) · σ(mask_q) (MaskFormer, Cheng et al. 2021, section 3.4).

    Masks are resized to `working_size` before the sum: (384, 384) in their Mask2Former, None in their MaskFormer.
    """
    classes = class_logits.softmax(dim=-1)[..., :-1]
    masks = _working(mask_logits, working_size).sigmoid()
    return semantic_maps(torch.einsum("bqn,bqyx->bnyx", classes, masks), sizes)


def instance_segments(
    class_logits: Float[Tensor, "b q n"],
    mask_logits: Float[Tensor, "b q y x"],
    sizes: Sequence[Size],
    *,
    threshold: float = 0.5,
    working_size: Size | None = None,
) -> list[Segments]:
    """Instances: as many pairs of query and class as there are queries, the most probable; they may overlap.

    A pair's score is its class's probability times the mean of σ(mask) inside the mask (Mask2Former, Cheng et al.
    2022). In `numbers` a later segment covers an earlier one.
    """
    _check_number(class_logits, sizes)
    found = []
    for logits, masks, size in zip(class_logits, _working(mask_logits, working_size), sizes, strict=True):
        probabilities = logits.softmax(dim=-1)[:, :-1]
        of_pairs, pairs = probabilities.flatten().topk(len(probabilities), sorted=False)
        picked = masks[pairs // probabilities.shape[1]]
        inside = (picked > 0).float()
        certainty = (picked.sigmoid() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6)
        scores = of_pairs * certainty
        inside = F.interpolate(inside[None], size=size, mode="nearest")[0]
        kept = inside.flatten(1).any(dim=1) & (scores >= threshold)
        numbers = torch.full(size, -1, device=masks.device)
        for number, mask in enumerate(inside[kept]):
            numbers[mask == 1] = number
        classes = (pairs % probabilities.shape[1])[kept]
        found.append(Segments(scores=scores[kept], classes=classes, masks=inside[kept].bool(), numbers=numbers))
    return found


def panoptic_segments(
    class_logits: Float[Tensor, "b q n"],
    mask_logits: Float[Tensor, "b q y x"],
    sizes: Sequence[Size],
    *,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    least_visible: float = 0.8,
    stuff: Collection[int] = (),
    working_size: Size | None = None,
) -> list[Segments]:
    """Each pixel goes to one query: argmax of score · σ(mask), among queries above `threshold` (MaskFormer, 3.4).

    A segment stays if it keeps more than `least_visible` of where its own σ(mask) reaches `mask_threshold`. Segments
    of a class in `stuff` become one, with the score of the first. A pixel whose query did not stay is nobody's.
    """
    _check_number(class_logits, sizes)
    found = []
    for logits, masks, size in zip(class_logits, _working(mask_logits, working_size), sizes, strict=True):
        scores, classes = logits.softmax(dim=-1).max(dim=-1)
        kept = (classes != logits.shape[-1] - 1) & (scores > threshold)
        scores, classes = scores[kept], classes[kept]
        weighted = _resized(masks.sigmoid()[kept], size) * scores[:, None, None]
        owner = weighted.argmax(dim=0) if len(scores) else torch.full(size, -1, device=masks.device)
        numbers, chosen = torch.full(size, -1, device=masks.device), []
        for query, kind in enumerate(classes.tolist()):
            own, reach = owner == query, (weighted[query] >= mask_threshold).sum()
            if not (own.any() and reach and own.sum() / reach > least_visible):
                continue
            same = [n for n, other in enumerate(chosen) if kind in stuff and classes[other] == kind]
            numbers[own] = same[0] if same else len(chosen)
            chosen += [] if same else [query]
        masks = torch.stack([numbers == n for n in range(len(chosen))]) if chosen else numbers.new_zeros(0, *size) > 0
        found.append(Segments(scores=scores[chosen], classes=classes[chosen], masks=masks, numbers=numbers))
    return found


def _above(threshold: float, size: Size, scores: Tensor, classes: Tensor, boxes: Tensor) -> Detections:
    kept = scores > threshold
    return Detections(scores=scores[kept], classes=classes[kept], boxes=corner_boxes(boxes[kept], size))


def _resized(maps: Float[Tensor, "n y x"], size: Size) -> Float[Tensor, "n y2 x2"]:
    if not len(maps):  # which `interpolate` refuses
        return maps.new_zeros(0, *size)
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def _working(masks: Float[Tensor, "b q y x"], size: Size | None) -> Float[Tensor, "b q y2 x2"]:
    return masks if size is None else F.interpolate(masks, size=size, mode="bilinear", align_corners=False)


def _check_number(logits: Tensor, sizes: Sequence[Size]) -> None:
    if len(logits) != len(sizes):
        raise ValueError(f"{len(sizes)} sizes for {len(logits)} pictures; give rows and columns of each")
