"""Help for queries that learn from scratch: every place of the picture that they read learns too.

A set loss teaches as many predictions as there are objects, and which ones changes as long as nothing is learned (Li et
al. 2022, "DN-DETR", section 3.1). One-to-many supervision of the encoder beside it (Zong et al. 2023, "Co-DETR") says
at once what is where. The model's own heads read each place as if it were a query: no parameter is added.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from glassformer.models.conditional_detr import ConditionalDETRForObjectDetection
from glassformer.models.set_loss import Targets
from glassformer.ops.boxes import corners, generalized_iou
from glassformer.parts.deformable_attention import grid_centres

TELL_APART = 3.0
"""How much the classes of places count against each other, by cross-entropy. The focal loss parts something from
nothing; logits of classes that it takes for equally probable it moves a fifth as far, and so learns them last."""


@dataclass(frozen=True)
class PlaceObjective:
    """The model's loss and `weight` times that of the places, for training; evaluation knows the former.

    `place_loss` is given the model, its output for a batch, and the batch's inputs.
    """

    place_loss: Callable[[Any, Any, Mapping[str, Any]], Float[Tensor, ""]]
    weight: float

    def __call__(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        output = model(**inputs)
        return output.loss + self.weight * self.place_loss(model, output, inputs)


def check_place_weight(weight: float | None) -> None:
    """Raise ValueError for a weight by which places learn nothing."""
    if weight is not None and weight <= 0:
        raise ValueError(f"place_weight={weight} teaches nothing; expected more than 0, or none")


def check_places(model: Any) -> None:
    """Raise TypeError for a detector whose boxes are not counted from points: its heads cannot read a place."""
    if not isinstance(model, ConditionalDETRForObjectDetection):
        raise TypeError(f"places learn in a conditional DETR, whose boxes are counted from points; this is a "
                        f"{type(model).__name__}")  # fmt: skip


def box_place_loss(model: Any, output: Any, inputs: Mapping[str, Any]) -> Float[Tensor, ""]:
    """A detector's loss of what its heads say of each place, with the objects of `owners`, per place that has one.

    A place's reference point is its centre. Raises ValueError where the batch's pictures are of several sizes.
    """
    if inputs.get("pixel_mask") is not None:
        raise ValueError("places learn where all pictures of a batch are of one size; these have a pixel_mask")
    features, criterion, stride = output.encoder_last_hidden_state, model.criterion, model.config.backbone.stride
    rows, columns = (-(-length // stride) for length in inputs["pixel_values"].shape[2:])
    targets = Targets.of(inputs["labels"], len(features), model.config.num_classes, features)
    centres = grid_centres([(rows, columns)], features)[0, :, 0]
    logits = model.class_head(features).float()
    boxes = (model.box_head(features) + F.pad(centres.logit(), (0, 2))).float().sigmoid()
    owner = owners(centres, targets)
    has = owner >= 0
    count = max(int(has.sum()), 1)
    wanted = torch.where(has, targets.classes[owner] if len(targets.classes) else 0, model.config.num_classes)
    found, there = boxes[has], targets.boxes[owner[has]]
    return (
        criterion.classes.loss(logits, wanted, count)
        + TELL_APART * F.cross_entropy(logits[has], wanted[has], reduction="sum") / count
        + criterion.box_weight * (found - there).abs().sum() / count
        + criterion.giou_weight * (1 - generalized_iou(found, there)).sum() / count
    )


def owners(centres: Float[Tensor, "s 2"], targets: Targets) -> Int[Tensor, "b s"]:
    """For each place of each picture the number of the smallest object whose box holds its centre, −1 where none does.

    So Tian et al. (2019), "FCOS", section 3.1, choose.
    """
    edges = corners(targets.boxes)
    inside = ((centres[:, None] > edges[:, :2]) & (centres[:, None] < edges[:, 2:])).all(-1)
    area = torch.where(inside, targets.boxes[:, 2:].prod(-1), torch.inf)
    found, start = [], 0
    for count in targets.sizes:
        some = area[:, start : start + count]
        if count:
            least, which = some.min(1)
            found.append(torch.where(least.isfinite(), which + start, -1))
        else:
            found.append(torch.full((len(centres),), -1, device=centres.device))
        start += count
    return torch.stack(found)


def mask_place_loss(model: Any, output: Any, inputs: Mapping[str, Any]) -> Float[Tensor, ""]:
    """Cross-entropy of the places of the pixel decoder's grids with the `shares` of classes; nothing counts as in
    queries.

    −Σ w_n s_n log p_n / Σ w_n s_n over places and classes n, w_n = 1, or `nothing_weight` for "nothing". Masks alone
    ask of a place whose it is, never what, and of the few queries classes are learned late.
    """
    config, grids = model.config, output.pixel_decoder_hidden_states
    masks, classes = inputs["mask_labels"], inputs["class_labels"]
    places = torch.cat([grid.flatten(2).mT for grid in grids], dim=1)
    wanted = torch.cat([shares(masks, classes, config.num_classes, grid) for grid in grids], dim=1)
    weights = wanted.new_ones(wanted.shape[-1])
    weights[-1] = config.nothing_weight
    logs = model.head(model.body.norm(places)).to(wanted).log_softmax(-1)
    return -(wanted * weights * logs).sum() / (wanted * weights).sum()


def shares(
    masks: Sequence[Tensor], classes: Sequence[Tensor], num_classes: int, grid: Float[Tensor, "b d y x"]
) -> Float[Tensor, "b s n"]:
    """The part of each place that objects of each class cover, and last the part that none does; they sum to 1.

    Masks (m, y', x') of objects that do not overlap, and their classes (m,), for each picture; a grid for its size.
    """
    size = (grid.shape[2], grid.shape[3])
    covered = torch.zeros(len(masks), num_classes, *masks[0].shape[1:], device=grid.device)
    for there, own, kinds in zip(covered, masks, classes, strict=True):
        there.index_add_(0, kinds.to(grid.device), own.to(there))
    parts = F.adaptive_avg_pool2d(covered, size)
    return torch.cat([parts, 1 - parts.sum(1, keepdim=True)], dim=1).flatten(2).mT
