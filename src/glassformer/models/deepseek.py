"""DeepSeek-V3 (DeepSeek-AI 2024): latent attention; many small experts and a shared one after a few dense layers."""

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import Compound, ConfigTable
from glassformer.checkpoints.table import Table, Tied
from glassformer.models.language_model import LanguageModel, positions_and_mask
from glassformer.models.rope import load_rope, said_of_rotation, save_rope
from glassformer.ops.mask import Mask
from glassformer.parts import (
    Embedding,
    GatedFeedForward,
    GroupedRouter,
    KeyValueCache,
    LatentAttention,
    LayerCache,
    Linear,
    MixtureOfExperts,
    RMSNorm,
    Rotary,
    RotaryScaling,
    Rotation,
    TiedLinear,
    YarnScaling,
)

LONG = YarnScaling(factor=40.0, original_max_positions=4096, attention_factor=1.0)  # section 4.3


@dataclass(frozen=True, kw_only=True)
class DeepSeekConfig:
    """Section 4.2 of the DeepSeek-V3 report; the defaults are that model.

    With `yarn_scale` and YaRN, scores are multiplied by (0.1 · yarn_scale · ln factor + 1)² (the report, section 4.3).
    """

    vocab_size: int = 129_280
    max_positions: int = 163_840
    dim: int = 7168
    num_layers: int = 61
    num_dense_layers: int = 3
    num_heads: int = 128
    query_latent_dim: int = 1536
    latent_dim: int = 512
    head_dim: int = 128
    rotary_dim: int = 64
    value_dim: int = 128
    hidden_dim: int = 18_432
    expert_dim: int = 2048
    num_experts: int = 256
    num_shared_experts: int = 1
    num_chosen: int = 8
    num_groups: int = 8
    num_chosen_groups: int = 4
    expert_scale: float = 2.5
    norm_eps: float = 1e-6
    rope_base: float = 10_000.0
    rope_scaling: RotaryScaling | None = LONG
    yarn_scale: float = 1.0
    attention_dropout: float = 0.0
    tied: bool = False

    @property
    def score_scale(self) -> float:
        """What scores are multiplied by."""
        factor = self.rope_scaling.factor if isinstance(self.rope_scaling, YarnScaling) else 1.0
        return (self.head_dim + self.rotary_dim) ** -0.5 * (0.1 * self.yarn_scale * math.log(max(factor, 1.0)) + 1) ** 2


SIZES = {"deepseek-v3": DeepSeekConfig()}  # section 4.2


def load_positions(attributes: dict[str, Any]) -> dict[str, Any]:
    """As every model's, and YaRN's `mscale`, with which scores are scaled and not cosines and sines."""
    said = said_of_rotation(attributes)
    scale, twin = said.pop("mscale_all_dim", 0.0), said.pop("mscale", None)
    if (twin or scale) != scale:
        raise ValueError(f"config.json has mscale={twin} and mscale_all_dim={scale}; only equal ones are implemented")
    if scale:
        said["attention_factor"] = 1.0
    return load_rope({**attributes, "rope_parameters": said, "rope_scaling": None}) | {"yarn_scale": float(scale)}


def save_positions(config: DeepSeekConfig) -> dict[str, Any]:
    """As every model's, with `mscale` where it says something."""
    said, scale = save_rope(config), config.yarn_scale
    said["rope_parameters"] |= {"mscale": scale, "mscale_all_dim": scale} if scale else {}
    return said


SAID_ONE_WAY = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1}


def load_kind(attributes: dict[str, Any]) -> dict[str, Any]:
    """Nothing of ours: what their own code can say of experts and heads, and we implement one way only."""
    heads, rotary = attributes["num_attention_heads"], attributes["qk_rope_head_dim"]
    fixed = {**SAID_ONE_WAY, **dict.fromkeys(("num_attention_heads", "num_key_value_heads"), heads),
             **dict.fromkeys(("qk_rope_head_dim", "head_dim"), rotary)}  # fmt: skip
    for name, value in attributes.items():
        if value is not None and value != fixed[name]:
            raise ValueError(f"config.json has {name}={value!r}; only {fixed[name]!r} is implemented")
    return {}


