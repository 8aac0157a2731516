"""BERT (Devlin et al. 2018) by hand: a bidirectional encoder. Its heads: bert_heads.py."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.checkpoints import Names, rename
from glassformer.by_hand.models.pretrained import Pretrained, check_ids
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.activation import ACTIVATIONS
from glassformer.by_hand.parts.attention import Attention
from glassformer.by_hand.parts.dropout import Dropout
from glassformer.by_hand.parts.embedding import Embedding
from glassformer.by_hand.parts.feed_forward import FeedForward
from glassformer.by_hand.parts.linear import Linear
from glassformer.by_hand.parts.module import Module
from glassformer.by_hand.parts.norm import LayerNorm
from glassformer.by_hand.parts.position import LearnedPosition


@dataclass(frozen=True, kw_only=True)
class BERTConfig:
    """Section 3 of the paper; the defaults are BERT-base. `labels` name the classes of a head that classifies."""

    vocab_size: int = 30_522
    max_positions: int = 512
    num_segments: int = 2
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    classifier_dropout: float | None = None
    labels: tuple[str, ...] | None = None
    tied: bool = True


class BERTBlock(Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)): Vaswani et al. 2017, section 3.1, as section 3 says."""

    def __init__(self, config: BERTConfig) -> None:
        self.attention = Attention(config.dim, config.num_heads, dropout=config.attention_dropout)
        self.attention_dropout = Dropout(config.dropout)
        self.attention_norm = LayerNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(config.dim, config.hidden_dim, activation=ACTIVATIONS[config.activation])
        self.feed_forward_dropout = Dropout(config.dropout)
        self.feed_forward_norm = LayerNorm(config.dim, config.norm_eps)

    def forward(self, x: Array, *, mask: Mask) -> Array:
        x = self.attention_norm(x + self.attention_dropout(self.attention(x, mask=mask)))
        return self.feed_forward_norm(x + self.feed_forward_dropout(self.feed_forward(x)))

    def backward(self, dy: Array) -> Array:
        """Through the norm first, for it stands on the sum; then to both terms of the sum."""
        dy = self.feed_forward_norm.backward(dy)
        dy = dy + self.feed_forward.backward(self.feed_forward_dropout.backward(dy))
        dy = self.attention_norm.backward(dy)
        return dy + self.attention.backward(self.attention_dropout.backward(dy))


class BERTPooler(Module):
    """tanh(dense(x)) of the first token's vector (the released code)."""

    def __init__(self, dim: int) -> None:
        self.dense = Linear(dim, dim)

    def forward(self, first: Array) -> Array:
        self._y = np.tanh(self.dense(first))
        return self._y

    def backward(self, dy: Array) -> Array:
        """d tanh(u) = (1 − tanh²(u)) du"""
        return self.dense.backward(dy * (1 - self._y**2))


