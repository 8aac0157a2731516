"""Swin V2 (Liu et al. 2022): Swin that grows: norms after the branches, cosine attention, log-spaced biases."""

from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import Compound, ConfigTable
from glassformer.checkpoints.table import Table
from glassformer.models import swin
from glassformer.models.vision import CLASSES, ImageClassification, StagedEncoder, check_classes
from glassformer.ops.mask import Mask
from glassformer.parts import (
    ACTIVATIONS,
    Attention,
    Dropout,
    FeedForward,
    LayerNorm,
    Linear,
    PatchEmbedding,
    ScaledUnitNorm,
    StochasticDepth,
    UnitNorm,
    attend_in_windows,
    few_at_a_time,
)
from glassformer.parts.windows import ContinuousWindowBias, WindowMasks, Windows


@dataclass(frozen=True, kw_only=True)
class SwinV2Config:
    """Section 3.5 of the paper; the defaults are SwinV2-T with windows of 8 × 8. Settings are those of `SwinConfig`.

    A stage whose grid, for pictures of `image_size`, is no larger than a window has one window as large as the grid.
    `trained_window_sizes` are, for each stage, those of an earlier training; 0 where there was none.
    """

    image_size: int = 256
    patch_size: int = 4
    channels: int = 3
    dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 8
    trained_window_sizes: tuple[int, ...] = (0, 0, 0, 0)
    hidden_ratio: float = 4.0
    activation: str = "gelu"
    norm_eps: float = 1e-5
    attention_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    path_dropout: float = 0.1
    num_classes: int = 1000
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.depths or not len(self.depths) == len(self.num_heads) == len(self.trained_window_sizes):
            raise ValueError(f"depths={self.depths}, num_heads={self.num_heads} and trained_window_sizes="
                             f"{self.trained_window_sizes} must speak of the same stages")  # fmt: skip
        if self.window_size < 2:
            raise ValueError(f"window_size={self.window_size} leaves nothing to attend to; expected 2 or more")
        if self.patch_size < 1 or self.grid(len(self.depths) - 1) < 1:
            raise ValueError(f"image_size={self.image_size} leaves the last of {len(self.depths)} stages no place")
        check_classes(self.num_classes, self.labels)

    def grid(self, stage: int) -> int:
        """Places along a side in this stage, for pictures of `image_size`."""
        return self.image_size // self.patch_size // 2**stage

    @property
    def final_dim(self) -> int:
        """The width of the last stage."""
        return self.dim * 2 ** (len(self.depths) - 1)


_SMALL: dict[str, Any] = dict(depths=(2, 2, 18, 2), path_dropout=0.3)
_BASE: dict[str, Any] = dict(dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), path_dropout=0.5)
_LARGE: dict[str, Any] = dict(dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), path_dropout=0.2)
_GROWN = (12, 12, 12, 6)  # first trained on 192 × 192 pixels (table 3)
SIZES = {  # section 3.5, and the released code for windows and dropped paths
    "swinv2-tiny-patch4-window8-256": SwinV2Config(path_dropout=0.2),
    "swinv2-tiny-patch4-window16-256": SwinV2Config(window_size=16, path_dropout=0.2),
    "swinv2-small-patch4-window8-256": SwinV2Config(**_SMALL),
    "swinv2-small-patch4-window16-256": SwinV2Config(window_size=16, **_SMALL),
    "swinv2-base-patch4-window8-256": SwinV2Config(**_BASE),
    "swinv2-base-patch4-window16-256": SwinV2Config(window_size=16, **_BASE),
    "swinv2-large-patch4-window12-192": SwinV2Config(image_size=192, window_size=12, **_LARGE),
    "swinv2-large-patch4-window12to16-192to256": SwinV2Config(
        window_size=16, trained_window_sizes=_GROWN, **_LARGE
    ),
    "swinv2-large-patch4-window12to24-192to384": SwinV2Config(
        image_size=384, window_size=24, trained_window_sizes=_GROWN, **_LARGE
    ),
}  # fmt: skip


def _load_stages(theirs: dict[str, Any]) -> dict[str, Any]:
    trained = theirs.pop("pretrained_window_sizes", [0, 0, 0, 0])
    if not isinstance(trained, list) or any(type(size) is not int or size < 0 for size in trained):
        raise ValueError(f"config.json has pretrained_window_sizes={trained!r}; expected whole numbers")
    stages = swin.load_stages(theirs)
    return stages | {"trained_window_sizes": tuple(trained[: len(stages["depths"])])}


def _save_stages(config: SwinV2Config) -> dict[str, Any]:
    return swin.save_stages(config) | {"pretrained_window_sizes": list(config.trained_window_sizes)}


_STAGES = Compound(
    ("embed_dim", "depths", "num_heads", "num_layers", "hidden_size", "pretrained_window_sizes"),
    ("dim", "depths", "num_heads", "trained_window_sizes"), _load_stages, _save_stages,
)  # fmt: skip


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it: as Swin's, and the windows of an earlier training."""
    first = swin.config_table(architecture)
    return replace(first, config=SwinV2Config, model_type="swinv2", compounds=(_STAGES, CLASSES))


