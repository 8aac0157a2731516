"""Gemma 3, the text model (Gemma Team 2025): five layers that look near for one that looks far, norms all around."""

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
    LinearScaling,
    Rotary,
    RotaryScaling,
    Rotation,
    TiedLinear,
    ZeroCenteredRMSNorm,
    gelu_tanh,
)


@dataclass(frozen=True, kw_only=True)
class Gemma3Config:
    """Section 2 of the report; the defaults are the 1B model.

    Each `global_every`-th layer sees all of the past and turns by `rope_base` and `rope_scaling`; the others see
    `window_size` tokens and turn by `local_rope_base`. Scores are scaled by 1/√score_dim.
    """

    vocab_size: int = 262_144
    max_positions: int = 32_768
    dim: int = 1152
    num_layers: int = 26
    num_heads: int = 4
    num_kv_heads: int = 1
    head_dim: int = 256
    hidden_dim: int = 6912
    window_size: int = 512
    global_every: int = 6
    score_dim: int = 256
    norm_eps: float = 1e-6
    rope_base: float = 1_000_000.0
    rope_scaling: RotaryScaling | None = None
    local_rope_base: float = 10_000.0
    attention_dropout: float = 0.0
    tied: bool = True

    @property
    def layer_types(self) -> list[str]:
        """What their config calls each layer."""
        return layer_types(self.num_layers, self.global_every)


def layer_types(num_layers: int, global_every: int) -> list[str]:
    """Their names of the layers: five that slide, one that is full, and again."""
    return ["sliding_attention" if (i + 1) % global_every else "full_attention" for i in range(num_layers)]


LONG = {"vocab_size": 262_208, "max_positions": 131_072, "window_size": 1024,
        "rope_scaling": LinearScaling(factor=8.0)}  # fmt: skip
SIZES = {  # the report, table 1 (embedding + the rest), and the released configurations
    "gemma3-270m": Gemma3Config(dim=640, num_layers=18, hidden_dim=2048),
    "gemma3-1b": Gemma3Config(),
    "gemma3-4b": Gemma3Config(dim=2560, num_layers=34, num_heads=8, num_kv_heads=4, hidden_dim=10_240, **LONG),
    "gemma3-12b": Gemma3Config(dim=3840, num_layers=48, num_heads=16, num_kv_heads=8, hidden_dim=15_360, **LONG),
    "gemma3-27b": Gemma3Config(dim=5376, num_layers=62, num_heads=32, num_kv_heads=16, head_dim=128, hidden_dim=21_504,
                               score_dim=168, **LONG),
}  # fmt: skip


def load_positions(attributes: dict[str, Any]) -> dict[str, Any]:
    """The rotations of both kinds of layers; files of transformers v4 have the older names."""
    both = {**(attributes.get("rope_parameters") or {})}
    far = {"rope_theta": attributes.get("rope_theta", 1e6), **(attributes.get("rope_scaling") or {})}
    near = {"rope_theta": attributes.get("rope_local_base_freq", 1e4)}
    far |= both.pop("full_attention", None) or {}
    near |= both.pop("sliding_attention", None) or {}
    local = load_rope({"rope_parameters": near})
    if both or local["rope_scaling"] is not None:
        raise ValueError(f"config.json has rope_parameters of {both or near}, which is not implemented")
    length = attributes.get("max_position_embeddings", 131_072)
    return load_rope({"max_position_embeddings": length, "rope_parameters": far}) | {
        "local_rope_base": local["rope_base"]
    }


def save_positions(config: Gemma3Config) -> dict[str, Any]:
    """`rope_parameters` of both kinds of layers."""
    said = save_rope(config)
    near = {"rope_type": "default", "rope_theta": config.local_rope_base}
    return said | {"rope_parameters": {"full_attention": said["rope_parameters"], "sliding_attention": near}}


def load_layers(attributes: dict[str, Any]) -> dict[str, Any]:
    """`global_every`, from the list of layers or from its older short form. Raises ValueError without such a rhythm."""
    every = attributes.get("sliding_window_pattern", attributes.get("_sliding_window_pattern", 6))
    kinds = attributes.get("layer_types")
    if kinds and "full_attention" in kinds:
        every = kinds.index("full_attention") + 1
    if kinds is not None and kinds != layer_types(len(kinds), every):
        raise ValueError(f"config.json has layer_types={kinds}, in which not every {every}th layer alone is full")
    return {"global_every": every}


