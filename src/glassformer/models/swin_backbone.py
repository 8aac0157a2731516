"""Swin as what detectors and segmenters stand on (Liu et al. 2021, section 4.2): the grids of all its stages."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.table import DROP, Table
from glassformer.models.swin import SwinConfig, SwinStage
from glassformer.models.swin import encoder_table as swin_table
from glassformer.models.vision import StagedEncoder
from glassformer.parts import Dropout, LayerNorm, PatchEmbedding, Windows


def backbone_table(theirs: str, ours: str) -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    rows = {name: own for name, own in swin_table(theirs, ours).items() if name != f"{theirs}layernorm"}
    unread: Table = dict.fromkeys((f"{theirs}layernorm", f"{theirs}swin.layernorm"), DROP)  # a norm of no stage
    return {**rows, **unread, f"{theirs}hidden_states_norms.stage{{1,2,3,4}}": f"{ours}norms.{{0,1,2,3}}"}


class SwinBackbone(StagedEncoder):
    """The grid of each stage before it is halved, normalised.

    Windows keep their size, and shift, where a grid is smaller than one, as in the detectors that are trained with it.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = PatchEmbedding(config.channels, config.patch_size, config.dim)
        self.patch_norm = LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        self.stages = nn.ModuleList(SwinStage(config, stage) for stage in range(len(config.depths)))
        self.norms = nn.ModuleList(LayerNorm(width) for width in self.widths)

    @property
    def widths(self) -> list[int]:
        """The width of each stage's grid."""
        return [self.config.dim * 2**stage for stage in range(len(self.config.depths))]

    def feature_maps(self, pixel_values: Float[Tensor, "b c y x"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The grid (b, y, x, d) that each stage makes, the finest first."""
        p, size = self.config.patch_size, self.config.window_size
        pixel_values = F.pad(pixel_values, (0, -pixel_values.shape[3] % p, 0, -pixel_values.shape[2] % p))
        x, grids = self.dropout(self.patch_norm(self.patches(pixel_values))), []
        stage: Any
        for stage, norm in zip(self.stages, self.norms, strict=True):
            for i, block in enumerate(stage.blocks):
                windows = Windows(x.shape[1], x.shape[2], size, i % 2 * (size // 2))
                x = block(x, windows=windows, mask=stage.masks(windows, x))
            grids.append(norm(x))
            x = x if stage.merge is None else stage.merge(x)
        return grids

    def hidden(self, pixel_values: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t d"]:
        return self.feature_maps(pixel_values)[-1].flatten(1, 2)

    def pooled(self, hidden: Float[Tensor, "b t d"]) -> None:
        return None