def encoder_table(theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files: Swin's, but for the scale and the bias."""
    block, own = f"{theirs}encoder.layers.*.blocks.*.attention.self.", f"{ours}stages.*.blocks.*."
    network = f"{block}continuous_position_bias_mlp."
    shared = {name: rule for name, rule in swin.encoder_table(theirs, ours).items() if "relative_position" not in name}
    return {
        **shared,
        f"{block}logit_scale": f"{own}attention.query_norm.log_scale",
        f"{network}{{0,2}}": f"{own}bias.{{up,down}}",
    }


TABLE = encoder_table()
HEAD_TABLE: Table = {**encoder_table("swinv2.", "encoder."), "classifier": "head"}


class SwinV2Block(nn.Module):
    """x + norm(attention(x)) within windows, then x + norm(feed_forward(x))  (figure 1, right; section 3.2)."""

    def __init__(self, config: SwinV2Config, stage: int, window_size: int, path_dropout: float) -> None:
        super().__init__()
        dim, num_heads = config.dim * 2**stage, config.num_heads[stage]
        hidden_dim = int(dim * config.hidden_ratio)
        self.attention = Attention(
            dim, num_heads, biased="qvo" if config.attention_bias else "o", query_norm=ScaledUnitNorm(num_heads),
            key_norm=UnitNorm(), scale=1.0, dropout=config.attention_dropout,
        )  # fmt: skip
        self.bias = ContinuousWindowBias(num_heads, window_size, trained_size=config.trained_window_sizes[stage])
        self.attention_norm = LayerNorm(dim, config.norm_eps)
        self.feed_forward = FeedForward(dim, hidden_dim, activation=ACTIVATIONS[config.activation])
        self.feed_forward_norm = LayerNorm(dim, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.path_dropout = StochasticDepth(path_dropout)
        for norm in (self.attention_norm, self.feed_forward_norm):
            nn.init.zeros_(norm.weight)  # the block starts as the identity (the released code)

    def forward(self, x: Float[Tensor, "b y x d"], *, windows: Windows, mask: Mask) -> Float[Tensor, "b y x d"]:
        inside = attend_in_windows(self.attention, x, windows, mask, self.bias())
        x = x + self.path_dropout(self.attention_norm(self.dropout(inside)))
        return x + self.path_dropout(self.feed_forward_norm(self.dropout(self.feed_forward(x))))


class PatchMerging(nn.Module):
    """Four neighbours become one place of twice the width, and then are normalised; odd grids get zeros."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduce = Linear(4 * dim, 2 * dim, bias=False)
        self.norm = LayerNorm(2 * dim)

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b rows columns e"]:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        return self.norm(self.reduce(rearrange(x, "b (y p) (x q) d -> b y x (q p d)", p=2, q=2)))


class SwinV2Stage(nn.Module):
    """Blocks over one grid, every other one with its windows shifted by half a window; then the grid is halved."""

    def __init__(self, config: SwinV2Config, stage: int) -> None:
        super().__init__()
        first, total, grid = sum(config.depths[:stage]), max(sum(config.depths) - 1, 1), config.grid(stage)
        self.window_size = min(grid, config.window_size)
        self.shift = config.window_size // 2 if grid > self.window_size else 0
        self.blocks = nn.ModuleList(
            SwinV2Block(config, stage, self.window_size, config.path_dropout * (first + i) / total)
            for i in range(config.depths[stage])
        )
        self.merge = PatchMerging(config.dim * 2**stage) if stage < len(config.depths) - 1 else None
        self.masks = WindowMasks()

    @few_at_a_time
    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b rows columns e"]:
        for i, block in enumerate(self.blocks):
            windows = Windows(x.shape[1], x.shape[2], self.window_size, i % 2 * self.shift)
            x = block(x, windows=windows, mask=self.masks(windows, x))
        return x if self.merge is None else self.merge(x)


class SwinV2(StagedEncoder):
    """Patches, normalised, the stages, and a last norm; the places of the last grid, and their mean."""

    config_table = config_table("Swinv2Model")
    table = TABLE

    def __init__(self, config: SwinV2Config) -> None:
        super().__init__()
        self.config = config
        self.patches = PatchEmbedding(config.channels, config.patch_size, config.dim)
        self.patch_norm = LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        self.stages = nn.ModuleList(SwinV2Stage(config, stage) for stage in range(len(config.depths)))
        self.norm = LayerNorm(config.final_dim, config.norm_eps)

    def hidden(self, pixel_values: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t d"]:
        p = self.config.patch_size  # pictures that patches do not divide are filled up with zeros
        pixel_values = F.pad(pixel_values, (0, -pixel_values.shape[3] % p, 0, -pixel_values.shape[2] % p))
        x = self.dropout(self.patch_norm(self.patches(pixel_values)))
        for stage in self.stages:
            x = stage(x)
        return self.norm(x.flatten(1, 2))


class SwinV2ForImageClassification(ImageClassification):
    """A linear head on the mean over the last grid."""

    config_table = config_table("Swinv2ForImageClassification")
    table = HEAD_TABLE

    def __init__(self, config: SwinV2Config) -> None:
        super().__init__(SwinV2(config), config.final_dim)


HEADS = {"image_classification": SwinV2ForImageClassification}
"""Task -> class."""
