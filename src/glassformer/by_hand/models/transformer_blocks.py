"""The blocks of the Transformer's encoder and decoder (Vaswani et al. 2017, section 3) by hand, and stacks of them."""

from collections.abc import Callable
from dataclasses import dataclass

from numpy import ndarray as Array

from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.activation import Activation, relu
from glassformer.by_hand.parts.attention import Attention
from glassformer.by_hand.parts.dropout import Dropout
from glassformer.by_hand.parts.feed_forward import FeedForward
from glassformer.by_hand.parts.module import Module
from glassformer.by_hand.parts.norm import LayerNorm

Sublayer = Callable[[Array], Array]


@dataclass(frozen=True)
class Residual:
    """How a residual sum and its norm go together: forward, and backward, which is given the sub-layer's own."""

    forward: Callable[[Array, LayerNorm, Sublayer], Array]
    backward: Callable[[Array, LayerNorm, Sublayer], Array]


def _post_norm_backward(dy: Array, norm: LayerNorm, back: Sublayer) -> Array:
    dy = norm.backward(dy)
    return dy + back(dy)


def _pre_norm_backward(dy: Array, norm: LayerNorm, back: Sublayer) -> Array:
    return dy + norm.backward(back(dy))


post_norm = Residual(lambda x, norm, sublayer: norm(x + sublayer(x)), _post_norm_backward)
"""norm(x + sublayer(x))  (section 3.1). Back: through the norm, then to both terms of the sum."""

pre_norm = Residual(lambda x, norm, sublayer: x + sublayer(norm(x)), _pre_norm_backward)
"""x + sublayer(norm(x))  (Xiong et al. 2020, figure 1b). Back: straight on, and through the sub-layer and the norm."""


@dataclass(frozen=True, kw_only=True)
class Sublayers:
    """What the blocks of encoder and decoder are made of."""

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


class EncoderBlock(Module):
    """Self-attention, then the feed-forward layer, each in a residual sum with a norm (figure 1, left)."""

    def __init__(self, of: Sublayers) -> None:
        self.residual = of.residual
        self.attention, self.attention_norm = of.attention(), of.norm()
        self.feed_forward, self.feed_forward_norm = of.feed_forward(), of.norm()
        self.attention_dropout, self.feed_forward_dropout = Dropout(of.dropout), Dropout(of.dropout)

    def forward(self, x: Array, *, mask: Mask) -> Array:
        x = self.residual.forward(
            x, self.attention_norm, lambda y: self.attention_dropout(self.attention(y, mask=mask))
        )
        return self.residual.forward(
            x, self.feed_forward_norm, lambda y: self.feed_forward_dropout(self.feed_forward(y))
        )

    def backward(self, dy: Array) -> Array:
        """The two sums, the last first."""
        dy = self.residual.backward(
            dy, self.feed_forward_norm, lambda d: self.feed_forward.backward(self.feed_forward_dropout.backward(d))
        )
        return self.residual.backward(
            dy, self.attention_norm, lambda d: self.attention.backward(self.attention_dropout.backward(d))
        )


class DecoderBlock(Module):
    """The encoder's block with attention to the encoder's output, the context, in between (figure 1, right)."""

    def __init__(self, of: Sublayers) -> None:
        self.residual = of.residual
        self.attention, self.attention_norm = of.attention(), of.norm()
        self.cross_attention, self.cross_attention_norm = of.attention(), of.norm()
        self.feed_forward, self.feed_forward_norm = of.feed_forward(), of.norm()
        self.attention_dropout, self.cross_attention_dropout = Dropout(of.dropout), Dropout(of.dropout)
        self.feed_forward_dropout = Dropout(of.dropout)

    def forward(self, x: Array, context: Array, *, mask: Mask, context_mask: Mask) -> Array:
        def read(y: Array) -> Array:
            return self.cross_attention_dropout(self.cross_attention(y, context, mask=context_mask))

        x = self.residual.forward(
            x, self.attention_norm, lambda y: self.attention_dropout(self.attention(y, mask=mask))
        )
        x = self.residual.forward(x, self.cross_attention_norm, read)
        return self.residual.forward(
            x, self.feed_forward_norm, lambda y: self.feed_forward_dropout(self.feed_forward(y))
        )

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """The gradients of `x` and of `context`, which served as key and value."""
        d_context: list[Array] = []

        def read_backward(d: Array) -> Array:
            d_query, d_read = self.cross_attention.backward(self.cross_attention_dropout.backward(d))
            d_context.append(d_read)
            return d_query

        dy = self.residual.backward(
            dy, self.feed_forward_norm, lambda d: self.feed_forward.backward(self.feed_forward_dropout.backward(d))
        )
        dy = self.residual.backward(dy, self.cross_attention_norm, read_backward)
        dy = self.residual.backward(
            dy, self.attention_norm, lambda d: self.attention.backward(self.attention_dropout.backward(d))
        )
        return dy, d_context[0]


class EncoderStack(Module):
    """The blocks one after another, and a last norm where there is one."""

    def __init__(self, num_layers: int, of: Sublayers, *, norm: LayerNorm | None = None) -> None:
        self.blocks = [EncoderBlock(of) for _ in range(num_layers)]
        self.norm = norm

    def forward(self, x: Array, *, mask: Mask) -> Array:
        for block in self.blocks:
            x = block(x, mask=mask)
        return x if self.norm is None else self.norm(x)

    def backward(self, dy: Array) -> Array:
        dy = dy if self.norm is None else self.norm.backward(dy)
        for block in reversed(self.blocks):
            dy = block.backward(dy)
        return dy


class DecoderStack(Module):
    """The same for the decoder."""

    def __init__(self, num_layers: int, of: Sublayers, *, norm: LayerNorm | None = None) -> None:
        self.blocks = [DecoderBlock(of) for _ in range(num_layers)]
        self.norm = norm

    def forward(self, x: Array, context: Array, *, mask: Mask, context_mask: Mask) -> Array:
        self._context = context
        for block in self.blocks:
            x = block(x, context, mask=mask, context_mask=context_mask)
        return x if self.norm is None else self.norm(x)

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """The gradients of `x` and of `context`: every block has read it, and the gradients add up."""
        dy, d_context = dy if self.norm is None else self.norm.backward(dy), 0 * self._context
        for block in reversed(self.blocks):
            dy, d_read = block.backward(dy)
            d_context += d_read
        return dy, d_context