class BERT(Pretrained):
    """The sum of three embeddings, normalised (figure 2); then the blocks. `pooled=False` leaves the pooler out."""

    architecture = "BertModel"

    def __init__(self, config: BERTConfig, *, seed: int | None = 0, pooled: bool = True) -> None:
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.position = LearnedPosition(config.max_positions, config.dim)
        self.segment = Embedding(config.num_segments, config.dim)
        self.embed_norm = LayerNorm(config.dim, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.blocks = [BERTBlock(config) for _ in range(config.num_layers)]
        self.pooler = BERTPooler(config.dim) if pooled else None
        if seed is not None:
            self.initialize(seed)

    def forward(
        self, input_ids: Array, attention_mask: Array | None = None, token_type_ids: Array | None = None
    ) -> tuple[Array, Array | None]:
        """A vector for each token (b, t, d), and one for the whole (b, d) where there is a pooler.

        `attention_mask` (b, t) has 1 at real tokens, 0 at padding; `token_type_ids` (b, t) tell two texts apart.
        Raises ValueError or TypeError for ids outside their ranges, wrong shapes or dtypes, too many tokens.
        """
        check_ids(input_ids, self.config.vocab_size)
        segments = np.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        check_ids(segments, self.config.num_segments, "token_type_ids")
        if input_ids.shape[1] > self.config.max_positions:
            raise ValueError(f"{input_ids.shape[1]} tokens do not fit into the model's {self.config.max_positions} "
                             f"positions; shorten the input")  # fmt: skip
        for name, given in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
            if given is not None and given.shape != input_ids.shape:
                raise ValueError(f"{name} has shape {given.shape}; expected {input_ids.shape}, as input_ids")
        self._shape = input_ids.shape
        mask = Mask() if attention_mask is None else Mask.padding(attention_mask != 0)
        x = self.embed(input_ids) + self.segment(segments) + self.position(np.arange(input_ids.shape[1]))
        x = self.dropout(self.embed_norm(x))
        for block in self.blocks:
            x = block(x, mask=mask)
        return x, None if self.pooler is None else self.pooler(x[:, 0])

    def backward(self, dx: Array | None, d_pooled: Array | None = None) -> None:
        """From the gradients of the two outputs, None where nothing depends on it, to that of every parameter."""
        if d_pooled is not None:
            assert self.pooler is not None
            d_first = self.pooler.backward(d_pooled)
            if dx is None:
                dx = np.zeros((*self._shape, d_first.shape[1]), d_first.dtype)
            dx[:, 0] += d_first
        assert dx is not None
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        dx = self.embed_norm.backward(self.dropout.backward(dx))
        self.embed.backward(dx)
        self.segment.backward(dx)
        self.position.backward(dx)

    @staticmethod
    def read_config(theirs: dict[str, Any]) -> BERTConfig:
        return read_bert_config(theirs)

    @staticmethod
    def names(config: BERTConfig) -> Names:
        return bert_names(config, "") | both("pooler.dense", "pooler.dense")


def read_bert_config(theirs: dict[str, Any]) -> BERTConfig:
    """BERTConfig from config.json."""
    given = dict(theirs)
    if labels := given.get("id2label"):
        given["id2label"] = tuple(labels[key] for key in sorted(labels, key=int))
    return rename(
        given, BERTConfig,
        {
            "vocab_size": "vocab_size", "max_position_embeddings": "max_positions", "type_vocab_size": "num_segments",
            "hidden_size": "dim", "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads",
            "intermediate_size": "hidden_dim", "hidden_act": "activation", "layer_norm_eps": "norm_eps",
            "hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout",
            "classifier_dropout": "classifier_dropout", "id2label": "labels", "tie_word_embeddings": "tied",
        },
        fixed={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    )  # fmt: skip


def bert_names(config: BERTConfig, ours: str) -> Names:
    """The encoder's tensors, without the pooler; `ours` is the prefix of our names."""
    there = "embeddings"
    names: Names = {
        f"{there}.word_embeddings.weight": f"{ours}embed.weight",
        f"{there}.position_embeddings.weight": f"{ours}position.weight",
        f"{there}.token_type_embeddings.weight": f"{ours}segment.weight",
    } | both(f"{there}.LayerNorm", f"{ours}embed_norm")
    for i in range(config.num_layers):
        layer, block = f"encoder.layer.{i}", f"{ours}blocks.{i}"
        for name in ("query", "key", "value"):
            names |= both(f"{layer}.attention.self.{name}", f"{block}.attention.{name}")
        names |= both(f"{layer}.attention.output.dense", f"{block}.attention.output")
        names |= both(f"{layer}.attention.output.LayerNorm", f"{block}.attention_norm")
        names |= both(f"{layer}.intermediate.dense", f"{block}.feed_forward.up")
        names |= both(f"{layer}.output.dense", f"{block}.feed_forward.down")
        names |= both(f"{layer}.output.LayerNorm", f"{block}.feed_forward_norm")
    return names


def both(theirs: str, ours: str) -> Names:
    """The weight and the bias of one layer."""
    return {f"{theirs}.{part}": f"{ours}.{part}" for part in ("weight", "bias")}
