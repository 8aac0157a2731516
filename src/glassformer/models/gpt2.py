"""GPT-2 (Radford et al. 2019): a decoder, normalised before each sub-layer, with learned positions."""

from dataclasses import dataclass

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, ConfigTable, Values
from glassformer.checkpoints.table import DROP, Split, Table, Tied, Transpose
from glassformer.models.language_model import LanguageModel, positions_and_mask
from glassformer.ops.mask import Mask
from glassformer.parts import (
    ACTIVATIONS,
    Attention,
    Dropout,
    Embedding,
    FeedForward,
    KeyValueCache,
    LayerCache,
    LayerNorm,
    LearnedPosition,
    Linear,
    TiedLinear,
)


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


SIZES = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(dim=1024, num_layers=24, num_heads=16),
    "gpt2-large": GPT2Config(dim=1280, num_layers=36, num_heads=20),
    "gpt2-xl": GPT2Config(dim=1600, num_layers=48, num_heads=25),
}


CONFIG_TABLE = ConfigTable(
    config=GPT2Config,
    model_type="gpt2",
    architectures=("GPT2LMHeadModel", "GPT2Model"),
    names={
        "vocab_size": "vocab_size",
        "n_positions": "max_positions",
        "n_embd": "dim",
        "n_layer": "num_layers",
        "n_head": "num_heads",
        "n_inner": "hidden_dim",
        "activation_function": Values("activation", ACTIVATION_NAMES),
        "layer_norm_epsilon": "norm_eps",
        "embd_pdrop": "embedding_dropout",
        "attn_pdrop": "attention_dropout",
        "resid_pdrop": "residual_dropout",
        "tie_word_embeddings": "tied",
    },
    defaults={"n_inner": None, "activation_function": "gelu_new", "tie_word_embeddings": True},
    fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False},
    # The heads of their other classes; n_ctx repeats n_positions in old files.
    ignored={"n_ctx", "summary_type", "summary_use_proj", "summary_activation", "summary_first_dropout",
             "summary_proj_to_labels"},
)  # fmt: skip


def table(config: GPT2Config) -> Table:
    """The names in Hugging Face's files; they keep weights input-first and q, k, v in one."""
    return {
        "[transformer.]{wte,wpe}": "{embed,position}",
        "[transformer.]h.*.ln_{1,2}": "blocks.*.{attention,feed_forward}_norm",
        "[transformer.]h.*.attn.c_attn": Split("blocks.*.attention.{query,key,value}", transpose=True),
        "[transformer.]h.*.attn.c_proj": Transpose("blocks.*.attention.output"),
        "[transformer.]h.*.mlp.{c_fc,c_proj}": Transpose("blocks.*.feed_forward.{up,down}"),
        "[transformer.]h.*.attn.{bias,masked_bias}": DROP,
        "[transformer.]ln_f": "norm",
        "lm_head": Tied("embed") if config.tied else "head",
    }


class GPT2Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))  (section 2.3)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.dim, config.norm_eps)
        self.attention = Attention(config.dim, config.num_heads, dropout=config.attention_dropout)
        self.feed_forward_norm = LayerNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(
            config.dim, config.hidden_dim or 4 * config.dim, activation=ACTIVATIONS[config.activation]
        )
        self.dropout = Dropout(config.residual_dropout)
        # "We scale the weights of residual layers at initialization by 1/√N", N their number (section 2.3).
        for layer in (self.attention.output, self.feed_forward.down):
            nn.init.normal_(layer.weight, std=0.02 / (2 * config.num_layers) ** 0.5)

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask, cache: LayerCache | None = None
    ) -> Float[Tensor, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask, cache=cache))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class GPT2(LanguageModel):
    """Embedding + position, the blocks, a last norm, and the head (tied to the embedding)."""

    has_position_table = True
    config_table = CONFIG_TABLE
    table = staticmethod(table)

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.position = LearnedPosition(config.max_positions, config.dim)
        self.dropout = Dropout(config.embedding_dropout)
        self.blocks = nn.ModuleList(GPT2Block(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.dim, config.norm_eps)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)

    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b s"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        positions, mask = positions_and_mask(input_ids, attention_mask, cache)
        x = self.dropout(self.embed(input_ids) + self.position(positions))
        for i, block in enumerate(self.blocks):
            x = block(x, mask=mask, cache=None if cache is None else cache.layers[i])
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return self.norm(x)
