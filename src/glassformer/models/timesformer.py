"""TimeSformer (Bertasius et al. 2021): a clip as a sequence of patches that look along time, then over space."""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, ConfigTable, Values
from glassformer.checkpoints.table import Split, Table
from glassformer.models.video import PLACE_STD, VideoClassification, VideoEncoder, draw_by_width
from glassformer.models.vision import CLASSES, check_classes, check_patches
from glassformer.parts import ACTIVATIONS, Attention, Dropout, FeedForward, LayerNorm, Linear, PatchEmbedding

ATTENTIONS = {"divided": "divided_space_time", "joint": "joint_space_time", "space": "space_only"}
"""What a patch sees -> their name for it."""


@dataclass(frozen=True, kw_only=True)
class TimeSformerConfig:
    """Sections 3 and 4 of the paper; the defaults are TimeSformer on ViT-Base, 8 frames of 224 × 224.

    `attention` is what a patch sees (section 3, "Self-attention schemes"): "divided", first the same place at all
    times, then all places of its frame; "joint", all places at all times; "space", its frame alone, with the frames'
    outputs averaged. Other sizes and numbers of frames are read too: positions are those of the nearest place.
    """

    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    num_frames: int = 8
    attention: str = "divided"
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    norm_eps: float = 1e-6
    attention_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    num_classes: int = 400
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.patch_size < 1 or self.image_size < 1 or self.image_size % self.patch_size:
            raise ValueError(f"patch_size={self.patch_size} does not divide image_size={self.image_size}")
        if self.num_frames < 1:
            raise ValueError(f"num_frames={self.num_frames} is no clip; expected 1 or more")
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention={self.attention!r} is unknown; expected one of {', '.join(ATTENTIONS)}")
        check_classes(self.num_classes, self.labels)


