"""ViT (Dosovitskiy et al. 2021) by hand: a picture as a sequence of patches, read by a plain encoder."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.checkpoints import Names, rename
from glassformer.by_hand.models.bert import both
from glassformer.by_hand.models.pretrained import Pretrained
from glassformer.by_hand.parts.activation import ACTIVATIONS
from glassformer.by_hand.parts.attention import Attention
from glassformer.by_hand.parts.dropout import Dropout
from glassformer.by_hand.parts.feed_forward import FeedForward
from glassformer.by_hand.parts.linear import Linear
from glassformer.by_hand.parts.module import Module, Parameter
from glassformer.by_hand.parts.norm import LayerNorm
from glassformer.by_hand.parts.patch import GridPosition, PatchEmbedding, check_pictures


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
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise ValueError(f"{len(self.labels)} labels name {self.num_classes} classes; give one for each, or None")


class ViTBlock(Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))  (equations 2 and 3)."""

    def __init__(self, config: ViTConfig) -> None:
        biased = "qkvo" if config.attention_bias else "o"
        self.attention_norm = LayerNorm(config.dim, config.norm_eps)
        self.attention = Attention(config.dim, config.num_heads, biased=biased, dropout=config.attention_dropout)
        self.attention_dropout = Dropout(config.dropout)
        self.feed_forward_norm = LayerNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(config.dim, config.hidden_dim, activation=ACTIVATIONS[config.activation])
        self.feed_forward_dropout = Dropout(config.dropout)

    def forward(self, x: Array) -> Array:
        x = x + self.attention_dropout(self.attention(self.attention_norm(x)))
        return x + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(x)))

    def backward(self, dy: Array) -> Array:
        """Each sum hands its gradient to both of its terms."""
        inner = self.feed_forward.backward(self.feed_forward_dropout.backward(dy))
        dy = dy + self.feed_forward_norm.backward(inner)
        inner = self.attention.backward(self.attention_dropout.backward(dy))
        return dy + self.attention_norm.backward(inner)


class ViTPooler(Module):
    """tanh(dense(the class token)), as their encoder without a head has it."""

    def __init__(self, dim: int) -> None:
        self.dense = Linear(dim, dim)

    def forward(self, token: Array) -> Array:
        self._y = np.tanh(self.dense(token))
        return self._y

    def backward(self, dy: Array) -> Array:
        """d tanh(u) = (1 − tanh²(u)) du"""
        return self.dense.backward(dy * (1 - self._y**2))


