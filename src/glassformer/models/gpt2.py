"""GPT-2 (Radford et al. 2019): a decoder, normalised before each sub-layer, with learned positions."""

from dataclasses import dataclass

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.models.language_model import LanguageModel, positions_and_mask
from glassformer.ops.mask import Mask
from glassformer.parts import (
    ACTIVATIONS,
    Attention,
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
        self.dropout = nn.Dropout(config.residual_dropout)

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask, cache: LayerCache | None = None
    ) -> Float[Tensor, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask, cache=cache))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class GPT2(LanguageModel):
    """Embedding + position, the blocks, a last norm, and the head (tied to the embedding)."""

    has_position_table = True

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.position = LearnedPosition(config.max_positions, config.dim)
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.blocks = nn.ModuleList(GPT2Block(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.dim, config.norm_eps)
        self.head = TiedLinear(self.embed) if config.tied else Linear(config.dim, config.vocab_size, bias=False)
        # "We scale the weights of residual layers at initialization by 1/√N", N their number (section 2.3).
        for block in self.blocks:
            for layer in (block.attention.output, block.feed_forward.down):
                nn.init.normal_(layer.weight, std=0.02 / (2 * config.num_layers) ** 0.5)

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
