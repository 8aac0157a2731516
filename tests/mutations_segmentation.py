"""The classic mistakes of people who write models that segment; see `mutations.py`."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mutations import Patch, mistake
from torch import Tensor

from glassformer.models import (
    mask2former,
    mask2former_pixels,
    mask_loss,
    segformer,
    segformer_heads,
    swin_backbone,
)
from glassformer.parts import deformable_attention, mix_feed_forward


@mistake("keys from the whole grid, not from the reduced one", "segformer")
def _(patch: Patch) -> None:
    patch.setattr(segformer.SegFormerBlock, "context", lambda self, x: None)


@mistake("the reduced grid is not normalised", "segformer")
def _(patch: Patch) -> None:
    def wrong(self: Any, x: Tensor) -> Tensor | None:
        if self.reduce is None:
            return None
        rows, columns = (length - length % self.reduction for length in x.shape[1:3])
        return self.reduce(x[:, :rows, :columns].permute(0, 3, 1, 2)).flatten(1, 2)

    patch.setattr(segformer.SegFormerBlock, "context", wrong)


@mistake("queries from the grid before its norm", "segformer")
def _(patch: Patch) -> None:
    def wrong(self: Any, x: Tensor) -> Tensor:
        out = self.attention(x.flatten(1, 2), self.context(self.attention_norm(x))).view_as(x)
        x = x + self.path_dropout(self.dropout(out))
        return x + self.path_dropout(self.dropout(self.feed_forward(self.feed_forward_norm(x))))

    patch.setattr(segformer.SegFormerBlock, "forward", wrong)


@mistake("the feed-forward layer does not see its neighbours", "segformer")
def _(patch: Patch) -> None:
    patch.setattr(mix_feed_forward.DepthwiseConvolution, "forward", lambda self, x: x * self.weight[:, 0, 1, 1])


@mistake("the activation before the convolution, not after it", "segformer-two")
def _(patch: Patch) -> None:
    def wrong(self: Any, x: Tensor) -> Tensor:
        return self.down(self.dropout(self.mix(self.activation(self.up(x)))))

    patch.setattr(mix_feed_forward.MixFeedForward, "forward", wrong)


@mistake("stages fused from the finest to the coarsest", "segformer")
def _(patch: Patch) -> None:
    def cat(parts: list[Tensor], dim: int) -> Tensor:
        return torch.cat(parts[::-1], dim)

    patch.setattr(segformer_heads, "torch", SimpleNamespace(cat=cat))


@mistake("logits enlarged with their corners at the picture's corners", "segformer")
def _(patch: Patch) -> None:
    def interpolate(x: Tensor, **options: Any) -> Tensor:
        return F.interpolate(x, **options, align_corners=True)

    patch.setattr(segformer_heads, "F", SimpleNamespace(interpolate=interpolate))


@mistake("pixels without a label count as the last class", "segformer-two")
def _(patch: Patch) -> None:
    def wrong(self: Any, labels: Tensor, batch: int) -> Tensor:
        return labels.masked_fill(labels == 255, self.config.num_classes - 1)

    patch.setattr(segformer_heads.SegFormerForSemanticSegmentation, "_checked", wrong)


# -- Mask2Former -------------------------------------------------------------------------------------------------------


@mistake("a query reads where its mask is not", "mask2former")
def _(patch: Patch) -> None:
    right = mask2former.seen
    patch.setattr(mask2former, "seen", lambda masks, size: right(-masks, size))


@mistake("a query without a mask reads nothing", "mask2former-few")
def _(patch: Patch) -> None:
    def wrong(masks: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(masks, size=size, mode="bilinear").sigmoid().flatten(2) >= 0.5

    patch.setattr(mask2former, "seen", wrong)


@mistake("blocks read the levels from the finest to the coarsest", "mask2former")
def _(patch: Patch) -> None:
    right = mask2former_pixels.PixelDecoder.forward

    def wrong(self: Any, grids: list[Tensor]) -> Any:
        levels, pixels = right(self, grids)
        return levels[::-1], pixels

    patch.setattr(mask2former_pixels.PixelDecoder, "forward", wrong)


@mistake("where a place stands joins its value", "mask2former-few")
def _(patch: Patch) -> None:
    def wrong(self: Any, x: Tensor, where: Tensor, centres: Tensor, sizes: Any) -> Tensor:
        x = self.attention_norm(x + self.dropout(self.attention(x + where, centres, x + where, sizes)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))

    patch.setattr(mask2former_pixels.PixelDecoderBlock, "forward", wrong)


@mistake("offsets in rows and columns, references in columns and rows", "mask2former")
def _(patch: Patch) -> None:
    right = deformable_attention.grid_centres
    patch.setattr(mask2former_pixels, "grid_centres", lambda sizes, like: right(sizes, like).flip(-1))


@mistake("windows shrink to small grids in the backbone, as in the classifier", "mask2former")
def _(patch: Patch) -> None:
    patch.setattr(swin_backbone, "Windows", swin_backbone.Windows.fit)


@mistake("the classes are named from states before the norm", "mask2former-few")
def _(patch: Patch) -> None:
    right = mask2former.Mask2FormerForUniversalSegmentation.forward

    def wrong(self: Any, *args: Any, **options: Any) -> Any:
        kept, self.body.norm = self.body.norm, torch.nn.Identity()
        try:
            return right(self, *args, **options)
        finally:
            self.body.norm = kept

    patch.setattr(mask2former.Mask2FormerForUniversalSegmentation, "forward", wrong)


@mistake("only the last layer learns", "mask2former")
def _(patch: Patch) -> None:
    right = mask_loss.MaskLoss.__call__
    patch.setattr(mask_loss.MaskLoss, "__call__", lambda self, layers, targets: right(self, layers[-1:], targets))


@mistake("points looked at where the mask is most certain", "mask2former")
def _(patch: Patch) -> None:
    right = mask_loss.at_points

    def wrong(self: Any, masks: Tensor) -> Tensor:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(mask_loss, "at_points", lambda maps, points: 1 / (1e-3 + right(maps, points).abs()))
            return points_of(self, masks)

    points_of = mask_loss.MaskLoss.points
    patch.setattr(mask_loss.MaskLoss, "points", wrong)


@mistake("queries that stand for nothing count as much as the others", "mask2former-few")
def _(patch: Patch) -> None:
    right = mask2former.MaskLoss
    patch.setattr(mask2former, "MaskLoss", lambda **options: right(**options | {"nothing_weight": 1.0}))


@mistake("each loss is averaged over the queries, not over the objects", "mask2former")
def _(patch: Patch) -> None:
    right = mask_loss.MaskLoss._masks
    patch.setattr(mask_loss.MaskLoss, "_masks", lambda self, masks, there, num: right(self, masks, there, 7))
