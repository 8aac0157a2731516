"""Losses of sets of masks (Cheng et al. 2022, section 3.3): matched and compared at points, not at every pixel.

Points are drawn from PyTorch's generator in the order of Hugging Face's loss: after the same `torch.manual_seed`, both
look at the same points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from glassformer.models.encoder import looks
from glassformer.models.language_model import check_range
from glassformer.ops.assignment import assign


@dataclass(frozen=True)
class MaskTargets:
    """The objects of a batch, one picture's after another's, `sizes[i]` of them in picture i."""

    classes: Int[Tensor, "m"]
    masks: Float[Tensor, "m y x"]
    sizes: tuple[int, ...]

    @classmethod
    def of(
        cls, mask_labels: Sequence[Tensor], class_labels: Sequence[Tensor], batch: int, num_classes: int, like: Tensor
    ) -> "MaskTargets":
        """From a tensor of masks (m, y, x) and one of classes (m,) for each picture; m may be 0.

        Raises:
            ValueError: not one of each for each picture; masks and classes that do not go together; masks of several
                sizes, or that hold anything but 0 and 1; classes that the model does not know. TypeError: classes that
                are no whole numbers.
        """
        if len(mask_labels) != batch or len(class_labels) != batch:
            raise ValueError(
                f"mask_labels are of {len(mask_labels)} pictures and class_labels of {len(class_labels)}; expected "
                f"{batch} of each, one for each picture"
            )
        for i, (masks, classes) in enumerate(zip(mask_labels, class_labels, strict=True)):
            if masks.ndim != 3 or classes.shape != masks.shape[:1] or 0 in masks.shape[1:]:
                raise ValueError(
                    f"picture {i} has mask_labels {tuple(masks.shape)} and class_labels {tuple(classes.shape)}; "
                    "expected (m, height, width) and (m,)"
                )
            if classes.is_floating_point():
                raise TypeError(f"class_labels of picture {i} have dtype {classes.dtype}; expected whole numbers")
        if len(shapes := {tuple(masks.shape[1:]) for masks in mask_labels}) > 1:
            raise ValueError(
                f"mask_labels have the sizes {sorted(shapes)}; fill them up to one size, as the pictures are"
            )
        classes = torch.cat(list(class_labels)).to(like.device)
        masks = torch.cat([masks.to(like) for masks in mask_labels])
        if looks(classes) and len(classes):
            check_range("class_labels", classes, num_classes, of="the head")
            if not ((masks == 0) | (masks == 1)).all():
                raise ValueError(f"mask_labels hold values from {masks.min():g} to {masks.max():g}; expected 0 and 1")
        return cls(classes, masks, tuple(len(classes) for classes in class_labels))


@dataclass(frozen=True, kw_only=True)
class MaskLoss:
    """class_weight · cross-entropy + mask_weight · binary cross-entropy + dice_weight · dice, per matched mask."""

    class_weight: float
    mask_weight: float
    dice_weight: float
    nothing_weight: float
    num_points: int
    oversample_ratio: float
    importance_ratio: float

    def __call__(
        self, predictions: Sequence[tuple[Float[Tensor, "b q n"], Float[Tensor, "b q y x"]]], targets: MaskTargets
    ) -> Float[Tensor, ""]:
        """The sum over the predictions of all layers, each matched by itself: the last layer's first, then in order."""
        *earlier, last = predictions
        return torch.stack([self.one(*layer, targets) for layer in (last, *earlier)]).sum()

    def one(
        self, logits: Float[Tensor, "b q n"], masks: Float[Tensor, "b q y x"], targets: MaskTargets
    ) -> Float[Tensor, ""]:
        """The loss of one layer's predictions."""
        wide = torch.promote_types(logits.dtype, torch.float32)
        logits, masks = logits.to(wide), masks.to(wide)
        query, which = self.match(logits, masks, targets)
        counts = torch.tensor([min(size, logits.shape[1]) for size in targets.sizes], device=query.device)
        picture = torch.arange(len(counts), device=query.device).repeat_interleave(counts, output_size=len(query))
        return self.class_weight * self._classes(logits, targets.classes[which], picture, query) + self._masks(
            masks[picture, query], targets.masks[which].to(wide), max(len(targets.classes), 1)
        )

    @torch.no_grad()
    def match(
        self, logits: Float[Tensor, "b q n"], masks: Float[Tensor, "b q y x"], targets: MaskTargets
    ) -> Int[Tensor, "2 k"]:
        """Pairs of query and object, picture after picture; see `assign`. Each picture has points of its own."""
        costs = logits.new_zeros(*logits.shape[:2], len(targets.classes))
        start = 0
        for i, size in enumerate(targets.sizes):
            own = slice(start, start := start + size)
            points = torch.rand(1, self.num_points, 2, device=logits.device)
            found = at_points(masks[i], points.to(logits.dtype).expand(len(masks[i]), -1, -1))
            there = at_points(targets.masks[own].to(logits.dtype), points.to(logits.dtype).expand(size, -1, -1))
            costs[i, :, own] = (
                self.mask_weight * pairwise_cross_entropy(found, there)
                - self.class_weight * logits[i].softmax(-1)[:, targets.classes[own]]
                + self.dice_weight * pairwise_dice(found, there)
            )
        return assign(costs, targets.sizes)

    def _classes(
        self, logits: Float[Tensor, "b q n"], classes: Int[Tensor, "k"], picture: Int[Tensor, "k"], query: Tensor
    ) -> Float[Tensor, ""]:
        weights = logits.new_ones(nothing := logits.shape[-1])
        weights[-1] = self.nothing_weight
        wanted = torch.full(logits.shape[:2], nothing - 1, device=logits.device)
        wanted = wanted.index_put((picture, query), classes)
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weights)

    def _masks(
        self, masks: Float[Tensor, "k y x"], targets: Float[Tensor, "k v u"], num_masks: int
    ) -> Float[Tensor, ""]:
        with torch.no_grad():
            points = self.points(masks)
            there = at_points(targets, points)
        found = at_points(masks, points)
        cross_entropy = F.binary_cross_entropy_with_logits(found, there, reduction="none").mean(1).sum()
        p = found.sigmoid()
        dice = (1 - (2 * (p * there).sum(1) + 1) / (p.sum(1) + there.sum(1) + 1)).sum()
        return (self.mask_weight * cross_entropy + self.dice_weight * dice) / num_masks

    def points(self, masks: Float[Tensor, "k y x"]) -> Float[Tensor, "k p 2"]:
        """Where to look at each mask: mostly where its logit is nearest to 0, the rest anywhere (Kirillov et al. 2020).

        x and y in parts of width and height; of equally uncertain points any.
        """
        many, uncertain = int(self.num_points * self.oversample_ratio), int(self.importance_ratio * self.num_points)
        points = torch.rand(len(masks), many, 2, device=masks.device).to(masks.dtype)
        doubt = -at_points(masks, points).abs()
        chosen = doubt.topk(uncertain, dim=1).indices
        points = points.gather(1, chosen[..., None].expand(-1, -1, 2))
        rest = torch.rand(len(masks), self.num_points - uncertain, 2, device=masks.device).to(masks.dtype)
        return torch.cat([points, rest], dim=1)


def at_points(maps: Float[Tensor, "k y x"], points: Float[Tensor, "k p 2"]) -> Float[Tensor, "k p"]:
    """Each map at its points, x and y in parts of width and height, interpolated between pixels' centres."""
    if not len(maps):
        return maps.new_zeros(0, points.shape[1])
    return F.grid_sample(maps[:, None], 2 * points[:, :, None] - 1, align_corners=False)[:, 0, :, 0]


def pairwise_cross_entropy(logits: Float[Tensor, "q p"], targets: Float[Tensor, "m p"]) -> Float[Tensor, "q m"]:
    """The mean binary cross-entropy of each prediction with each target."""
    yes, no = F.softplus(-logits), F.softplus(logits)
    return (yes @ targets.mT + no @ (1 - targets).mT) / logits.shape[1]


def pairwise_dice(logits: Float[Tensor, "q p"], targets: Float[Tensor, "m p"]) -> Float[Tensor, "q m"]:
    """1 − (2 Σ p t + 1) / (Σ p + Σ t + 1) of each prediction with each target (Milletari et al. 2016)."""
    p = logits.sigmoid()
    return 1 - (2 * p @ targets.mT + 1) / (p.sum(1)[:, None] + targets.sum(1) + 1)
