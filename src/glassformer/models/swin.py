"""Swin (Liu et al. 2021): attention in windows that shift from block to block, over a grid that shrinks by stages."""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, Compound, ConfigTable, Values
from glassformer.checkpoints.table import DROP, Table
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
    StochasticDepth,
    attend_in_windows,
    few_at_a_time,
)
from glassformer.parts.windows import WindowBias, WindowMasks, Windows


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """Section 3.3 of the paper; the defaults are Swin-T. `path_dropout` grows from 0 at the first block to its value.

    Each stage has a number of blocks in `depths`, and of heads in `num_heads`; widths double from stage to stage.
    """

    image_size: int = 224
    patch_size: int = 4
    channels: int = 3
    dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 7
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
        if not self.depths or len(self.depths) != len(self.num_heads):
            raise ValueError(f"depths={self.depths} and num_heads={self.num_heads} must speak of the same stages")
        if self.window_size < 2:
            raise ValueError(f"window_size={self.window_size} leaves nothing to attend to; expected 2 or more")
        check_classes(self.num_classes, self.labels)

    @property
    def final_dim(self) -> int:
        """The width of the last stage."""
        return self.dim * 2 ** (len(self.depths) - 1)


SIZES = {  # section 3.3; their depth of dropped paths: appendix A2.1
    "swin-tiny-patch4-window7-224": SwinConfig(path_dropout=0.2),
    "swin-small-patch4-window7-224": SwinConfig(depths=(2, 2, 18, 2), path_dropout=0.3),
    "swin-base-patch4-window7-224": SwinConfig(
        dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), path_dropout=0.5
    ),
    "swin-large-patch4-window7-224": SwinConfig(dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48)),
}


def load_stages(theirs: dict[str, Any]) -> dict[str, Any]:
    """The stages as their config has them. Raises ValueError where its numbers contradict each other."""
    dim, depths = theirs.get("embed_dim", 96), theirs.get("depths", [2, 2, 6, 2])
    heads = theirs.get("num_heads", [3, 6, 12, 24])
    for name, value in (("embed_dim", [dim]), ("depths", depths), ("num_heads", heads)):
        if not isinstance(value, list) or any(type(number) is not int or number < 1 for number in value):
            raise ValueError(f"config.json has {name}={theirs.get(name)!r}; expected whole numbers, 1 or more")
    for name, value in (("num_layers", len(depths)), ("hidden_size", dim * 2 ** (len(depths) - 1))):
        if theirs.get(name, value) != value:
            raise ValueError(f"config.json has {name}={theirs[name]!r}; by embed_dim and depths it is {value}")
    return {"dim": dim, "depths": tuple(depths), "num_heads": tuple(heads)}


