"""Mixtral (Jiang et al. 2024): Mistral's block, its feed-forward layer one of eight experts, two for each token."""

from dataclasses import dataclass
from functools import partial

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import Compound, ConfigTable
from glassformer.checkpoints.table import Table, Tied
from glassformer.models.language_model import LanguageModel, positions_and_mask
from glassformer.models.outputs import CausalLMOutput
from glassformer.models.rope import load_rope, save_rope
from glassformer.ops.mask import Mask
from glassformer.parts import (
    Attention,
    Embedding,
    GatedFeedForward,
    KeyValueCache,
    LayerCache,
    Linear,
    MixtureOfExperts,
    RMSNorm,
    Rotary,
    RotaryScaling,
    Rotation,
    Routing,
    TiedLinear,
    TopKRouter,
    load_balancing_loss,
)


@dataclass(frozen=True, kw_only=True)
class MixtralConfig:
    """Table 1 of the paper; the defaults are the 8x7B model.

    With `balanced` the loss counts the load-balancing loss too, times `balance_weight`, and the output shows it.
    """

    vocab_size: int = 32_000
    max_positions: int = 32_768
    dim: int = 4096
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int = 8
    head_dim: int = None  # type: ignore[assignment]  # dim / num_heads, filled in below
    hidden_dim: int = 14_336
    num_experts: int = 8
    num_chosen: int = 2
    window_size: int | None = None
    norm_eps: float = 1e-5
    rope_base: float = 1_000_000.0
    rope_scaling: RotaryScaling | None = None
    attention_dropout: float = 0.0
    balanced: bool = False
    balance_weight: float = 0.02
    tied: bool = False

    def __post_init__(self) -> None:
        if self.head_dim is None:
            object.__setattr__(self, "head_dim", self.dim // self.num_heads)


SIZES = {  # the paper, table 1; then the configuration of the larger release
    "mixtral-8x7b": MixtralConfig(),
    "mixtral-8x22b": MixtralConfig(
        max_positions=65_536, dim=6144, num_layers=56, num_heads=48, hidden_dim=16_384, balance_weight=0.001
    ),
}


CONFIG_TABLE = ConfigTable(
    config=MixtralConfig,
    model_type="mixtral",
    architectures=("MixtralForCausalLM", "MixtralModel"),
    names={
        "vocab_size": "vocab_size",
        "hidden_size": "dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "num_key_value_heads": "num_kv_heads",
        "head_dim": "head_dim",
        "intermediate_size": "hidden_dim",
        "num_local_experts": "num_experts",
        "num_experts_per_tok": "num_chosen",
        "sliding_window": "window_size",
        "rms_norm_eps": "norm_eps",
        "attention_dropout": "attention_dropout",
        "output_router_logits": "balanced",
        "router_aux_loss_coef": "balance_weight",
        "tie_word_embeddings": "tied",
    },
    defaults={"num_key_value_heads": 8, "head_dim": None, "sliding_window": None, "rms_norm_eps": 1e-5,
              "attention_dropout": 0.0, "output_router_logits": False, "router_aux_loss_coef": 0.001,
              "tie_word_embeddings": False},
    fixed={"hidden_act": "silu", "router_jitter_noise": 0.0},
    compounds=(Compound(
        ("max_position_embeddings", "rope_parameters", "rope_scaling", "rope_theta"),
        ("max_positions", "rope_base", "rope_scaling"),
        partial(load_rope, default_base=1_000_000.0), save_rope,
    ),),
)  # fmt: skip


def table(config: MixtralConfig) -> Table:
    """The names in Hugging Face's files; w1, w3 and w2 are the paper's, and Llama's, gate, up and down."""
    return {
        "[model.]embed_tokens": "embed",
        "[model.]layers.*.self_attn.{q,k,v,o}_proj": "blocks.*.attention.{query,key,value,output}",
        "[model.]layers.*.block_sparse_moe.gate": "blocks.*.feed_forward.router",
        "[model.]layers.*.block_sparse_moe.experts.*.{w1,w3,w2}": "blocks.*.feed_forward.experts.*.{gate,up,down}",
        "[model.]layers.*.input_layernorm": "blocks.*.attention_norm",
        "[model.]layers.*.post_attention_layernorm": "blocks.*.feed_forward_norm",
        "[model.]norm": "norm",
        "lm_head": Tied("embed") if config.tied else "head",
    }


class MixtralBlock(nn.Module):
    """x + attention(norm(x)), then x + Σ_e w_e expert_e(norm(x))  (section 2); gives the routing too."""

    def __init__(self, config: MixtralConfig) -> None:
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
        self.feed_forward = MixtureOfExperts(
            TopKRouter(config.dim, config.num_experts, config.num_chosen),
            (GatedFeedForward(config.dim, config.hidden_dim) for _ in range(config.num_experts)),
        )

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask, rotate: Rotation, cache: LayerCache | None = None
    ) -> tuple[Float[Tensor, "b t d"], Routing]:
        x = x + self.attention(self.attention_norm(x), mask=mask, rotate=rotate, cache=cache)
        y, routing = self.feed_forward(self.feed_forward_norm(x))
        return x + y, routing


class Mixtral(LanguageModel):
    """Embedding, the blocks, a last norm, and the head."""

    config_table = CONFIG_TABLE
    table = staticmethod(table)

    def __init__(self, config: MixtralConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.rotary = Rotary(config.head_dim, base=config.rope_base, scaling=config.rope_scaling)
        self.blocks = nn.ModuleList(MixtralBlock(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)

    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b s"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        return self.hidden_and_routings(input_ids, attention_mask, cache=cache)[0]

    def hidden_and_routings(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b s"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> tuple[Float[Tensor, "b t d"], list[Routing]]:
        """The last hidden states, and where each layer sent the tokens."""
        positions, mask = positions_and_mask(input_ids, attention_mask, cache)
        if self.config.window_size is not None:
            mask = mask & Mask.window(self.config.window_size)
        rotate = self.rotary(positions)
        x, routings = self.embed(input_ids), []
        for i, block in enumerate(self.blocks):
            x, routing = block(x, mask=mask, rotate=rotate, cache=None if cache is None else cache.layers[i])
            routings.append(routing)
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.norm(x), routings

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        targets: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> CausalLMOutput:
        """As every language model's; with `config.balanced` also the load-balancing loss, over the tokens given."""
        if not self.config.balanced:
            return super().forward(input_ids, attention_mask, labels, targets=targets, cache=cache)
        self._check(input_ids, attention_mask, labels, targets, cache)
        hidden, routings = self.hidden_and_routings(input_ids, attention_mask, cache=cache)
        out = self._output(hidden, labels, targets)
        present = None if attention_mask is None else attention_mask[:, -input_ids.shape[1] :] != 0
        out.auxiliary_loss = load_balancing_loss(routings, present)
        if out.loss is not None:
            out.loss = out.loss + self.config.balance_weight * out.auxiliary_loss
        return out