CONFIG_TABLE = ConfigTable(
    config=Gemma3Config,
    model_type="gemma3_text",
    architectures=("Gemma3ForCausalLM", "Gemma3TextModel"),
    names={
        "vocab_size": "vocab_size",
        "hidden_size": "dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "num_key_value_heads": "num_kv_heads",
        "head_dim": "head_dim",
        "intermediate_size": "hidden_dim",
        "sliding_window": "window_size",
        "query_pre_attn_scalar": "score_dim",
        "rms_norm_eps": "norm_eps",
        "attention_dropout": "attention_dropout",
        "tie_word_embeddings": "tied",
    },
    defaults={"head_dim": 256, "query_pre_attn_scalar": 256, "attention_dropout": 0.0, "tie_word_embeddings": True},
    fixed={"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False, "final_logit_softcapping": None,
           "attn_logit_softcapping": None, "use_bidirectional_attention": False},
    ignored={"cache_implementation"},  # how their generation keeps keys and values
    compounds=(
        Compound(
            ("max_position_embeddings", "rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq"),
            ("max_positions", "rope_base", "rope_scaling", "local_rope_base"), load_positions, save_positions,
        ),
        Compound(
            ("layer_types", "sliding_window_pattern", "_sliding_window_pattern"), ("global_every",), load_layers,
            lambda config: {"layer_types": config.layer_types, "sliding_window_pattern": config.global_every},
        ),
    ),
)  # fmt: skip


def table(config: Gemma3Config) -> Table:
    """The names in Hugging Face's files."""
    return {
        "[model.]embed_tokens": "embed",
        "[model.]layers.*.self_attn.{q,k,v,o}_proj": "blocks.*.attention.{query,key,value,output}",
        "[model.]layers.*.self_attn.{q,k}_norm": "blocks.*.attention.{query,key}_norm",
        "[model.]layers.*.mlp.{gate,up,down}_proj": "blocks.*.feed_forward.{gate,up,down}",
        "[model.]layers.*.{input,post_attention}_layernorm": "blocks.*.attention_{norm,output_norm}",
        "[model.]layers.*.{pre,post}_feedforward_layernorm": "blocks.*.feed_forward_{norm,output_norm}",
        "[model.]norm": "norm",
        "lm_head": Tied("embed") if config.tied else "head",
    }


class Gemma3Block(nn.Module):
    """x + norm(attention(norm(x))), then x + norm(feed_forward(norm(x))); q and k are normalised too (section 2)."""

    def __init__(self, config: Gemma3Config) -> None:
        super().__init__()
        self.attention_norm = ZeroCenteredRMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(
            config.dim,
            config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            biased="",
            query_norm=ZeroCenteredRMSNorm(config.head_dim, config.norm_eps),
            key_norm=ZeroCenteredRMSNorm(config.head_dim, config.norm_eps),
            scale=config.score_dim**-0.5,
            dropout=config.attention_dropout,
        )
        self.attention_output_norm = ZeroCenteredRMSNorm(config.dim, config.norm_eps)
        self.feed_forward_norm = ZeroCenteredRMSNorm(config.dim, config.norm_eps)
        self.feed_forward = GatedFeedForward(config.dim, config.hidden_dim, activation=gelu_tanh)
        self.feed_forward_output_norm = ZeroCenteredRMSNorm(config.dim, config.norm_eps)

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask, rotate: Rotation, cache: LayerCache | None = None
    ) -> Float[Tensor, "b t d"]:
        attended = self.attention(self.attention_norm(x), mask=mask, rotate=rotate, cache=cache)
        x = x + self.attention_output_norm(attended)
        return x + self.feed_forward_output_norm(self.feed_forward(self.feed_forward_norm(x)))


class Gemma3(LanguageModel):
    """√dim · embedding, the blocks, near and far by turns, a last norm, and the head (tied to the embedding)."""

    config_table = CONFIG_TABLE
    table = staticmethod(table)

    def __init__(self, config: Gemma3Config) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.rotary = Rotary(config.head_dim, base=config.rope_base, scaling=config.rope_scaling)
        self.local_rotary = Rotary(config.head_dim, base=config.local_rope_base)
        self.blocks = nn.ModuleList(Gemma3Block(config) for _ in range(config.num_layers))
        self.norm = ZeroCenteredRMSNorm(config.dim, config.norm_eps)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)

    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b s"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        positions, mask = positions_and_mask(input_ids, attention_mask, cache)
        far = mask, self.rotary(positions)
        near = mask & Mask.window(self.config.window_size), self.local_rotary(positions)
        x = self.embed(input_ids)
        x = x * x.new_tensor(self.config.dim**0.5)  # rounded to the weights' precision, as it was in training
        for i, block in enumerate(self.blocks):
            layer_mask, rotate = near if (i + 1) % self.config.global_every else far
            x = block(x, mask=layer_mask, rotate=rotate, cache=None if cache is None else cache.layers[i])
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.norm(x)
