"""Help for a detector that learns from scratch: every place of the picture learns too, not the matched queries alone.

A set loss teaches as many predictions as there are objects, and which ones changes as long as nothing is learned (Li et
al. 2022, "DN-DETR", section 3.1). One-to-many supervision of the encoder beside it (Zong et al. 2023, "Co-DETR") says
at once what is where.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from glassformer.models.conditional_detr import ConditionalDETRForObjectDetection
from glassformer.models.set_loss import Targets
from glassformer.ops.boxes import corners, generalized_iou

TELL_APART = 3.0
"""How much the classes of places count against each other, by cross-entropy. The focal loss parts something from
nothing; logits of classes that it takes for equally probable it moves a fifth as far, and so learns them last."""


@dataclass(frozen=True)
class PlaceObjective:
    """The detector's loss and `weight` times that of the encoder's places, for training; evaluation knows the former.

    The model's own heads read each place of the encoder's grid as if it were a query whose reference point is the
    place's centre: no parameter is added.
    """

    weight: float

    def __call__(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        """The loss of a batch. Raises ValueError where its pictures are of several sizes."""
        if inputs.get("pixel_mask") is not None:
            raise ValueError("places learn where all pictures of a batch are of one size; these have a pixel_mask")
        output, stride = model(**inputs), model.config.backbone.stride
        rows, columns = (-(-length // stride) for length in inputs["pixel_values"].shape[2:])
        features = output.encoder_last_hidden_state
        targets = Targets.of(inputs["labels"], len(features), model.config.num_classes, features)
        return output.loss + self.weight * place_loss(model, features, (rows, columns), targets)


def check_places(model: Any) -> None:
    """Raise TypeError for a detector whose boxes are not counted from points: its heads cannot read a place."""
    if not isinstance(model, ConditionalDETRForObjectDetection):
        raise TypeError(f"places learn in a conditional DETR, whose boxes are counted from points; this is a "
                        f"{type(model).__name__}")  # fmt: skip


def place_loss(model: Any, features: Float[Tensor, "b s d"], size: tuple[int, int], targets: Targets) -> Tensor:
    """The detector's loss of what its heads say of each place, with the objects of `owners`, per place that has one."""
    criterion, centres = model.criterion, grid_centres(size).to(features)
    logits = model.class_head(features).float()
    points = F.pad(centres.logit(), (0, 2))
    boxes = (model.box_head(features) + points).float().sigmoid()
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


def grid_centres(size: tuple[int, int]) -> Float[Tensor, "s 2"]:
    """x and y of the centres of a grid's places, row by row, in parts of the picture."""
    rows, columns = size
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    return torch.stack([x, y], dim=-1).view(-1, 2)


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