CONFIG_TABLE = ConfigTable(
    config=DeepSeekConfig,
    model_type="deepseek_v3",
    architectures=("DeepseekV3ForCausalLM", "DeepseekV3Model"),
    names={
        "vocab_size": "vocab_size",
        "hidden_size": "dim",
        "num_hidden_layers": "num_layers",
        "first_k_dense_replace": "num_dense_layers",
        "num_attention_heads": "num_heads",
        "q_lora_rank": "query_latent_dim", "kv_lora_rank": "latent_dim",
        "qk_nope_head_dim": "head_dim", "qk_rope_head_dim": "rotary_dim", "v_head_dim": "value_dim",
        "intermediate_size": "hidden_dim", "moe_intermediate_size": "expert_dim",
        "n_routed_experts": "num_experts", "n_shared_experts": "num_shared_experts",
        "num_experts_per_tok": "num_chosen",
        "n_group": "num_groups", "topk_group": "num_chosen_groups",
        "routed_scaling_factor": "expert_scale",
        "rms_norm_eps": "norm_eps",
        "attention_dropout": "attention_dropout",
        "tie_word_embeddings": "tied",
    },
    defaults={"attention_dropout": 0.0, "tie_word_embeddings": False},
    fixed={"hidden_act": "silu", "attention_bias": False, "norm_topk_prob": True, "rope_interleave": True,
           "output_router_logits": False},
    # A width that follows from others; how training was split and balanced; modules behind the last layer.
    ignored={"qk_head_dim", "pretraining_tp", "ep_size", "aux_loss_alpha", "seq_aux", "auto_map",
             "num_nextn_predict_layers", "num_mtp_layers"},
    compounds=(
        Compound(
            ("max_position_embeddings", "rope_parameters", "rope_scaling", "rope_theta"),
            ("max_positions", "rope_base", "rope_scaling", "yarn_scale"), load_positions, save_positions,
        ),
        Compound(
            ("num_attention_heads", "num_key_value_heads", "qk_rope_head_dim", "head_dim", *SAID_ONE_WAY), (),
            load_kind, lambda config: {"num_key_value_heads": config.num_heads},
        ),
    ),
)  # fmt: skip


def table(config: DeepSeekConfig) -> Table:
    """The names in Hugging Face's files."""
    return {
        "[model.]embed_tokens": "embed",
        "[model.]layers.*.self_attn.q_{a,b}_proj": "blocks.*.attention.query_{down,up}",
        "[model.]layers.*.self_attn.kv_{a_proj_with_mqa,b_proj}": "blocks.*.attention.key_value_{down,up}",
        "[model.]layers.*.self_attn.{q,kv}_a_layernorm": "blocks.*.attention.{query,key_value}_norm",
        "[model.]layers.*.self_attn.o_proj": "blocks.*.attention.output",
        "[model.]layers.*.mlp.gate": "blocks.*.feed_forward.routed.router",
        "[model.]layers.*.mlp.gate.e_score_correction_bias": "blocks.*.feed_forward.routed.router.choice_bias",
        "[model.]layers.*.mlp.experts.*.{gate,up,down}_proj": "blocks.*.feed_forward.routed.experts.*.{gate,up,down}",
        "[model.]layers.*.mlp.shared_experts.{gate,up,down}_proj": "blocks.*.feed_forward.shared.{gate,up,down}",
        "[model.]layers.*.mlp.{gate,up,down}_proj": "blocks.*.feed_forward.{gate,up,down}",
        "[model.]layers.*.input_layernorm": "blocks.*.attention_norm",
        "[model.]layers.*.post_attention_layernorm": "blocks.*.feed_forward_norm",
        "[model.]norm": "norm",
        "lm_head": Tied("embed") if config.tied else "head",
    }


class SharedAndRouted(nn.Module):
    """shared(x) + Σ_e w_e expert_e(x)  (equation (12))."""

    def __init__(self, config: DeepSeekConfig) -> None:
        super().__init__()
        self.shared = GatedFeedForward(config.dim, config.num_shared_experts * config.expert_dim)
        self.routed = MixtureOfExperts(
            GroupedRouter(config.dim, config.num_experts, config.num_chosen, num_groups=config.num_groups,
                          num_chosen_groups=config.num_chosen_groups, scale=config.expert_scale),
            (GatedFeedForward(config.dim, config.expert_dim) for _ in range(config.num_experts)),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.shared(x) + self.routed(x)[0]


class DeepSeekBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), dense or of experts (section 2.1)."""

    def __init__(self, config: DeepSeekConfig, feed_forward: nn.Module) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = LatentAttention(
            config.dim, config.num_heads, query_latent_dim=config.query_latent_dim, latent_dim=config.latent_dim,
            head_dim=config.head_dim, rotary_dim=config.rotary_dim, value_dim=config.value_dim,
            scale=config.score_scale, dropout=config.attention_dropout,
        )  # fmt: skip
        self.feed_forward_norm = RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = feed_forward

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask, rotate: Rotation, cache: LayerCache | None = None
    ) -> Float[Tensor, "b t d"]:
        x = x + self.attention(self.attention_norm(x), mask=mask, rotate=rotate, cache=cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class DeepSeek(LanguageModel):
    """Embedding, dense blocks, blocks of experts, a last norm, and the head."""

    config_table = CONFIG_TABLE
    table = staticmethod(table)

    def __init__(self, config: DeepSeekConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.rotary = Rotary(config.rotary_dim, base=config.rope_base, scaling=config.rope_scaling)
        self.blocks = nn.ModuleList()
        for i in range(config.num_layers):
            dense = i < config.num_dense_layers
            feed_forward = GatedFeedForward(config.dim, config.hidden_dim) if dense else SharedAndRouted(config)
            self.blocks.append(DeepSeekBlock(config, feed_forward))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)

    def new_cache(self, batch_size: int, capacity: int | None = None) -> KeyValueCache:
        """An empty cache of latents and rotated keys: latent_dim + rotary_dim numbers a token, for all heads."""
        config, weight = self.config, self.embed.weight
        return KeyValueCache(
            config.num_layers, batch_size, 1, config.max_positions if capacity is None else capacity,
            config.latent_dim, value_dim=config.rotary_dim, dtype=weight.dtype, device=weight.device,
        )  # fmt: skip

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
