"""ViT (Dosovitskiy et al. 2021): a picture as a sequence of patches, read by a plain encoder."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, Compound, ConfigTable, Values
from glassformer.checkpoints.table import Table
from glassformer.models.outputs import EncoderOutput
from glassformer.models.vision import CLASSES, ImageClassification, ImageEncoder, check_classes, check_patches
from glassformer.parts import ACTIVATIONS, Attention, FeedForward, GridPosition, LayerNorm, Linear, PatchEmbedding
from glassformer.parts.dropout import Dropout


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Table 1 of the paper; the defaults are ViT-Base with patches of 16 × 16, and ImageNet's classes.

    `pooling` is what the head reads: "class_token", a learned token in front, or "mean", the patches' average, without
    such a token (appendix D.3). Pictures may have other sizes than `image_size`: positions are interpolated.
    """

    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    norm_eps: float = 1e-12
    attention_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    pooling: str = "class_token"
    num_classes: int = 1000
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.patch_size < 1 or self.image_size < 1 or self.image_size % self.patch_size:
            raise ValueError(f"patch_size={self.patch_size} does not divide image_size={self.image_size}")
        if self.pooling not in ("class_token", "mean"):
            raise ValueError(f"pooling={self.pooling!r} is unknown; expected 'class_token' or 'mean'")
        check_classes(self.num_classes, self.labels)


SIZES = {  # table 1; Tiny and Small: DeiT (Touvron et al. 2021), table 1
    "vit-tiny-patch16-224": ViTConfig(dim=192, num_heads=3, hidden_dim=768),
    "vit-small-patch16-224": ViTConfig(dim=384, num_heads=6, hidden_dim=1536),
    "vit-base-patch16-224": ViTConfig(),
    "vit-base-patch32-224": ViTConfig(patch_size=32),
    "vit-large-patch16-224": ViTConfig(dim=1024, num_layers=24, num_heads=16, hidden_dim=4096),
    "vit-huge-patch14-224": ViTConfig(patch_size=14, dim=1280, num_layers=32, num_heads=16, hidden_dim=5120),
}


def _load_width(theirs: dict[str, Any]) -> dict[str, Any]:
    dim = theirs.get("hidden_size", 768)
    pooled = theirs.get("pooler_output_size")
    if pooled not in (None, dim):
        raise ValueError(f"config.json has pooler_output_size={pooled!r}; expected hidden_size={dim}, or none")
    return {"dim": dim}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    return ConfigTable(
        config=ViTConfig,
        model_type="vit",
        architectures=(architecture,),
        names={
            "image_size": "image_size",
            "patch_size": "patch_size",
            "num_channels": "channels",
            "num_hidden_layers": "num_layers",
            "num_attention_heads": "num_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": Values("activation", ACTIVATION_NAMES),
            "layer_norm_eps": "norm_eps",
            "qkv_bias": "attention_bias",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        },
        defaults={"image_size": 224, "patch_size": 16, "num_channels": 3, "num_hidden_layers": 12,
                  "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
                  "qkv_bias": True, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        fixed={"pooler_act": "tanh"},
        ignored={"encoder_stride"},  # of their masked image model's decoder
        compounds=(
            Compound(("hidden_size", "pooler_output_size"), ("dim",), _load_width, lambda c: {"hidden_size": c.dim}),
            CLASSES,
        ),
        unsayable={"pooling": "class_token"},
    )  # fmt: skip


def encoder_table(theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    rows = {
        "embeddings.{cls_token,position_embeddings}": "{class_token,position.weight}",
        "embeddings.patch_embeddings.projection": "patches",
        "encoder.layer.*.attention.attention.{query,key,value}": "blocks.*.attention.{query,key,value}",
        "encoder.layer.*.attention.output.dense": "blocks.*.attention.output",
        "encoder.layer.*.{intermediate,output}.dense": "blocks.*.feed_forward.{up,down}",
        "encoder.layer.*.layernorm_{before,after}": "blocks.*.{attention,feed_forward}_norm",
        "layernorm": "norm",
    }
    return {theirs + name: ours + own for name, own in rows.items()}


TABLE: Table = {**encoder_table(), "pooler.dense": "pooler.dense"}
HEAD_TABLE: Table = {**encoder_table("vit.", "encoder."), "classifier": "head"}


class ViTBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))  (equations 2 and 3)."""

    def __init__(self, config: Any) -> None:  # ViT's, or that of a model with the same blocks
        super().__init__()
        biased = "qkvo" if config.attention_bias else "o"
        self.attention_norm = LayerNorm(config.dim, config.norm_eps)
        self.attention = Attention(config.dim, config.num_heads, biased=biased, dropout=config.attention_dropout)
        self.feed_forward_norm = LayerNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(config.dim, config.hidden_dim, activation=ACTIVATIONS[config.activation])
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class ViTPooler(nn.Module):
    """tanh(dense(the class token)), as their encoder without a head has it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = Linear(dim, dim)

    def forward(self, token: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return self.dense(token).tanh()


class ViT(ImageEncoder):
    """Patches and the class token, with their positions, the blocks, and a last norm (equations 1 to 4)."""

    config_table = config_table("ViTModel")
    table = TABLE
    optional = ("pooler",)

    def __init__(self, config: ViTConfig, *, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        token = config.pooling == "class_token"
        self.patches = PatchEmbedding(config.channels, config.patch_size, config.dim)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02) if token else None
        self.position = GridPosition(config.image_size // config.patch_size, config.dim, before=int(token))
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(ViTBlock(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.dim, config.norm_eps)
        self.pooler = ViTPooler(config.dim) if pooler and token else None

    def hidden(self, pixel_values: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t d"]:
        return self.read(self.embedded(pixel_values))

    def embedded(self, pixel_values: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t d"]:
        """The class token and the patches, with their positions (equation 1)."""
        grid = self.patches(pixel_values)
        x = grid.flatten(1, 2)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.dropout(x + self.position(*grid.shape[1:3]))

    def read(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """What the blocks and the last norm make of these tokens (equations 2 to 4)."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def pooled(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"] | None:
        if self.class_token is None:
            return hidden.mean(1)
        return None if self.pooler is None else self.pooler(hidden[:, 0])

    def check_size(self, rows: int, columns: int) -> None:
        check_patches(rows, columns, self.config.patch_size)


class ViTForImageClassification(ImageClassification):
    """A linear head on the class token, or on the patches' mean."""

    config_table = config_table("ViTForImageClassification")
    table = HEAD_TABLE

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(ViT(config, pooler=False), config.dim)

    def features(self, encoded: EncoderOutput) -> Float[Tensor, "b d"]:
        return encoded.last_hidden_state[:, 0] if encoded.pooler_output is None else encoded.pooler_output


HEADS = {"image_classification": ViTForImageClassification}
"""Task -> class."""
