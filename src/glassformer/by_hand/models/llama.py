"""Llama (Touvron et al. 2023; Dubey et al. 2024) by hand: a decoder with RMSNorm, rotary positions and SwiGLU."""

from dataclasses import dataclass
from typing import Any

from numpy import ndarray as Array

from glassformer.by_hand.checkpoints import Names, rename
from glassformer.by_hand.models.language_model import LanguageModel
from glassformer.by_hand.models.rope import load_rope
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.attention import Attention
from glassformer.by_hand.parts.cache import KeyValueCache, LayerCache
from glassformer.by_hand.parts.embedding import Embedding
from glassformer.by_hand.parts.feed_forward import GatedFeedForward
from glassformer.by_hand.parts.linear import Linear, TiedLinear
from glassformer.by_hand.parts.module import Module
from glassformer.by_hand.parts.norm import RMSNorm
from glassformer.by_hand.parts.position import Rotary, RotaryScaling, Rotation


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Table 2 of the LLaMA paper; the defaults are the 7B model. `num_kv_heads=None` means `num_heads`."""

    vocab_size: int = 32_000
    max_positions: int = 2048
    dim: int = 4096
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int = None  # type: ignore[assignment]  # filled in below
    head_dim: int = None  # type: ignore[assignment]
    hidden_dim: int = 11_008
    norm_eps: float = 1e-6
    rope_base: float = 10_000.0
    rope_scaling: RotaryScaling | None = None
    attention_bias: bool = False
    feed_forward_bias: bool = False
    attention_dropout: float = 0.0
    tied: bool = False

    def __post_init__(self) -> None:
        if self.num_kv_heads is None:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        if self.head_dim is None:
            object.__setattr__(self, "head_dim", self.dim // self.num_heads)


class LlamaBlock(Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))  (LLaMA, section 2.2)."""

    def __init__(self, config: LlamaConfig) -> None:
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(
            config.dim,
            config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            biased="qkvo" if config.attention_bias else "",
            dropout=config.attention_dropout,
        )
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = GatedFeedForward(config.dim, config.hidden_dim, bias=config.feed_forward_bias)

    def forward(self, x: Array, *, mask: Mask, rotate: Rotation, cache: LayerCache | None = None) -> Array:
        x = x + self.attention(self.attention_norm(x), mask=mask, rotate=rotate, cache=cache)
        return x + self.feed_forward(self.feed_forward_norm(x))

    def backward(self, dy: Array) -> Array:
        """Each sum hands its gradient to both of its terms: straight on, and through the sub-layer."""
        dy = dy + self.feed_forward_norm.backward(self.feed_forward.backward(dy))
        return dy + self.attention_norm.backward(self.attention.backward(dy))


class Llama(LanguageModel):
    """Embedding, the blocks with one rotation for all, a last norm, and the head."""

    architecture = "LlamaForCausalLM"

    def __init__(self, config: LlamaConfig, *, seed: int | None = 0) -> None:
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.rotary = Rotary(config.head_dim, base=config.rope_base, scaling=config.rope_scaling)
        self.blocks = [LlamaBlock(config) for _ in range(config.num_layers)]
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)
        if seed is not None:
            self.initialize(seed)

    def hidden(
        self, input_ids: Array, attention_mask: Array | None = None, *, cache: KeyValueCache | None = None
    ) -> Array:
        positions, mask = self._place(input_ids, attention_mask, cache)
        rotate = self.rotary(positions)
        x = self.embed(input_ids)
        for i, block in enumerate(self.blocks):
            x = block(x, mask=mask, rotate=rotate, cache=None if cache is None else cache.layers[i])
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.norm(x)

    def hidden_backward(self, dx: Array) -> None:
        dx = self.norm.backward(dx)
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        self.embed.backward(dx)

    @staticmethod
    def read_config(theirs: dict[str, Any]) -> LlamaConfig:
        """LlamaConfig from config.json."""
        return rename(
            theirs | load_rope(theirs), LlamaConfig,
            {
                "vocab_size": "vocab_size", "max_position_embeddings": "max_positions", "hidden_size": "dim",
                "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads",
                "num_key_value_heads": "num_kv_heads", "head_dim": "head_dim", "intermediate_size": "hidden_dim",
                "rms_norm_eps": "norm_eps", "rope_base": "rope_base", "rope_scaling": "rope_scaling",
                "attention_bias": "attention_bias", "mlp_bias": "feed_forward_bias",
                "attention_dropout": "attention_dropout", "tie_word_embeddings": "tied",
            },
            fixed={"hidden_act": "silu"},
        )  # fmt: skip

    @staticmethod
    def names(config: LlamaConfig) -> Names:
        """The same matrices under other names."""
        names: Names = {"embed_tokens.weight": "embed.weight", "norm.weight": "norm.weight"}
        if not config.tied:
            names["lm_head.weight"] = "head.weight"
        layers = {f"self_attn.{name[0]}_proj": f"attention.{name}" for name in ("query", "key", "value", "output")}
        layers |= {f"mlp.{name}_proj": f"feed_forward.{name}" for name in ("gate", "up", "down")}
        for i in range(config.num_layers):
            names[f"layers.{i}.input_layernorm.weight"] = f"blocks.{i}.attention_norm.weight"
            names[f"layers.{i}.post_attention_layernorm.weight"] = f"blocks.{i}.feed_forward_norm.weight"
            for theirs, ours in layers.items():
                biased = config.attention_bias if theirs.startswith("self_attn") else config.feed_forward_bias
                for part in ("weight", "bias") if biased else ("weight",):
                    names[f"layers.{i}.{theirs}.{part}"] = f"blocks.{i}.{ours}.{part}"
        return names
