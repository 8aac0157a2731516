"""Help for masks that are learned from scratch: every place of the picture learns what lies on it, and in which part.

Masks alone ask of a place whose it is, never what, and classes are asked of the few queries alone: they learn first
where things end, and for a long time nothing of what these are. See `training.places` of the same for boxes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from glassformer.models.mask2former import Mask2FormerForUniversalSegmentation


@dataclass(frozen=True)
class MaskPlaceObjective:
    """The model's loss and `weight` times that of the places that queries read, for training; evaluation knows the
    former.

    The model's own head reads each place of the pixel decoder's three grids as if it were a query: no parameter is
    added.
    """

    weight: float

    def __call__(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        """The loss of a batch."""
        output = model(**inputs)
        grids = output.pixel_decoder_hidden_states
        return output.loss + self.weight * place_loss(model, grids, inputs["mask_labels"], inputs["class_labels"])


def place_loss(
    model: Mask2FormerForUniversalSegmentation,
    grids: Sequence[Float[Tensor, "b d _ _"]],
    masks: Sequence[Tensor],
    classes: Sequence[Tensor],
) -> Float[Tensor, ""]:
    """Cross-entropy with the `shares` of classes, the mean over all places of all grids; nothing counts as in queries.

    −Σ w_n s_n log p_n / Σ w_n s_n over places and classes n, w_n = 1, or `nothing_weight` for "nothing".
    """
    config = model.config
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