def save_stages(config: Any) -> dict[str, Any]:
    """What `load_stages` reads."""
    return {"embed_dim": config.dim, "depths": list(config.depths), "num_heads": list(config.num_heads)}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    return ConfigTable(
        config=SwinConfig,
        model_type="swin",
        architectures=(architecture,),
        names={
            "image_size": "image_size",
            "patch_size": "patch_size",
            "num_channels": "channels",
            "window_size": "window_size",
            "mlp_ratio": "hidden_ratio",
            "hidden_act": Values("activation", ACTIVATION_NAMES),
            "layer_norm_eps": "norm_eps",
            "qkv_bias": "attention_bias",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
            "drop_path_rate": "path_dropout",
        },
        defaults={"image_size": 224, "patch_size": 4, "num_channels": 3, "window_size": 7, "mlp_ratio": 4.0,
                  "hidden_act": "gelu", "layer_norm_eps": 1e-5, "qkv_bias": True, "hidden_dropout_prob": 0.0,
                  "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.1},
        fixed={"use_absolute_embeddings": False},
        ignored={"encoder_stride", "out_features", "out_indices", "stage_names", "path_norm"},  # of other heads
        compounds=(
            Compound(("embed_dim", "depths", "num_heads", "num_layers", "hidden_size"), ("dim", "depths", "num_heads"),
                     load_stages, save_stages),
            CLASSES,
        ),
    )  # fmt: skip


def encoder_table(theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    block, own = f"{theirs}encoder.layers.*.blocks.*.", f"{ours}stages.*.blocks.*."
    return {
        f"{theirs}embeddings.patch_embeddings.projection": f"{ours}patches",
        f"{theirs}embeddings.norm": f"{ours}patch_norm",
        f"{block}attention.self.{{query,key,value}}": f"{own}attention.{{query,key,value}}",
        f"{block}attention.self.relative_position_bias_table": f"{own}bias.table",
        f"{block}attention.self.relative_position_index": DROP,
        f"{block}attention.output.dense": f"{own}attention.output",
        f"{block}{{intermediate,output}}.dense": f"{own}feed_forward.{{up,down}}",
        f"{block}layernorm_{{before,after}}": f"{own}{{attention,feed_forward}}_norm",
        f"{theirs}encoder.layers.*.downsample.{{norm,reduction}}": f"{ours}stages.*.merge.{{norm,reduce}}",
        f"{theirs}layernorm": f"{ours}norm",
    }


TABLE = encoder_table()
HEAD_TABLE: Table = {**encoder_table("swin.", "encoder."), "classifier": "head"}


class SwinBlock(nn.Module):
    """x + attention(norm(x)) within windows, then x + feed_forward(norm(x))  (equation 3)."""

    def __init__(self, config: SwinConfig, dim: int, num_heads: int, path_dropout: float) -> None:
        super().__init__()
        biased, hidden_dim = "qkvo" if config.attention_bias else "o", int(dim * config.hidden_ratio)
        self.attention_norm = LayerNorm(dim, config.norm_eps)
        self.attention = Attention(dim, num_heads, biased=biased, dropout=config.attention_dropout)
        self.bias = WindowBias(num_heads, config.window_size)
        self.feed_forward_norm = LayerNorm(dim, config.norm_eps)
        self.feed_forward = FeedForward(dim, hidden_dim, activation=ACTIVATIONS[config.activation])
        self.dropout = Dropout(config.dropout)
        self.path_dropout = StochasticDepth(path_dropout)

    def forward(self, x: Float[Tensor, "b y x d"], *, windows: Windows, mask: Mask) -> Float[Tensor, "b y x d"]:
        inside = attend_in_windows(self.attention, self.attention_norm(x), windows, mask, self.bias(windows.size))
        x = x + self.path_dropout(self.dropout(inside))
        return x + self.path_dropout(self.dropout(self.feed_forward(self.feed_forward_norm(x))))


class PatchMerging(nn.Module):
    """Four neighbours become one place of twice the width; an odd grid is filled up with zeros (section 3.1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * dim)
        self.reduce = Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b rows columns e"]:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        return self.reduce(self.norm(rearrange(x, "b (y p) (x q) d -> b y x (q p d)", p=2, q=2)))


class SwinStage(nn.Module):
    """Blocks over one grid, every other one with its windows shifted by half a window; then the grid is halved."""

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        dim, first, total = config.dim * 2**stage, sum(config.depths[:stage]), max(sum(config.depths) - 1, 1)
        self.window_size = config.window_size
        self.blocks = nn.ModuleList(
            SwinBlock(config, dim, config.num_heads[stage], config.path_dropout * (first + i) / total)
            for i in range(config.depths[stage])
        )
        self.merge = PatchMerging(dim) if stage < len(config.depths) - 1 else None
        self.masks = WindowMasks()

    @few_at_a_time
    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b rows columns e"]:
        for i, block in enumerate(self.blocks):
            windows = Windows.fit(x.shape[1], x.shape[2], self.window_size, i % 2 * (self.window_size // 2))
            x = block(x, windows=windows, mask=self.masks(windows, x))
        return x if self.merge is None else self.merge(x)


class Swin(StagedEncoder):
    """Patches, normalised, the stages, and a last norm (figure 3); the places of the last grid, and their mean."""

    config_table = config_table("SwinModel")
    table = TABLE

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = PatchEmbedding(config.channels, config.patch_size, config.dim)
        self.patch_norm = LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        self.stages = nn.ModuleList(SwinStage(config, stage) for stage in range(len(config.depths)))
        self.norm = LayerNorm(config.final_dim, config.norm_eps)

    def hidden(self, pixel_values: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t d"]:
        p = self.config.patch_size  # pictures that patches do not divide are filled up with zeros
        pixel_values = F.pad(pixel_values, (0, -pixel_values.shape[3] % p, 0, -pixel_values.shape[2] % p))
        x = self.dropout(self.patch_norm(self.patches(pixel_values)))
        for stage in self.stages:
            x = stage(x)
        return self.norm(x.flatten(1, 2))


class SwinForImageClassification(ImageClassification):
    """A linear head on the mean over the last grid."""

    config_table = config_table("SwinForImageClassification")
    table = HEAD_TABLE

    def __init__(self, config: SwinConfig) -> None:
        super().__init__(Swin(config), config.final_dim)


HEADS = {"image_classification": SwinForImageClassification}
"""Task -> class."""
