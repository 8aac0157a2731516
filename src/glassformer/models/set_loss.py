"""Training by sets (Carion et al. 2020, section 3.1): each object is given to one prediction, at the least cost."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from glassformer.models.encoder import looks
from glassformer.ops.assignment import assign
from glassformer.ops.boxes import corners, generalized_iou

Label = Mapping[str, Tensor]
"""What stands in one picture: "class_labels" (m,), and "boxes" (m, 4), `cx cy w h` in parts of width and height."""


@dataclass(frozen=True)
class Targets:
    """The objects of a batch, one picture's after another's, `sizes[i]` of them in picture i."""

    classes: Int[Tensor, "m"]
    boxes: Float[Tensor, "m 4"]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, labels: Sequence[Label], batch: int, num_classes: int, like: Tensor) -> "Targets":
        """From one dict for each picture.

        Raises:
            ValueError: not one for each picture; classes or boxes of other shapes; classes that the model does not
                know; boxes that are not finite, have no area, or reach beyond their picture. KeyError, TypeError: no
                such dicts.
        """
        if not isinstance(labels, Sequence) or len(labels) != batch:
            count = len(labels) if isinstance(labels, Sequence) else f"a {type(labels).__name__} of"
            raise ValueError(f"labels are {count} pictures'; expected a list of {batch} dicts, one for each picture")
        for i, label in enumerate(labels):
            _check(label, f"labels[{i}]", num_classes)
        classes = torch.cat([label["class_labels"].to(like.device) for label in labels])
        boxes = torch.cat([label["boxes"].to(like) for label in labels])
        return cls(classes, boxes, tuple(len(label["class_labels"]) for label in labels))


def _check(label: Any, name: str, num_classes: int) -> None:
    if not isinstance(label, Mapping):
        raise TypeError(f'{name} is a {type(label).__name__}; expected a dict of "class_labels" and "boxes"')
    for key in ("class_labels", "boxes"):
        if not isinstance(label.get(key), Tensor):
            raise KeyError(f"{name} has no tensor {key!r}; it has {list(label)}")
    classes, boxes = label["class_labels"], label["boxes"]
    if classes.ndim != 1 or classes.is_floating_point() or boxes.shape != (len(classes), 4):
        raise ValueError(f'{name} has "class_labels" {tuple(classes.shape)} of {classes.dtype} and "boxes" '
                         f"{tuple(boxes.shape)}; expected whole numbers (m,) and floats (m, 4)")  # fmt: skip
    if not len(classes) or not looks(boxes):
        return
    low, high = (int(edge) for edge in classes.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(f"{name} names class {low if low < 0 else high}; the model knows 0 to {num_classes - 1}")
    edges = corners(boxes.double())
    for wrong, why in (
        (~boxes.isfinite().all(1), "is no box of finite numbers"),
        ((boxes[:, 2:] <= 0).any(1), "has no area"),
        (((edges < -1e-3) | (edges > 1 + 1e-3)).any(1), "reaches beyond its picture, which is 0 to 1 either way"),
    ):
        if wrong.any():
            first = int(wrong.nonzero()[0])
            box = " ".join(f"{number:g}" for number in boxes[first].tolist())
            raise ValueError(f"{name}: box {first} (cx cy w h = {box}) {why}")


class ClassLoss(ABC):
    """How logits say what a prediction shows: a cost of matching, and a loss."""

    @abstractmethod
    def cost(self, logits: Float[Tensor, "b q n"], classes: Int[Tensor, "m"]) -> Float[Tensor, "b q m"]:
        """What it costs that this prediction stands for an object of that class."""

    @abstractmethod
    def loss(self, logits: Float[Tensor, "b q n"], wanted: Int[Tensor, "b q"], num_objects: int) -> Float[Tensor, ""]:
        """The loss of predictions, of which `wanted` is the class, or the number of classes where there is none."""


@dataclass(frozen=True)
class OneClass(ClassLoss):
    """softmax over the classes and one more, "nothing", which counts `nothing` times (equations 1 and 2)."""

    nothing: float = 0.1

    def cost(self, logits: Float[Tensor, "b q n"], classes: Int[Tensor, "m"]) -> Float[Tensor, "b q m"]:
        return -logits.softmax(-1)[..., classes]

    def loss(self, logits: Float[Tensor, "b q n"], wanted: Int[Tensor, "b q"], num_objects: int) -> Float[Tensor, ""]:
        weights = logits.new_ones(logits.shape[-1])
        weights[-1] = self.nothing
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weights)


@dataclass(frozen=True)
class FocalClasses(ClassLoss):
    """Each class by itself, yes or no, easy ones counting little: −α (1 − p)^γ log p (Lin et al. 2017, equation 5)."""

    alpha: float = 0.25
    gamma: float = 2.0

    def cost(self, logits: Float[Tensor, "b q n"], classes: Int[Tensor, "m"]) -> Float[Tensor, "b q m"]:
        p, alpha = logits.sigmoid(), 0.25  # the cost's own, as in the released code, whatever the loss has
        yes = alpha * (1 - p) ** self.gamma * -(p + 1e-8).log()
        no = (1 - alpha) * p**self.gamma * -(1 - p + 1e-8).log()
        return (yes - no)[..., classes]

    def loss(self, logits: Float[Tensor, "b q n"], wanted: Int[Tensor, "b q"], num_objects: int) -> Float[Tensor, ""]:
        truth = F.one_hot(wanted, logits.shape[-1] + 1)[..., :-1].to(logits.dtype)
        right = logits.sigmoid() * truth + (1 - logits.sigmoid()) * (1 - truth)
        weights = (self.alpha * truth + (1 - self.alpha) * (1 - truth)) * (1 - right) ** self.gamma
        return (weights * F.binary_cross_entropy_with_logits(logits, truth, reduction="none")).sum() / num_objects


@dataclass(frozen=True, kw_only=True)
class SetLoss:
    """Matching, and the loss of what was matched: classes, |Δ box| and 1 − GIoU, per object of the batch."""

    classes: ClassLoss
    class_cost: float
    box_cost: float
    giou_cost: float
    box_weight: float
    giou_weight: float

    @torch.no_grad()
    def match(
        self, logits: Float[Tensor, "b q n"], boxes: Float[Tensor, "b q 4"], targets: Targets
    ) -> Int[Tensor, "2 k"]:
        """Pairs of prediction and object, picture after picture; see `assign`. No gradient runs through it."""
        distance = (boxes[:, :, None] - targets.boxes).abs().sum(-1)
        cost = self.box_cost * distance - self.giou_cost * generalized_iou(boxes[:, :, None], targets.boxes)
        return assign(cost + self.class_cost * self.classes.cost(logits, targets.classes), targets.sizes)

    def __call__(
        self, predictions: Sequence[tuple[Float[Tensor, "b q n"], Float[Tensor, "b q 4"]]], targets: Targets
    ) -> Float[Tensor, ""]:
        """The sum over the predictions of several layers, each matched by itself (appendix A.2, auxiliary losses)."""
        losses = [self._one(logits, boxes, targets) for logits, boxes in predictions]
        return torch.stack(losses).sum()

    def _one(
        self, logits: Float[Tensor, "b q n"], boxes: Float[Tensor, "b q 4"], targets: Targets
    ) -> Float[Tensor, ""]:
        wide = torch.promote_types(logits.dtype, torch.float32)
        logits, boxes = logits.to(wide), boxes.to(wide)
        num_queries, num_objects = logits.shape[1], max(sum(targets.sizes), 1)
        query, which = self.match(logits, boxes, targets)
        counts = torch.tensor([min(size, num_queries) for size in targets.sizes], device=query.device)
        picture = torch.arange(len(counts), device=query.device).repeat_interleave(counts, output_size=len(query))
        nothing = logits.shape[-1] - isinstance(self.classes, OneClass)
        wanted = torch.full(logits.shape[:2], nothing, device=query.device)
        wanted = wanted.index_put((picture, query), targets.classes[which])
        found, there = boxes[picture, query], targets.boxes[which].to(wide)
        return (
            self.classes.loss(logits, wanted, num_objects)
            + self.box_weight * (found - there).abs().sum() / num_objects
            + self.giou_weight * (1 - generalized_iou(found, there)).sum() / num_objects
        )