class ViT(Pretrained):
    """Patches and the class token, with their positions, the blocks, and a last norm (equations 1 to 4)."""

    architecture = "ViTModel"

    def __init__(self, config: ViTConfig, *, seed: int | None = 0, pooler: bool = True) -> None:
        self.config = config
        token = config.pooling == "class_token"
        self.patches = PatchEmbedding(config.channels, config.patch_size, config.dim)
        self.class_token = Parameter(np.zeros((1, 1, config.dim), "f4")) if token else None
        self.position = GridPosition(config.image_size // config.patch_size, config.dim, before=int(token))
        self.dropout = Dropout(config.dropout)
        self.blocks = [ViTBlock(config) for _ in range(config.num_layers)]
        self.norm = LayerNorm(config.dim, config.norm_eps)
        self.pooler = ViTPooler(config.dim) if pooler and token else None
        if seed is not None:
            self.initialize(seed)

    def forward(self, pixel_values: Array) -> tuple[Array, Array | None]:
        """A vector for each token (b, t, d), and one for the whole (b, d), None where there is no pooler.

        Raises ValueError or TypeError for what is no picture (b, c, y, x) of finite floats in whole patches.
        """
        check_pictures(pixel_values, self.config.channels)
        grid = self.patches(pixel_values.astype(self.patches.weight.data.dtype, copy=False))
        self._grid = grid.shape
        x = grid.reshape(len(grid), -1, grid.shape[-1])
        if self.class_token is not None:
            token = np.broadcast_to(self.class_token.data, (len(x), 1, x.shape[-1]))
            x = np.concatenate([token, x], axis=1)
        x = self.dropout(x + self.position(*grid.shape[1:3]))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        self._tokens = x.shape
        if self.class_token is None:
            return x, x.mean(1)
        return x, None if self.pooler is None else self.pooler(x[:, 0])

    def backward(self, dx: Array | None, d_pooled: Array | None = None) -> Array:
        """From the gradients of the two outputs, None where nothing depends on it, to that of every parameter; returns
        that of the pixels."""
        hidden = np.zeros(self._tokens, self.norm.weight.data.dtype)
        if dx is not None:
            hidden += dx
        if d_pooled is not None and self.class_token is None:
            hidden += d_pooled[:, None] / self._tokens[1]  # each patch has its share in their mean
        elif d_pooled is not None:
            assert self.pooler is not None
            hidden[:, 0] += self.pooler.backward(d_pooled)
        dx = self.norm.backward(hidden)
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        dx = self.dropout.backward(dx)
        self.position.backward(dx)
        if self.class_token is not None:
            self.class_token.grad += dx[:, :1].sum(0, keepdims=True)  # one token, in front of every picture
            dx = dx[:, 1:]
        return self.patches.backward(dx.reshape(self._grid))

    @staticmethod
    def read_config(theirs: dict[str, Any]) -> ViTConfig:
        return read_vit_config(theirs)

    @staticmethod
    def names(config: ViTConfig) -> Names:
        return vit_names(config, "", "") | both("pooler.dense", "pooler.dense")


class ViTForImageClassification(Pretrained):
    """A linear head on the class token, or on the patches' mean."""

    architecture = "ViTForImageClassification"

    def __init__(self, config: ViTConfig, *, seed: int | None = 0) -> None:
        self.config = config
        self.encoder = ViT(config, seed=None, pooler=False)
        self.head = Linear(config.dim, config.num_classes)
        if seed is not None:
            self.initialize(seed)

    def forward(self, pixel_values: Array) -> Array:
        """Logits (b, n). The loss: `cross_entropy(logits, classes)`."""
        hidden, mean = self.encoder(pixel_values)
        return self.head(hidden[:, 0] if mean is None else mean)

    def backward(self, d_logits: Array) -> Array:
        """Returns the gradient of the pixels: which of them the answer hangs on."""
        dx = self.head.backward(d_logits)
        if self.config.pooling == "mean":
            return self.encoder.backward(None, dx)
        d_hidden = np.zeros(self.encoder._tokens, dx.dtype)
        d_hidden[:, 0] = dx
        return self.encoder.backward(d_hidden)

    @staticmethod
    def read_config(theirs: dict[str, Any]) -> ViTConfig:
        return read_vit_config(theirs)

    @staticmethod
    def names(config: ViTConfig) -> Names:
        return vit_names(config, "vit.", "encoder.") | both("classifier", "head")


def read_vit_config(theirs: dict[str, Any]) -> ViTConfig:
    """ViTConfig from config.json; classes called LABEL_0, LABEL_1, … have no names."""
    given = dict(theirs)
    said = given.pop("id2label", None) or {"0": "LABEL_0", "1": "LABEL_1"}  # two, where nothing is said
    labels = tuple(said[key] for key in sorted(said, key=int))
    given["num_classes"] = len(labels)
    given["labels"] = None if all(label == f"LABEL_{i}" for i, label in enumerate(labels)) else labels
    names = ("image_size", "patch_size", "num_classes", "labels")
    return rename(
        given, ViTConfig,
        {name: name for name in names} | {
            "num_channels": "channels", "hidden_size": "dim", "num_hidden_layers": "num_layers",
            "num_attention_heads": "num_heads", "intermediate_size": "hidden_dim", "hidden_act": "activation",
            "layer_norm_eps": "norm_eps", "qkv_bias": "attention_bias", "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        },
        fixed={"pooler_act": "tanh", "pooler_output_size": given.get("hidden_size", 768)},
    )  # fmt: skip


def vit_names(config: ViTConfig, theirs: str, ours: str) -> Names:
    """The encoder's tensors, without the pooler, behind prefixes on either side."""
    there = f"{theirs}embeddings"
    names: Names = {
        f"{there}.cls_token": f"{ours}class_token",
        f"{there}.position_embeddings": f"{ours}position.weight",
    } | both(f"{there}.patch_embeddings.projection", f"{ours}patches")
    for i in range(config.num_layers):
        layer, block = f"{theirs}encoder.layer.{i}", f"{ours}blocks.{i}"
        for name in ("query", "key", "value"):
            found = both(f"{layer}.attention.attention.{name}", f"{block}.attention.{name}")
            names |= found if config.attention_bias else dict([*found.items()][:1])
        names |= both(f"{layer}.attention.output.dense", f"{block}.attention.output")
        names |= both(f"{layer}.intermediate.dense", f"{block}.feed_forward.up")
        names |= both(f"{layer}.output.dense", f"{block}.feed_forward.down")
        names |= both(f"{layer}.layernorm_before", f"{block}.attention_norm")
        names |= both(f"{layer}.layernorm_after", f"{block}.feed_forward_norm")
    return names | both(f"{theirs}layernorm", f"{ours}norm")
