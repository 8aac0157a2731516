"""SegFormer (Xie et al. 2021): a pyramid of grids without position embeddings; its heads are in segformer_heads.py."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, Compound, ConfigTable, Values
from glassformer.checkpoints.table import Table
from glassformer.models.vision import CLASSES, StagedEncoder, check_classes
from glassformer.parts import (
    ACTIVATIONS,
    Attention,
    Dropout,
    LayerNorm,
    MixFeedForward,
    OverlappingPatchEmbedding,
    PatchEmbedding,
    StochasticDepth,
)


@dataclass(frozen=True, kw_only=True)
class SegFormerConfig:
    """Table 6 of the paper; the defaults are SegFormer-B0 with the 150 classes of ADE20K.

    A stage has one entry in each tuple. Its grid is `strides` times smaller than the one before; attention reads keys
    and values of a grid that is `reductions` times smaller again. `path_dropout` grows from 0 at the first block to its
    value at the last. `decoder_dim` and `head_dropout` are of the head that segments.
    """

    channels: int = 3
    dims: tuple[int, ...] = (32, 64, 160, 256)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    num_heads: tuple[int, ...] = (1, 2, 5, 8)
    patch_sizes: tuple[int, ...] = (7, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    hidden_ratios: tuple[int, ...] = (4, 4, 4, 4)
    activation: str = "gelu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    path_dropout: float = 0.1
    decoder_dim: int = 256
    head_dropout: float = 0.1
    num_classes: int = 150
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.depths or any(len(getattr(self, name)) != len(self.depths) for name in PER_STAGE):
            each = ", ".join(f"{name}={getattr(self, name)}" for name in PER_STAGE)
            raise ValueError(f"{each} must speak of the same stages")
        check_classes(self.num_classes, self.labels)


PER_STAGE = ("dims", "depths", "num_heads", "patch_sizes", "strides", "reductions", "hidden_ratios")

_LARGE: dict[str, Any] = dict(dims=(64, 128, 320, 512), decoder_dim=768)
SIZES = {  # table 6, and section 4.1 for the decoder's width
    "segformer-b0": SegFormerConfig(),
    "segformer-b1": SegFormerConfig(dims=(64, 128, 320, 512)),
    "segformer-b2": SegFormerConfig(**_LARGE, depths=(3, 4, 6, 3)),
    "segformer-b3": SegFormerConfig(**_LARGE, depths=(3, 4, 18, 3)),
    "segformer-b4": SegFormerConfig(**_LARGE, depths=(3, 8, 27, 3)),
    "segformer-b5": SegFormerConfig(**_LARGE, depths=(3, 6, 40, 3)),
}

THEIR_STAGES = {"hidden_sizes": "dims", "depths": "depths", "num_attention_heads": "num_heads",
                "patch_sizes": "patch_sizes", "strides": "strides", "sr_ratios": "reductions",
                "mlp_ratios": "hidden_ratios"}  # fmt: skip


def _load_stages(theirs: dict[str, Any]) -> dict[str, Any]:
    default, ours = SegFormerConfig(), {}
    for name, own in THEIR_STAGES.items():
        values = theirs.get(name, list(getattr(default, own)))
        if not isinstance(values, list) or any(type(value) is not int or value < 1 for value in values):
            raise ValueError(f"config.json has {name}={values!r}; expected a list of whole numbers, 1 or more")
        ours[own] = tuple(values)
    if theirs.get("num_encoder_blocks", 4) != len(ours["depths"]):
        raise ValueError(f"config.json has num_encoder_blocks={theirs.get('num_encoder_blocks', 4)!r}; its depths "
                         f"speak of {len(ours['depths'])} stages")  # fmt: skip
    return ours


def _save_stages(config: SegFormerConfig) -> dict[str, Any]:
    stages = {name: list(getattr(config, own)) for name, own in THEIR_STAGES.items()}
    return {"num_encoder_blocks": len(config.depths), **stages}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    return ConfigTable(
        config=SegFormerConfig,
        model_type="segformer",
        architectures=(architecture,),
        names={
            "num_channels": "channels",
            "hidden_act": Values("activation", ACTIVATION_NAMES),
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
            "drop_path_rate": "path_dropout",
            "decoder_hidden_size": "decoder_dim",
            "classifier_dropout_prob": "head_dropout",
        },
        defaults={"num_channels": 3, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
                  "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.1, "decoder_hidden_size": 256,
                  "classifier_dropout_prob": 0.1},
        fixed={"reshape_last_stage": True, "semantic_loss_ignore_index": 255},
        # Their norms take 1e-5 whatever layer_norm_eps says; the others follow from the strides, or from nothing.
        ignored={"layer_norm_eps", "image_size", "downsampling_rates"},
        compounds=(
            Compound(("num_encoder_blocks", *THEIR_STAGES), PER_STAGE, _load_stages, _save_stages),
            CLASSES,
        ),
    )  # fmt: skip


def encoder_table(theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    rows = {
        "patch_embeddings.*.{proj,layer_norm}": "stages.*.{patches,patch_norm}",
        "block.*.*.layer_norm_{1,2}": "stages.*.blocks.*.{attention,feed_forward}_norm",
        "block.*.*.attention.self.{query,key,value}": "stages.*.blocks.*.attention.{query,key,value}",
        "block.*.*.attention.self.{sr,layer_norm}": "stages.*.blocks.*.{reduce,reduce_norm}",
        "block.*.*.attention.output.dense": "stages.*.blocks.*.attention.output",
        "block.*.*.mlp.{dense1,dwconv.dwconv,dense2}": "stages.*.blocks.*.feed_forward.{up,mix,down}",
        "layer_norm.*": "stages.*.norm",
    }
    return {f"{theirs}encoder.{name}": ours + own for name, own in rows.items()}


class SegFormerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); keys and values from a coarser grid (section 3.1)."""

    def __init__(self, config: SegFormerConfig, stage: int, path_dropout: float) -> None:
        super().__init__()
        dim, self.reduction = config.dims[stage], config.reductions[stage]
        hidden_dim = dim * config.hidden_ratios[stage]
        self.attention_norm = LayerNorm(dim)
        self.attention = Attention(dim, config.num_heads[stage], dropout=config.attention_dropout)
        self.reduce = PatchEmbedding(dim, self.reduction, dim) if self.reduction > 1 else None
        self.reduce_norm = LayerNorm(dim) if self.reduction > 1 else None
        self.feed_forward_norm = LayerNorm(dim)
        self.feed_forward = MixFeedForward(
            dim, hidden_dim, activation=ACTIVATIONS[config.activation], dropout=config.dropout
        )
        self.dropout = Dropout(config.dropout)
        self.path_dropout = StochasticDepth(path_dropout)

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:
        inside = self.attention_norm(x)
        out = self.attention(inside.flatten(1, 2), self.context(inside)).view_as(x)
        x = x + self.path_dropout(self.dropout(out))
        return x + self.path_dropout(self.dropout(self.feed_forward(self.feed_forward_norm(x))))

    def context(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b s d"] | None:
        """Places in squares of `reduction` × `reduction`, one vector for each (equations 1 and 2); a rest is not read.

        None where nothing is reduced: attention then reads the queries' own places.
        """
        if self.reduce is None or self.reduce_norm is None:
            return None
        rows, columns = (length - length % self.reduction for length in x.shape[1:3])
        squares = self.reduce(x.narrow(1, 0, rows).narrow(2, 0, columns).permute(0, 3, 1, 2))
        return self.reduce_norm(squares.flatten(1, 2))


class SegFormerStage(nn.Module):
    """Overlapping patches of the grid before, normalised, the blocks, and a last norm (figure 2)."""

    def __init__(self, config: SegFormerConfig, stage: int) -> None:
        super().__init__()
        dim, before = config.dims[stage], config.channels if stage == 0 else config.dims[stage - 1]
        first, total = sum(config.depths[:stage]), max(sum(config.depths) - 1, 1)
        self.patches = OverlappingPatchEmbedding(before, config.patch_sizes[stage], config.strides[stage], dim)
        self.patch_norm = LayerNorm(dim)
        self.blocks = nn.ModuleList(
            SegFormerBlock(config, stage, config.path_dropout * (first + i) / total)
            for i in range(config.depths[stage])
        )
        self.norm = LayerNorm(dim)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b rows columns d"]:
        x = self.patch_norm(self.patches(x))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class SegFormer(StagedEncoder):
    """The stages (figure 2, left); of the last grid each place, and their mean."""

    config_table = config_table("SegformerModel")
    table = encoder_table()

    def __init__(self, config: SegFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(SegFormerStage(config, stage) for stage in range(len(config.depths)))

    @property
    def patches(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The first stage's patches."""
        return self.stages[0].patches

    def feature_maps(self, pixel_values: Float[Tensor, "b c y x"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The grid (b, y, x, d) that each stage makes, the finest first."""
        grids, x = [], pixel_values
        for stage in self.stages:
            grids.append(stage(x))
            x = grids[-1].permute(0, 3, 1, 2)
        return grids

    def hidden(self, pixel_values: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t d"]:
        return self.feature_maps(pixel_values)[-1].flatten(1, 2)

    def check_size(self, rows: int, columns: int) -> None:
        shortest = min(rows, columns)
        for i, reduction in enumerate(self.config.reductions):
            shortest = self.stages[i].patches.length(shortest)  # pyright: ignore
            if shortest < reduction:
                raise ValueError(
                    f"pictures of {rows} × {columns} pixels are too small: stage {i + 1} has {max(shortest, 0)} places "
                    f"along the shorter side, and reduces {reduction} to one"
                )
