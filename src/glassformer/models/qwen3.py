"""Qwen3 (Yang et al. 2025): grouped queries, queries and keys normalised per head, heads as wide as they like."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import Compound, ConfigTable
from glassformer.checkpoints.table import Table, Tied
from glassformer.models.language_model import LanguageModel, positions_and_mask
from glassformer.models.rope import load_rope, save_rope
from glassformer.ops.mask import Mask
from glassformer.parts import (
    Attention,
    Embedding,
    GatedFeedForward,
    KeyValueCache,
    LayerCache,
    Linear,
    RMSNorm,
    Rotary,
    RotaryScaling,
    Rotation,
    TiedLinear,
)


@dataclass(frozen=True, kw_only=True)
class Qwen3Config:
    """Table 1 of the report; the defaults are the 8B model. `num_heads · head_dim` need not be `dim`."""

    vocab_size: int = 151_936
    max_positions: int = 40_960
    dim: int = 4096
    num_layers: int = 36
    num_heads: int = 32
    num_kv_heads: int = 8
    head_dim: int = 128
    hidden_dim: int = 12_288
    norm_eps: float = 1e-6
    rope_base: float = 1_000_000.0
    rope_scaling: RotaryScaling | None = None
    attention_bias: bool = False
    attention_dropout: float = 0.0
    tied: bool = False


SIZES = {  # the report, table 1; widths from the released configurations
    "qwen3-0.6b": Qwen3Config(dim=1024, num_layers=28, num_heads=16, hidden_dim=3072, tied=True),
    "qwen3-1.7b": Qwen3Config(dim=2048, num_layers=28, num_heads=16, hidden_dim=6144, tied=True),
    "qwen3-4b": Qwen3Config(dim=2560, hidden_dim=9728, tied=True),
    "qwen3-8b": Qwen3Config(),
    "qwen3-14b": Qwen3Config(dim=5120, num_layers=40, num_heads=40, hidden_dim=17_408),
    "qwen3-32b": Qwen3Config(dim=5120, num_layers=64, num_heads=64, hidden_dim=25_600),
}


def load_windows(attributes: dict[str, Any]) -> dict[str, Any]:
    """Nothing of ours: no published Qwen3 has a window. Raises ValueError for one that does."""
    asks = {"use_sliding_window": bool(attributes.get("use_sliding_window")),
            "layer_types": any(kind != "full_attention" for kind in attributes.get("layer_types") or [])}  # fmt: skip
    for name in (name for name, asked in asks.items() if asked):
        raise ValueError(f"config.json has {name}={attributes[name]!r}; a sliding window is not implemented for a "
                         "'qwen3' model")  # fmt: skip
    return {}


CONFIG_TABLE = ConfigTable(
    config=Qwen3Config,
    model_type="qwen3",
    architectures=("Qwen3ForCausalLM", "Qwen3Model"),
    names={
        "vocab_size": "vocab_size",
        "hidden_size": "dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "num_key_value_heads": "num_kv_heads",
        "head_dim": "head_dim",
        "intermediate_size": "hidden_dim",
        "rms_norm_eps": "norm_eps",
        "attention_bias": "attention_bias",
        "attention_dropout": "attention_dropout",
        "tie_word_embeddings": "tied",
    },
    defaults={"num_key_value_heads": 32, "head_dim": 128, "attention_bias": False, "attention_dropout": 0.0,
              "tie_word_embeddings": False},
    fixed={"hidden_act": "silu"},
    compounds=(
        Compound(
            ("max_position_embeddings", "rope_parameters", "rope_scaling", "rope_theta"),
            ("max_positions", "rope_base", "rope_scaling"),
            load_rope, save_rope,
        ),
        Compound(
            ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types"), (),
            load_windows, lambda config: {"use_sliding_window": False},
        ),
    ),
)  # fmt: skip


def table(config: Qwen3Config) -> Table:
    """The names in Hugging Face's files."""
    return {
        "[model.]embed_tokens": "embed",
        "[model.]layers.*.self_attn.{q,k,v,o}_proj": "blocks.*.attention.{query,key,value,output}",
        "[model.]layers.*.self_attn.{q,k}_norm": "blocks.*.attention.{query,key}_norm",
        "[model.]layers.*.mlp.{gate,up,down}_proj": "blocks.*.feed_forward.{gate,up,down}",
        "[model.]layers.*.input_layernorm": "blocks.*.attention_norm",
        "[model.]layers.*.post_attention_layernorm": "blocks.*.feed_forward_norm",
        "[model.]norm": "norm",
        "lm_head": Tied("embed") if config.tied else "head",
    }


class Qwen3Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); each head's queries and keys are normalised too.

    The report, section 2; Dehghani et al. 2023, section 2: unnormalised, their products grow until the softmax is all
    on one key.
    """

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(
            config.dim,
            config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            biased="qkvo" if config.attention_bias else "",
            query_norm=RMSNorm(config.head_dim, config.norm_eps),
            key_norm=RMSNorm(config.head_dim, config.norm_eps),
            dropout=config.attention_dropout,
        )
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = GatedFeedForward(config.dim, config.hidden_dim)

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask, rotate: Rotation, cache: LayerCache | None = None
    ) -> Float[Tensor, "b t d"]:
        x = x + self.attention(self.attention_norm(x), mask=mask, rotate=rotate, cache=cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Qwen3(LanguageModel):
    """Embedding, the blocks with one rotation for all, a last norm, and the head (tied in the small models)."""

    config_table = CONFIG_TABLE
    table = staticmethod(table)

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.rotary = Rotary(config.head_dim, base=config.rope_base, scaling=config.rope_scaling)
        self.blocks = nn.ModuleList(Qwen3Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)

    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b s"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        positions, mask = positions_and_mask(input_ids, attention_mask, cache)
        rotate = self.rotary(positions)
        x = self.embed(input_ids)
        for i, block in enumerate(self.blocks):
            x = block(x, mask=mask, rotate=rotate, cache=None if cache is None else cache.layers[i])
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.norm(x)
