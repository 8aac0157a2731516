"""GPT (Radford et al. 2018, "GPT-1"): a decoder, normalised after each sub-layer, with learned positions."""

from dataclasses import dataclass

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import ConfigTable, Values
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
    TiedLinear,
)


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Section 4.1 of the paper."""

    vocab_size: int = 40_478
    max_positions: int = 512
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-5
    embedding_dropout: float = 0.1
    attention_dropout: float = 0.1
    residual_dropout: float = 0.1

    @property
    def num_kv_heads(self) -> int:
        return self.num_heads

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


SIZES = {"gpt": GPTConfig()}


CONFIG_TABLE = ConfigTable(
    config=GPTConfig,
    model_type="openai-gpt",
    architectures=("OpenAIGPTLMHeadModel", "OpenAIGPTModel"),
    names={
        "vocab_size": "vocab_size",
        "n_positions": "max_positions",
        "n_embd": "dim",
        "n_layer": "num_layers",
        "n_head": "num_heads",
        # This family's "gelu" is the tanh approximation; in their other families the word means the exact one.
        "afn": Values("activation", {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}),
        "layer_norm_epsilon": "norm_eps",
        "embd_pdrop": "embedding_dropout",
        "attn_pdrop": "attention_dropout",
        "resid_pdrop": "residual_dropout",
    },
    defaults={"afn": "gelu"},
    fixed={"tie_word_embeddings": True},
    # The heads of their other classes; n_ctx and n_special repeat what is said elsewhere in old files.
    ignored={"n_ctx", "n_special", "predict_special_tokens", "summary_type", "summary_use_proj", "summary_activation",
             "summary_first_dropout", "summary_proj_to_labels"},
)  # fmt: skip

TABLE: Table = {
    "[transformer.]{tokens_embed,positions_embed}": "{embed,position}",
    "[transformer.]h.*.attn.c_attn": Split("blocks.*.attention.{query,key,value}", transpose=True),
    "[transformer.]h.*.attn.c_proj": Transpose("blocks.*.attention.output"),
    "[transformer.]h.*.attn.bias": DROP,
    "[transformer.]h.*.ln_{1,2}": "blocks.*.{attention,feed_forward}_norm",
    "[transformer.]h.*.mlp.{c_fc,c_proj}": Transpose("blocks.*.feed_forward.{up,down}"),
    "lm_head": Tied("embed"),
}


class GPTBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)): the order of Vaswani et al. 2017."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention = Attention(config.dim, config.num_heads, dropout=config.attention_dropout)
        self.attention_norm = LayerNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(config.dim, 4 * config.dim, activation=ACTIVATIONS[config.activation])
        self.feed_forward_norm = LayerNorm(config.dim, config.norm_eps)
        self.dropout = Dropout(config.residual_dropout)

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask, cache: LayerCache | None = None
    ) -> Float[Tensor, "b t d"]:
        x = self.attention_norm(x + self.dropout(self.attention(x, mask=mask, cache=cache)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class GPT(LanguageModel):
    """Embedding + position, the blocks, and the head, tied to the embedding (equation 2)."""

    has_position_table = True
    config_table = CONFIG_TABLE
    table = TABLE

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.position = LearnedPosition(config.max_positions, config.dim)
        self.dropout = Dropout(config.embedding_dropout)
        self.blocks = nn.ModuleList(GPTBlock(config) for _ in range(config.num_layers))
        self.head = TiedLinear(self.embed)

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
        return x
