"""The classic mistakes of people who write detectors; see `mutations.py`."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from mutations import Patch, mistake
from torch import Tensor

from glassformer.models import conditional_detr, detection, detr, detr_encoder, set_loss
from glassformer.ops import boxes, convolution
from glassformer.parts import batch_norm, conditional_attention, sine_position


@mistake("batch norm's ε outside the root", "detr")
def _(patch: Patch) -> None:
    def wrong(weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        scale = weight / (variance.sqrt() + 1e-2)
        return scale, bias - mean * scale

    for place in (convolution, batch_norm):
        patch.setattr(place, "scale_and_shift", wrong)


@mistake("the stride in the 3 × 3 where it belongs in the 1 × 1", "detr-auxiliary")
def _(patch: Patch) -> None:
    right = detr_encoder.ResNet.__init__

    def wrong(self: Any, config: Any, **options: Any) -> None:
        right(self, config, **options)
        for block in self.blocks:
            first, second, _ = block.convolutions
            first.convolution.stride, second.convolution.stride = second.convolution.stride, first.convolution.stride

    patch.setattr(detr_encoder.ResNet, "__init__", wrong)


@mistake("waves of columns before those of rows", "detr")
def _(patch: Patch) -> None:
    right = sine_position.sine_points

    def wrong(points: Tensor, width: int) -> Tensor:
        return right(points.flip(-1), width)

    patch.setattr(sine_position, "sine_points", wrong)


@mistake("places counted from 0", "detr")
def _(patch: Patch) -> None:
    right = sine_position.sine_points
    patch.setattr(sine_position, "sine_points", lambda points, width: right(points - points.amin((1, 2), True), width))


@mistake("places counted over the padding too", "detr")
def _(patch: Patch) -> None:
    right = detr_encoder.sine_grid
    patch.setattr(detr_encoder, "sine_grid", lambda present, dim, dtype: right(torch.ones_like(present), dim, dtype))


@mistake("padding of the picture not hidden", "conditional-detr")
def _(patch: Patch) -> None:
    patch.setattr(detr_encoder.Mask, "padding", classmethod(lambda cls, present: cls()))


@mistake("places join the values too", "detr")
def _(patch: Patch) -> None:
    def wrong(self: Any, x: Tensor, position: Tensor, mask: Any) -> Tensor:
        where = x + position
        x = self.attention_norm(x + self.attention(where, where, where, mask=mask))
        return self.feed_forward_norm(x + self.feed_forward(x))

    patch.setattr(detr_encoder.DETREncoderBlock, "forward", wrong)


@mistake("the decoder's last norm forgotten", "detr")
def _(patch: Patch) -> None:
    right = detr.DETRDecoder.__init__

    def wrong(self: Any, config: Any) -> None:
        right(self, config)
        self.norm.forward = lambda x: x

    patch.setattr(detr.DETRDecoder, "__init__", wrong)


@mistake("only the last layer learns", "detr-auxiliary")
def _(patch: Patch) -> None:
    right = set_loss.SetLoss.__call__
    patch.setattr(set_loss.SetLoss, "__call__", lambda self, layers, targets: right(self, layers[-1:], targets))


@mistake("IoU for GIoU", "detr")
def _(patch: Patch) -> None:
    def iou(a: Tensor, b: Tensor) -> Tensor:
        (a0, a1), (b0, b1) = (boxes.corners(x).unflatten(-1, (2, 2)).unbind(-2) for x in (a, b))
        common = (torch.minimum(a1, b1) - torch.maximum(a0, b0)).clamp(min=0).prod(-1)
        return common / ((a1 - a0).prod(-1) + (b1 - b0).prod(-1) - common)

    patch.setattr(set_loss, "generalized_iou", iou)


@mistake("boxes compared as corners", "conditional-detr")
def _(patch: Patch) -> None:
    patch.setattr(boxes, "corners", lambda x: x)


@mistake("each object given to its nearest query, twice if need be", "detr")
def _(patch: Patch) -> None:
    def greedy(costs: Tensor, sizes: Any) -> Tensor:
        pairs, start = [], 0
        for picture, size in zip(costs, sizes, strict=True):
            best = picture[:, start : start + size].argmin(0)[: costs.shape[1]]
            pairs.append(torch.stack([best, torch.arange(start, start + len(best))]))
            start += size
        return torch.cat(pairs, dim=1)

    patch.setattr(set_loss, "assign", greedy)


@mistake("nothing weighs as much as an object", "detr")
def _(patch: Patch) -> None:
    right = detr.OneClass
    patch.setattr(detr, "OneClass", lambda nothing: right(1.0))


@mistake("the loss per picture, not per object", "conditional-detr-auxiliary")
def _(patch: Patch) -> None:
    right = conditional_detr.FocalClasses.loss
    patch.setattr(
        conditional_detr.FocalClasses, "loss",
        lambda self, logits, wanted, num_objects: right(self, logits, wanted, len(logits)),
    )  # fmt: skip


@mistake("boxes not counted from the reference points", "conditional-detr")
def _(patch: Patch) -> None:
    def wrong(self: Any, memory: Any) -> Any:
        layers, _ = self.body.layers(memory)
        return [(self.class_head(x), self.box_head(x).sigmoid()) for x in layers], layers[-1]

    patch.setattr(conditional_detr.ConditionalDETRForObjectDetection, "predictions", wrong)


@mistake("where a query looks does not change with what it found", "conditional-detr")
def _(patch: Patch) -> None:
    right = conditional_detr.ConditionalDecoder.__init__

    def wrong(self: Any, config: Any) -> None:
        right(self, config)
        self.scale.forward = torch.ones_like

    patch.setattr(conditional_detr.ConditionalDecoder, "__init__", wrong)


@mistake("contents and places side by side over all heads, not within each", "conditional-detr")
def _(patch: Patch) -> None:
    def wrong(self: Any, content: Tensor, place: Tensor) -> Tensor:
        both = torch.cat([content, place.expand_as(content)], dim=-1)
        return both.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    patch.setattr(conditional_attention.ConditionalAttention, "_split", wrong)


@mistake("the mask's places rounded up, not down", "detr")
def _(patch: Patch) -> None:
    def wrong(x: Tensor, size: Any) -> Tensor:
        return F.interpolate(x, size=size, mode="nearest-exact")

    patch.setattr(detection, "F", SimpleNamespace(interpolate=wrong))
