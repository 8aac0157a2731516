"""Mistral 7B (Jiang et al. 2023): Llama's block with grouped queries; each layer sees a window of the past."""

from dataclasses import dataclass

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import Compound, ConfigTable
from glassformer.checkpoints.table import DROP, Table, Tied
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
class MistralConfig:
    """Table 1 of the paper; the defaults are that model. `window_size=None` sees all of the past (version 0.2 on)."""

    vocab_size: int = 32_000
    max_positions: int = 32_768
    dim: int = 4096
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int = 8
    head_dim: int = None  # type: ignore[assignment]  # dim / num_heads, filled in below
    hidden_dim: int = 14_336
    window_size: int | None = 4096
    norm_eps: float = 1e-5
    rope_base: float = 10_000.0
    rope_scaling: RotaryScaling | None = None
    attention_dropout: float = 0.0
    tied: bool = False

    def __post_init__(self) -> None:
        if self.head_dim is None:
            object.__setattr__(self, "head_dim", self.dim // self.num_heads)


SIZES = {  # the paper, table 1; then the configurations of the releases
    "mistral-7b": MistralConfig(),
    "mistral-7b-v0.3": MistralConfig(vocab_size=32_768, window_size=None, rope_base=1_000_000.0),
    "mistral-nemo-12b": MistralConfig(
        vocab_size=131_072, max_positions=131_072, dim=5120, num_layers=40, head_dim=128, window_size=None,
        rope_base=1_000_000.0,
    ),
}  # fmt: skip


CONFIG_TABLE = ConfigTable(
    config=MistralConfig,
    model_type="mistral",
    architectures=("MistralForCausalLM", "MistralModel"),
    names={
        "vocab_size": "vocab_size",
        "hidden_size": "dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "num_key_value_heads": "num_kv_heads",
        "head_dim": "head_dim",
        "intermediate_size": "hidden_dim",
        "sliding_window": "window_size",
        "rms_norm_eps": "norm_eps",
        "attention_dropout": "attention_dropout",
        "tie_word_embeddings": "tied",
    },
    defaults={"num_key_value_heads": 8, "head_dim": None, "sliding_window": 4096, "rms_norm_eps": 1e-6,
              "attention_dropout": 0.0, "tie_word_embeddings": False},
    fixed={"hidden_act": "silu"},
    compounds=(Compound(
        ("max_position_embeddings", "rope_parameters", "rope_scaling", "rope_theta"),
        ("max_positions", "rope_base", "rope_scaling"),
        load_rope, save_rope,
    ),),
)  # fmt: skip


def table(config: MistralConfig) -> Table:
    """The names in Hugging Face's files."""
    return {
        "[model.]embed_tokens": "embed",
        "[model.]layers.*.self_attn.{q,k,v,o}_proj": "blocks.*.attention.{query,key,value,output}",
        "[model.]layers.*.self_attn.rotary_emb.inv_freq": DROP,
        "[model.]layers.*.mlp.{gate,up,down}_proj": "blocks.*.feed_forward.{gate,up,down}",
        "[model.]layers.*.input_layernorm": "blocks.*.attention_norm",
        "[model.]layers.*.post_attention_layernorm": "blocks.*.feed_forward_norm",
        "[model.]norm": "norm",
        "lm_head": Tied("embed") if config.tied else "head",
    }


class MistralBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); the window is in the mask (section 2)."""

    def __init__(self, config: MistralConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(
            config.dim,
            config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            biased="",
            dropout=config.attention_dropout,
        )
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = GatedFeedForward(config.dim, config.hidden_dim)

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask, rotate: Rotation, cache: LayerCache | None = None
    ) -> Float[Tensor, "b t d"]:
        x = x + self.attention(self.attention_norm(x), mask=mask, rotate=rotate, cache=cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Mistral(LanguageModel):
    """Embedding, the blocks, a last norm, and the head. Layer k sees k · (window_size − 1) tokens back (figure 1)."""

    config_table = CONFIG_TABLE
    table = staticmethod(table)

    def __init__(self, config: MistralConfig) -> None:
        super().__init__()
        self.config = config
        self.cache_window = config.window_size
        self.embed = Embedding(config.vocab_size, config.dim)
        self.rotary = Rotary(config.head_dim, base=config.rope_base, scaling=config.rope_scaling)
        self.blocks = nn.ModuleList(MistralBlock(config) for _ in range(config.num_layers))
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
        if self.config.window_size is not None:
            mask = mask & Mask.window(self.config.window_size)
        rotate = self.rotary(positions)
        x = self.embed(input_ids)
        for i, block in enumerate(self.blocks):
            x = block(x, mask=mask, rotate=rotate, cache=None if cache is None else cache.layers[i])
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.norm(x)
