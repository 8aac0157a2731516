"""The blocks of the Transformer's encoder and decoder (Vaswani et al. 2017, section 3), and stacks of them.

Three models are made of them: the Transformer over tokens, the one over vectors that is called as
`torch.nn.Transformer` is, and BART.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.ops.mask import Mask
from glassformer.parts import Attention, Dropout, FeedForward, KeyValueCache, LayerCache, LayerNorm
from glassformer.parts.activation import Activation, relu

Residual = Callable[[Tensor, nn.Module, Callable[[Tensor], Tensor]], Tensor]


def post_norm(x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
    """norm(x + sublayer(x))  (section 3.1)."""
    return norm(x + sublayer(x))


def pre_norm(x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
    """x + sublayer(norm(x))  (Xiong et al. 2020, figure 1b); a last norm must follow the blocks."""
    return x + sublayer(norm(x))


@dataclass(frozen=True, kw_only=True)
class Sublayers:
    """What the blocks of encoder and decoder are made of, and how a residual sum and its norm go together."""

    dim: int
    num_heads: int
    hidden_dim: int
    activation: Activation = relu
    norm_eps: float = 1e-5
    dropout: float = 0.0
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    bias: bool = True
    residual: Residual = post_norm

    def norm(self) -> LayerNorm:
        return LayerNorm(self.dim, self.norm_eps, bias=self.bias)

    def attention(self) -> Attention:
        biased = "qkvo" if self.bias else ""
        return Attention(self.dim, self.num_heads, biased=biased, dropout=self.attention_dropout)

    def feed_forward(self) -> FeedForward:
        return FeedForward(
            self.dim, self.hidden_dim, activation=self.activation, bias=self.bias, dropout=self.hidden_dropout
        )


class EncoderBlock(nn.Module):
    """Self-attention, then the feed-forward layer, each in a residual sum with a norm (figure 1, left)."""

    def __init__(self, of: Sublayers) -> None:
        super().__init__()
        self.residual = of.residual
        self.attention, self.attention_norm = of.attention(), of.norm()
        self.feed_forward, self.feed_forward_norm = of.feed_forward(), of.norm()
        self.dropout = Dropout(of.dropout)

    def forward(
        self, x: Float[Tensor, "b s d"], *, mask: Mask, score_bias: Float[Tensor, "#b #h s s"] | None = None
    ) -> Float[Tensor, "b s d"]:
        attend = partial(self.attention, mask=mask, score_bias=score_bias)
        x = self.residual(x, self.attention_norm, lambda y: self.dropout(attend(y)))
        return self.residual(x, self.feed_forward_norm, lambda y: self.dropout(self.feed_forward(y)))


class DecoderBlock(nn.Module):
    """The encoder's block with attention to the encoder's output, the context, in between (figure 1, right)."""

    def __init__(self, of: Sublayers) -> None:
        super().__init__()
        self.residual = of.residual
        self.attention, self.attention_norm = of.attention(), of.norm()
        self.cross_attention, self.cross_attention_norm = of.attention(), of.norm()
        self.feed_forward, self.feed_forward_norm = of.feed_forward(), of.norm()
        self.dropout = Dropout(of.dropout)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        context: Float[Tensor, "r s d"],
        *,
        mask: Mask,
        context_mask: Mask,
        score_bias: Float[Tensor, "#b #h t t"] | None = None,
        context_bias: Float[Tensor, "#b #h t s"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        attend = partial(self.attention, mask=mask, score_bias=score_bias, cache=cache)
        read = partial(self.cross_attention, key=context, mask=context_mask, score_bias=context_bias, cache=cache)
        x = self.residual(x, self.attention_norm, lambda y: self.dropout(attend(y)))
        x = self.residual(x, self.cross_attention_norm, lambda y: self.dropout(read(y)))
        return self.residual(x, self.feed_forward_norm, lambda y: self.dropout(self.feed_forward(y)))


class EncoderStack(nn.Module):
    """The blocks one after another, and a last norm where there is one."""

    def __init__(self, num_layers: int, of: Sublayers, *, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(EncoderBlock(of) for _ in range(num_layers))
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, x: Float[Tensor, "b s d"], **options: Any) -> Float[Tensor, "b s d"]:
        for block in self.blocks:
            x = block(x, **options)
        return self.norm(x)


class DecoderStack(nn.Module):
    """The same for the decoder; a cache that is given is written and advanced."""

    def __init__(self, num_layers: int, of: Sublayers, *, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DecoderBlock(of) for _ in range(num_layers))
        self.norm = nn.Identity() if norm is None else norm

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        context: Float[Tensor, "r s d"],
        *,
        cache: KeyValueCache | None = None,
        **options: Any,
    ) -> Float[Tensor, "b t d"]:
        for i, block in enumerate(self.blocks):
            x = block(x, context, cache=None if cache is None else cache.layers[i], **options)
        if cache is not None:
            cache.advance(x.shape[1])
        return self.norm(x)
