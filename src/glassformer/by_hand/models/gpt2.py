"""GPT-2 (Radford et al. 2019) by hand: a decoder, normalised before each sub-layer, with learned positions."""

from dataclasses import dataclass
from typing import Any

from numpy import ndarray as Array

from glassformer.by_hand.checkpoints import Names, rename
from glassformer.by_hand.models.language_model import LanguageModel
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.activation import ACTIVATIONS
from glassformer.by_hand.parts.attention import Attention
from glassformer.by_hand.parts.cache import KeyValueCache, LayerCache
from glassformer.by_hand.parts.dropout import Dropout
from glassformer.by_hand.parts.embedding import Embedding
from glassformer.by_hand.parts.feed_forward import FeedForward
from glassformer.by_hand.parts.linear import Linear, TiedLinear
from glassformer.by_hand.parts.module import Module
from glassformer.by_hand.parts.norm import LayerNorm
from glassformer.by_hand.parts.position import LearnedPosition


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """Table 2 of the paper; the defaults are the smallest model."""

    vocab_size: int = 50_257
    max_positions: int = 1024
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int | None = None  # 4 · dim
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-5
    embedding_dropout: float = 0.1
    attention_dropout: float = 0.1
    residual_dropout: float = 0.1
    tied: bool = True

    @property
    def num_kv_heads(self) -> int:
        return self.num_heads

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


class GPT2Block(Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))  (section 2.3)."""

    def __init__(self, config: GPT2Config) -> None:
        self.attention_norm = LayerNorm(config.dim, config.norm_eps)
        self.attention = Attention(config.dim, config.num_heads, dropout=config.attention_dropout)
        self.attention_dropout = Dropout(config.residual_dropout)
        self.feed_forward_norm = LayerNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(
            config.dim, config.hidden_dim or 4 * config.dim, activation=ACTIVATIONS[config.activation]
        )
        self.feed_forward_dropout = Dropout(config.residual_dropout)

    def forward(self, x: Array, *, mask: Mask, cache: LayerCache | None = None) -> Array:
        x = x + self.attention_dropout(self.attention(self.attention_norm(x), mask=mask, cache=cache))
        return x + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(x)))

    def backward(self, dy: Array) -> Array:
        """Each sum hands its gradient to both of its terms: straight on, and through the sub-layer."""
        branch = self.feed_forward.backward(self.feed_forward_dropout.backward(dy))
        dy = dy + self.feed_forward_norm.backward(branch)
        branch = self.attention.backward(self.attention_dropout.backward(dy))
        return dy + self.attention_norm.backward(branch)


class GPT2(LanguageModel):
    """Embedding + position, the blocks, a last norm, and the head (tied to the embedding)."""

    has_position_table = True
    architecture = "GPT2LMHeadModel"

    def __init__(self, config: GPT2Config, *, seed: int | None = 0) -> None:
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.position = LearnedPosition(config.max_positions, config.dim)
        self.dropout = Dropout(config.embedding_dropout)
        self.blocks = [GPT2Block(config) for _ in range(config.num_layers)]
        self.norm = LayerNorm(config.dim, config.norm_eps)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)
        if seed is not None:
            self.initialize(seed)
            # "We scale the weights of residual layers at initialization by 1/√N", N their number (section 2.3).
            for block in self.blocks:
                for layer in (block.attention.output, block.feed_forward.down):
                    layer.weight.data *= (2 * config.num_layers) ** -0.5

    def hidden(
        self, input_ids: Array, attention_mask: Array | None = None, *, cache: KeyValueCache | None = None
    ) -> Array:
        positions, mask = self._place(input_ids, attention_mask, cache)
        x = self.dropout(self.embed(input_ids) + self.position(positions))
        for i, block in enumerate(self.blocks):
            x = block(x, mask=mask, cache=None if cache is None else cache.layers[i])
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.norm(x)

    def hidden_backward(self, dx: Array) -> None:
        dx = self.norm.backward(dx)
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        dx = self.dropout.backward(dx)
        self.embed.backward(dx)
        self.position.backward(dx)

    @staticmethod
    def read_config(theirs: dict[str, Any]) -> GPT2Config:
        """GPT2Config from config.json."""
        return rename(
            theirs, GPT2Config,
            {
                "vocab_size": "vocab_size", "n_positions": "max_positions", "n_embd": "dim", "n_layer": "num_layers",
                "n_head": "num_heads", "n_inner": "hidden_dim", "activation_function": "activation",
                "layer_norm_epsilon": "norm_eps", "embd_pdrop": "embedding_dropout", "attn_pdrop": "attention_dropout",
                "resid_pdrop": "residual_dropout", "tie_word_embeddings": "tied",
            },
            fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
                   "reorder_and_upcast_attn": False, "add_cross_attention": False},
        )  # fmt: skip

    @staticmethod
    def names(config: GPT2Config) -> Names:
        """Their weights are (in, out), ours (out, in); their query, key and value are one matrix."""
        names: Names = {"wte.weight": "embed.weight", "wpe.weight": "position.weight"}
        names |= {f"ln_f.{part}": f"norm.{part}" for part in ("weight", "bias")}
        if not config.tied:
            names["lm_head.weight"] = "head.weight"
        for i in range(config.num_layers):
            for part, turn in (("weight", "T"), ("bias", "")):
                block = f"blocks.{i}"
                attention = [f"{block}.attention.{name}.{part}" for name in ("query", "key", "value")]
                names |= {
                    f"h.{i}.ln_1.{part}": f"{block}.attention_norm.{part}",
                    f"h.{i}.ln_2.{part}": f"{block}.feed_forward_norm.{part}",
                    f"h.{i}.attn.c_attn.{part}": (turn, *attention),
                    f"h.{i}.attn.c_proj.{part}": (turn, f"{block}.attention.output.{part}"),
                    f"h.{i}.mlp.c_fc.{part}": (turn, f"{block}.feed_forward.up.{part}"),
                    f"h.{i}.mlp.c_proj.{part}": (turn, f"{block}.feed_forward.down.{part}"),
                }
        return names