SIZES = {  # section 4.4: the default, more pixels (HR), more frames (L); table 1: the other schemes
    "timesformer-base": TimeSformerConfig(),
    "timesformer-hr": TimeSformerConfig(image_size=448, num_frames=16),
    "timesformer-large": TimeSformerConfig(num_frames=96),
    "timesformer-base-space": TimeSformerConfig(attention="space"),
    "timesformer-base-joint": TimeSformerConfig(attention="joint"),
}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    return ConfigTable(
        config=TimeSformerConfig,
        model_type="timesformer",
        architectures=(architecture,),
        names={
            "image_size": "image_size",
            "patch_size": "patch_size",
            "num_channels": "channels",
            "num_frames": "num_frames",
            "attention_type": Values("attention", {theirs: ours for ours, theirs in ATTENTIONS.items()}),
            "hidden_size": "dim",
            "num_hidden_layers": "num_layers",
            "num_attention_heads": "num_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": Values("activation", ACTIVATION_NAMES),
            "layer_norm_eps": "norm_eps",
            "qkv_bias": "attention_bias",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        },
        defaults={"image_size": 224, "patch_size": 16, "num_channels": 3, "num_frames": 8,
                  "attention_type": "divided_space_time", "hidden_size": 768, "num_hidden_layers": 12,
                  "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
                  "qkv_bias": True, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        fixed={"drop_path_rate": 0},
        compounds=(CLASSES,),
    )  # fmt: skip


def encoder_table(theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    block = "encoder.layer.*"
    return {
        f"{theirs}embeddings.{{cls_token,position_embeddings,time_embeddings}}": f"{ours}{{class_token,place,time}}",
        f"{theirs}embeddings.patch_embeddings.projection": f"{ours}patches",
        f"{theirs}{block}.attention.attention.qkv": Split(f"{ours}blocks.*.attention.{{query,key,value}}"),
        f"{theirs}{block}.attention.output.dense": f"{ours}blocks.*.attention.output",
        f"{theirs}{block}.temporal_attention.attention.qkv": Split(
            f"{ours}blocks.*.time_attention.{{query,key,value}}"
        ),
        f"{theirs}{block}.temporal_attention.output.dense": f"{ours}blocks.*.time_attention.output",
        f"{theirs}{block}.temporal_{{layernorm,dense}}": f"{ours}blocks.*.{{time_norm,time_output}}",
        f"{theirs}{block}.{{intermediate,output}}.dense": f"{ours}blocks.*.feed_forward.{{up,down}}",
        f"{theirs}{block}.layernorm_{{before,after}}": f"{ours}blocks.*.{{attention,feed_forward}}_norm",
        f"{theirs}layernorm": f"{ours}norm",
    }


HEAD_TABLE: Table = {**encoder_table("timesformer.", "encoder."), "classifier": "head"}


class TimeSformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); tokens are the class token and (place, time) pairs.

    Divided (equations 8 to 10): each place first attends along its own times, time_output(time_attention(norm(x))), the
    class token not; then each frame attends over its places and a copy of the class token, whose copies are averaged.
    """

    def __init__(self, config: TimeSformerConfig) -> None:
        super().__init__()
        biased = "qkvo" if config.attention_bias else "o"
        self.divided = config.attention == "divided"
        if self.divided:
            self.time_norm = LayerNorm(config.dim, config.norm_eps)
            self.time_attention = Attention(
                config.dim, config.num_heads, biased=biased, dropout=config.attention_dropout
            )
            self.time_output = Linear(config.dim, config.dim)
        self.attention_norm = LayerNorm(config.dim, config.norm_eps)
        self.attention = Attention(config.dim, config.num_heads, biased=biased, dropout=config.attention_dropout)
        self.feed_forward_norm = LayerNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(
            config.dim, config.hidden_dim, activation=ACTIVATIONS[config.activation], dropout=config.dropout
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b s d"], frames: int) -> Float[Tensor, "b s d"]:
        x = self.along_time_and_space(x, frames) if self.divided else x + self.space(x)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def along_time_and_space(self, x: Float[Tensor, "b s d"], frames: int) -> Float[Tensor, "b s d"]:
        """Divided attention: equations 8 and 9."""
        token, x = x[:, :1], rearrange(x[:, 1:], "b (p t) d -> (b p) t d", t=frames)
        x = x + self.time_output(self.dropout(self.time_attention(self.time_norm(x))))
        x = rearrange(x, "(b p) t d -> b p t d", b=token.shape[0])
        frame = rearrange(x, "b p t d -> (b t) p d")
        seen = self.space(torch.cat([repeat(token, "b 1 d -> (b t) 1 d", t=frames), frame], dim=1))
        token = token + rearrange(seen[:, :1], "(b t) 1 d -> b t d", t=frames).mean(1, keepdim=True)
        x = x + rearrange(seen[:, 1:], "(b t) p d -> b p t d", t=frames)
        return torch.cat([token, x.flatten(1, 2)], dim=1)

    def space(self, x: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        """What attention adds."""
        return self.dropout(self.attention(self.attention_norm(x)))


class TimeSformer(VideoEncoder):
    """Patches of every frame with their places and times, the blocks, and a last norm.

    `last_hidden_state` is the class token, then each place's vectors at all times; with attention over space alone, the
    class token and the places, both averaged over the frames.
    """

    config_table = config_table("TimesformerModel")
    table = encoder_table()

    def __init__(self, config: TimeSformerConfig) -> None:
        super().__init__()
        self.config = config
        self.size = config.image_size // config.patch_size
        self.patches = PatchEmbedding(config.channels, config.patch_size, config.dim)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        self.place = nn.Parameter(torch.randn(1, 1 + self.size**2, config.dim) * PLACE_STD)
        timed = config.attention != "space"
        self.time = nn.Parameter(torch.randn(1, config.num_frames, config.dim) * PLACE_STD) if timed else None
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(TimeSformerBlock(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.dim, config.norm_eps)
        draw_by_width(self)

    def hidden(self, pixel_values: Float[Tensor, "b t c y x"]) -> Float[Tensor, "b s d"]:
        b, t = pixel_values.shape[:2]
        grid = self.patches(pixel_values.flatten(0, 1))
        x = grid.flatten(1, 2) + self._places(*grid.shape[1:3])
        token = self.class_token + self.place[:, :1]
        if self.time is None:
            x = self.dropout(torch.cat([token.expand(x.shape[0], -1, -1), x], dim=1))
        else:
            x = rearrange(self.dropout(x), "(b t) p d -> b p t d", t=t) + _nearest(self.time, (t,))
            x = torch.cat([self.dropout(token.expand(b, -1, -1)), self.dropout(x).flatten(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x, t)
        return self.norm(x if self.time is not None else rearrange(x, "(b t) p d -> b t p d", b=b).mean(1))

    def _places(self, rows: int, columns: int) -> Float[Tensor, "1 p d"]:
        square = self.place[:, 1:].unflatten(1, (self.size, self.size))
        return _nearest(square, (rows, columns)).flatten(1, 2)

    def pooled(self, hidden: Float[Tensor, "b s d"]) -> None:
        return None

    def check_size(self, rows: int, columns: int) -> None:
        check_patches(rows, columns, self.config.patch_size)


def _nearest(vectors: Float[Tensor, "1 *from d"], size: tuple[int, ...]) -> Float[Tensor, "1 *to d"]:
    """The vectors of the nearest places of a line or a grid of another size."""
    if tuple(vectors.shape[1:-1]) == size:
        return vectors
    return F.interpolate(vectors.movedim(-1, 1), size=cast(Any, size), mode="nearest").movedim(1, -1)


class TimeSformerForVideoClassification(VideoClassification):
    """A linear head on the class token."""

    config_table = config_table("TimesformerForVideoClassification")
    table = HEAD_TABLE

    def __init__(self, config: TimeSformerConfig) -> None:
        super().__init__(TimeSformer(config), config.dim)


HEADS = {"video_classification": TimeSformerForVideoClassification}
"""Task -> class."""
