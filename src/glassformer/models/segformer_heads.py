"""What SegFormer is trained for: naming each pixel, or the whole picture (Xie et al. 2021, sections 3.2 and 4.1)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import Table
from glassformer.models.labels import check_labels, mean_cross_entropy
from glassformer.models.outputs import SegmentationOutput
from glassformer.models.segformer import SegFormer, SegFormerConfig, config_table, encoder_table
from glassformer.models.vision import ImageClassification
from glassformer.ops.cross_entropy import IGNORE
from glassformer.parts import Dropout, Linear

UNLABELLED = 255
"""The label of a pixel that does not count, as data sets of segmentation write it."""

STATISTICS = "{running_mean,running_var,num_batches_tracked}"
DECODER_TABLE: Table = {
    **encoder_table("segformer.", "encoder."),
    "decode_head.linear_c.*.proj": "decoder.project.*",
    "decode_head.linear_fuse": "decoder.fuse",
    "decode_head.batch_norm": "decoder.norm",
    f"decode_head.batch_norm.{STATISTICS}": f"decoder.norm.{STATISTICS}",
    "decode_head.classifier": "decoder.head",
}
HEAD_TABLE: Table = {**encoder_table("segformer.", "encoder."), "classifier": "head"}


class SegFormerDecoder(nn.Module):
    """Each stage's places projected, brought to the finest grid, and fused by a matrix (section 3.2, equation 4).

    1 × 1 convolutions, kept as such: weights (d, c, 1, 1). The coarsest stage stands first in what is fused.
    """

    def __init__(self, config: SegFormerConfig) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.project = nn.ModuleList(Linear(width, dim) for width in config.dims)
        self.fuse = nn.Conv2d(dim * len(config.dims), dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.dropout = Dropout(config.head_dropout)
        self.head = nn.Conv2d(dim, config.num_classes, 1)
        nn.init.kaiming_normal_(self.fuse.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)  # pyright: ignore

    def forward(self, grids: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b n y x"]:
        finest, same = grids[0].shape[1:3], []
        for project, grid in zip(self.project, grids, strict=True):
            x = project(grid).permute(0, 3, 1, 2)
            same.append(x if x.shape[2:] == finest else F.interpolate(x, size=finest, mode="bilinear"))
        return self.head(self.dropout(self.norm(self.fuse(torch.cat(same[::-1], 1))).relu()))


class SegFormerForSemanticSegmentation(Pretrained, nn.Module):
    """A class for each pixel, on a grid as fine as the first stage's; `enlarged` brings it to the picture's size."""

    config_table = config_table("SegformerForSemanticSegmentation")
    table = DECODER_TABLE

    def __init__(self, config: SegFormerConfig) -> None:
        super().__init__()
        if config.num_classes < 2:
            raise ValueError(f"num_classes={config.num_classes} leaves nothing to tell apart; expected 2 or more")
        self.config = config
        self.encoder = SegFormer(config)
        self.decoder = SegFormerDecoder(config)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> SegmentationOutput:
        """Logits (b, n, y', x') of the finest grid; with `labels` (b, y, x), the mean loss over their pixels too.

        Labels are whole numbers of any dtype; 255 and −100 do not count. The logits are enlarged to the labels' size.

        Raises:
            ValueError, TypeError: what `SegFormer` raises, and for labels of another batch or outside the classes.
        """
        self.encoder.check(pixel_values)
        if labels is not None:
            labels = self._checked(labels, len(pixel_values))
        logits: Tensor = self.decoder(self.encoder.feature_maps(pixel_values.to(self.encoder.patches.weight.dtype)))
        if labels is None:
            return SegmentationOutput(None, logits)
        fine = enlarged(logits, labels.shape[1:])
        return SegmentationOutput(mean_cross_entropy(fine.permute(0, 2, 3, 1), labels), logits)

    @property
    def blocks(self) -> nn.ModuleList:
        """The encoder's blocks."""
        return self.encoder.blocks

    @property
    def num_parameters(self) -> int:
        """Parameters, the decoder's included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _checked(self, labels: Tensor, batch: int) -> Tensor:
        if labels.ndim != 3 or len(labels) != batch or 0 in labels.shape:
            raise ValueError(f"labels have shape {tuple(labels.shape)}; expected ({batch}, height, width)")
        if labels.is_floating_point() or labels.is_complex():
            raise TypeError(f"labels have dtype {labels.dtype}; expected whole numbers, a class for each pixel")
        labels = labels.long().masked_fill(labels == UNLABELLED, IGNORE)
        check_labels(labels, tuple(labels.shape), self.config.num_classes)
        return labels


def enlarged(logits: Float[Tensor, "b n y x"], size: tuple[int, int] | torch.Size) -> Float[Tensor, "b n _ _"]:
    """The logits interpolated, bilinearly, to pictures of `size` rows and columns."""
    return logits if logits.shape[2:] == size else F.interpolate(logits, size=tuple(size), mode="bilinear")


class SegFormerForImageClassification(ImageClassification):
    """A linear head on the mean over the last grid."""

    config_table = config_table("SegformerForImageClassification")
    table = HEAD_TABLE

    def __init__(self, config: SegFormerConfig) -> None:
        super().__init__(SegFormer(config), config.dims[-1])


HEADS = {
    "semantic_segmentation": SegFormerForSemanticSegmentation,
    "image_classification": SegFormerForImageClassification,
}
"""Task -> class."""
