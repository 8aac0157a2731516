"""Llama (Touvron et al. 2023; Llama 2; Dubey et al. 2024): a decoder with RMSNorm, rotary positions and SwiGLU."""

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
    Llama3Scaling,
    RMSNorm,
    Rotary,
    RotaryScaling,
    Rotation,
    TiedLinear,
)


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


LLAMA_3_2_SCALING = Llama3Scaling(
    factor=32.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_max_positions=8192
)

SIZES = {  # LLaMA, table 2; Llama 2, table 1; Llama 3, table 3 and the 3.2 release's configurations
    "llama-7b": LlamaConfig(),
    "llama-13b": LlamaConfig(dim=5120, num_layers=40, num_heads=40, hidden_dim=13_824),
    "llama-33b": LlamaConfig(dim=6656, num_layers=60, num_heads=52, hidden_dim=17_920),
    "llama-65b": LlamaConfig(dim=8192, num_layers=80, num_heads=64, hidden_dim=22_016),
    "llama2-7b": LlamaConfig(max_positions=4096, norm_eps=1e-5),
    "llama2-70b": LlamaConfig(
        max_positions=4096, dim=8192, num_layers=80, num_heads=64, num_kv_heads=8, hidden_dim=28_672, norm_eps=1e-5
    ),
    "llama3-8b": LlamaConfig(
        vocab_size=128_256, max_positions=8192, num_kv_heads=8, hidden_dim=14_336, norm_eps=1e-5, rope_base=500_000.0
    ),
    "llama3.2-1b": LlamaConfig(
        vocab_size=128_256, max_positions=131_072, dim=2048, num_layers=16, num_kv_heads=8, hidden_dim=8192,
        norm_eps=1e-5, rope_base=500_000.0, rope_scaling=LLAMA_3_2_SCALING, tied=True,
    ),
}  # fmt: skip


CONFIG_TABLE = ConfigTable(
    config=LlamaConfig,
    model_type="llama",
    architectures=("LlamaForCausalLM", "LlamaModel"),
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
        "mlp_bias": "feed_forward_bias",
        "attention_dropout": "attention_dropout",
        "tie_word_embeddings": "tied",
    },
    defaults={"num_key_value_heads": None, "head_dim": None, "attention_bias": False, "mlp_bias": False,
              "attention_dropout": 0.0, "tie_word_embeddings": False},
    fixed={"hidden_act": "silu"},
    ignored={"pretraining_tp"},  # how the training machines split the products
    compounds=(Compound(
        ("max_position_embeddings", "rope_parameters", "rope_scaling", "rope_theta"),
        ("max_positions", "rope_base", "rope_scaling"),
        load_rope, save_rope,
    ),),
)  # fmt: skip


def table(config: LlamaConfig) -> Table:
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


class LlamaBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))  (LLaMA, section 2.2)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
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

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask, rotate: Rotation, cache: LayerCache | None = None
    ) -> Float[Tensor, "b t d"]:
        x = x + self.attention(self.attention_norm(x), mask=mask, rotate=rotate, cache=cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Llama(LanguageModel):
    """Embedding, the blocks with one rotation for all, a last norm, and the head."""

    config_table = CONFIG_TABLE
    table = staticmethod(table)

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.rotary = Rotary(config.head_dim, base=config.rope_base, scaling=config.rope_scaling)
        self.blocks = nn.ModuleList(LlamaBlock(config) for _ in range(config.num_layers))
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
