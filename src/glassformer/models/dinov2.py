"""DINOv2 (Oquab et al. 2023): a ViT trained without labels, each branch scaled, its giant with gated layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, ConfigTable, Values
from glassformer.checkpoints.table import Split, Table
from glassformer.models.outputs import EncoderOutput
from glassformer.models.vision import CLASSES, ImageClassification, ImageEncoder, check_classes, check_patches
from glassformer.parts import (
    ACTIVATIONS,
    Attention,
    Dropout,
    FeedForward,
    GatedFeedForward,
    GridPosition,
    LayerNorm,
    LayerScale,
    PatchEmbedding,
    StochasticDepth,
)


@dataclass(frozen=True, kw_only=True)
class DINOv2Config:
    """Table 17 of the paper; the defaults are ViT-B/14 as it was published, for 518 × 518 pixels.

    `gated` makes the feed-forward layers SwiGLU, two thirds as wide; they take no `activation`. `initial_scale` is what
    branches are multiplied by at first. `mask_token` stands for hidden patches while it learns without labels.
    """

    image_size: int = 518
    patch_size: int = 14
    channels: int = 3
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_ratio: int = 4
    gated: bool = False
    activation: str = "gelu"
    norm_eps: float = 1e-6
    attention_bias: bool = True
    initial_scale: float = 1.0
    mask_token: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    path_dropout: float = 0.0
    num_classes: int = 1000
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.patch_size < 1 or self.image_size < 1 or self.image_size % self.patch_size:
            raise ValueError(f"patch_size={self.patch_size} does not divide image_size={self.image_size}")
        check_classes(self.num_classes, self.labels)


SIZES = {  # table 17
    "dinov2-small": DINOv2Config(dim=384, num_heads=6),
    "dinov2-base": DINOv2Config(),
    "dinov2-large": DINOv2Config(dim=1024, num_layers=24, num_heads=16),
    "dinov2-giant": DINOv2Config(dim=1536, num_layers=40, num_heads=24, gated=True),
}

NAMES: Mapping[str, str | Values] = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_channels": "channels",
    "hidden_size": "dim",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "mlp_ratio": "hidden_ratio",
    "use_swiglu_ffn": "gated",
    "hidden_act": Values("activation", ACTIVATION_NAMES),
    "layer_norm_eps": "norm_eps",
    "qkv_bias": "attention_bias",
    "layerscale_value": "initial_scale",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "drop_path_rate": "path_dropout",
}
DEFAULTS: Mapping[str, Any] = {
    "image_size": 224, "num_channels": 3, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "mlp_ratio": 4, "use_swiglu_ffn": False, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True,
    "layerscale_value": 1.0, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.0,
}  # fmt: skip
OF_BACKBONES = frozenset({"apply_layernorm", "reshape_hidden_states", "out_features", "out_indices", "stage_names"})
"""What their class for detectors wants to know."""


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    return ConfigTable(
        config=DINOv2Config,
        model_type="dinov2",
        architectures=(architecture,),
        names={**NAMES, "use_mask_token": "mask_token"},
        defaults={**DEFAULTS, "patch_size": 14, "use_mask_token": True},
        ignored=OF_BACKBONES,
        compounds=(CLASSES,),
    )


def encoder_table(config: Any, theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    block, own = f"{theirs}encoder.layer.*.", f"{ours}blocks.*."
    inside = f"{own}feed_forward."
    gated: Table = {f"{block}mlp.weights_in": Split(inside + "{gate,up}"), f"{block}mlp.weights_out": f"{inside}down"}
    plain: Table = {f"{block}mlp.{{fc1,fc2}}": inside + "{up,down}"}
    return {
        f"{theirs}embeddings.{{cls_token,mask_token,position_embeddings}}":
            f"{ours}{{class_token,mask_token,position.weight}}",
        f"{theirs}embeddings.patch_embeddings.projection": f"{ours}patches",
        f"{block}attention.attention.{{query,key,value}}": f"{own}attention.{{query,key,value}}",
        f"{block}attention.output.dense": f"{own}attention.output",
        f"{block}{{norm1,norm2}}": f"{own}{{attention,feed_forward}}_norm",
        f"{block}layer_scale{{1,2}}.lambda1": f"{own}{{attention,feed_forward}}_scale.weight",
        f"{theirs}layernorm": f"{ours}norm",
        **(gated if config.gated else plain),
    }  # fmt: skip


def hide(
    patches: Float[Tensor, "b t d"], masked: Tensor | None, token: Float[Tensor, "1 d"] | None
) -> Float[Tensor, "b t d"]:
    """The patches with a token in the place of the masked ones. ValueError for another shape, or without a token."""
    if masked is None:
        return patches
    if token is None:
        raise ValueError("bool_masked_pos hides patches, but the config has mask_token=False: nothing stands for them")
    if masked.shape != patches.shape[:2] or masked.dtype != torch.bool:
        raise ValueError(f"bool_masked_pos has shape {tuple(masked.shape)} and dtype {masked.dtype}; expected "
                         f"{tuple(patches.shape[:2])}, true where a patch is hidden")  # fmt: skip
    return torch.where(masked[..., None], token, patches)


class DINOv2Block(nn.Module):
    """x + scale · attention(norm(x)), then x + scale · feed_forward(norm(x))."""

    def __init__(self, config: Any) -> None:  # DINOv2's, or that of a model with the same blocks
        super().__init__()
        biased, dim = "qkvo" if config.attention_bias else "o", config.dim
        hidden_dim = dim * config.hidden_ratio
        gated_dim = -(-(hidden_dim * 2 // 3) // 8) * 8  # as many weights in three matrices as in two
        self.attention_norm = LayerNorm(dim, config.norm_eps)
        self.attention = Attention(dim, config.num_heads, biased=biased, dropout=config.attention_dropout)
        self.attention_scale = LayerScale(dim, config.initial_scale)
        self.feed_forward_norm = LayerNorm(dim, config.norm_eps)
        self.feed_forward = (
            GatedFeedForward(dim, gated_dim, bias=True)
            if config.gated
            else FeedForward(dim, hidden_dim, activation=ACTIVATIONS[config.activation])
        )
        self.feed_forward_scale = LayerScale(dim, config.initial_scale)
        self.path_dropout = StochasticDepth(config.path_dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        x = x + self.path_dropout(self.attention_scale(self.attention(self.attention_norm(x))))
        return x + self.path_dropout(self.feed_forward_scale(self.feed_forward(self.feed_forward_norm(x))))


class DINOv2(ImageEncoder):
    """The class token and the patches, with their positions, the blocks, a last norm; the class token is the whole."""

    config_table = config_table("Dinov2Model")
    table = staticmethod(encoder_table)

    def __init__(self, config: DINOv2Config) -> None:
        super().__init__()
        self.config = config
        self.patches = PatchEmbedding(config.channels, config.patch_size, config.dim)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        self.mask_token = nn.Parameter(torch.zeros(1, config.dim)) if config.mask_token else None
        self.position = GridPosition(config.image_size // config.patch_size, config.dim, before=1)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(DINOv2Block(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.dim, config.norm_eps)

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> EncoderOutput:
        """As `ImageEncoder.forward`. Patches at which `bool_masked_pos` (b, t) is true are hidden: the mask token."""
        self.check(pixel_values)
        hidden = self.hidden(pixel_values.to(self.patches.weight.dtype), bool_masked_pos)
        return EncoderOutput(hidden, self.pooled(hidden))

    def hidden(self, pixel_values: Float[Tensor, "b c y x"], masked: Tensor | None = None) -> Float[Tensor, "b t d"]:
        grid = self.patches(pixel_values)
        x = hide(grid.flatten(1, 2), masked, self.mask_token)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.dropout(x + self.position(*grid.shape[1:3]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def pooled(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        return hidden[:, 0]

    def check_size(self, rows: int, columns: int) -> None:
        check_patches(rows, columns, self.config.patch_size)


class DINOv2ForImageClassification(ImageClassification):
    """A linear head on the class token and the mean of the patches, side by side (the paper's linear probe)."""

    config_table = config_table("Dinov2ForImageClassification")
    table = staticmethod(lambda config: {**encoder_table(config, "dinov2.", "encoder."), "classifier": "head"})

    def __init__(self, config: DINOv2Config) -> None:
        encoder = DINOv2(config)
        if encoder.mask_token is not None:
            encoder.mask_token.requires_grad = False  # nothing is hidden here
        super().__init__(encoder, 2 * config.dim)

    def features(self, encoded: EncoderOutput) -> Float[Tensor, "b e"]:
        hidden = encoded.last_hidden_state
        return torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], dim=1)


HEADS = {"image_classification": DINOv2ForImageClassification}
"""Task -> class."""
