"""The classic mistakes of people who write models that segment; see `mutations.py`."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from mutations import Patch, mistake
from torch import Tensor

from glassformer.models import segformer, segformer_heads
from glassformer.parts import mix_feed_forward


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
