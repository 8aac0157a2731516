"""The sub-layers of a transformer, each one step of autograd: what their parts do in a dozen.

PyTorch keeps a node for every product, split and transpose, and calls each from Python or back into it. In a small
model that, and the copies between the nodes, take a third of the time of the arithmetic. Here a sub-layer's backward
pass is written out as one, as `by_hand` writes it; products go to oneDNN. The numbers are those of the parts.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from glassformer.ops.attend_products import Kept, added_to_scores, as_one, backward_pass, forward_pass, quick_products
from glassformer.ops.linear_onednn import Affine, gradients, product, stacked
from glassformer.ops.mask import Mask


class LearnedActivation(NamedTuple):
    """An activation and its gradient, without autograd."""

    forward: Callable[[Tensor], tuple[Tensor, Tensor]]
    """x -> y, and what the backward pass needs."""
    backward: Callable[[Tensor, Tensor], Tensor]
    """dy, which it may write over, and that -> dx."""


def feed_forward(
    x: Float[Tensor, "*rows d"], up: Affine, down: Affine, activation: LearnedActivation, dtype: torch.dtype
) -> Float[Tensor, "*rows d"]:
    """down(activation(up(x))), its products in `dtype`: float32 or bfloat16, on the CPU."""
    return _FeedForward.apply(x, *up, *down, activation, dtype)  # pyright: ignore[reportReturnType]


def self_attention(
    x: Float[Tensor, "b t d"],
    projections: Sequence[Affine],
    head_dim: int,
    *,
    mask: Mask,
    score_bias: Float[Tensor, "#b #h #t t"] | None,
    scale: float,
    dropout: float,
    dtype: torch.dtype,
) -> Float[Tensor, "b t d"]:
    """Of the projections query, key, value, output: output(softmax(scale · q kᵀ + bias) v), as many q as k and v.

    The weights are formed, as in `ops/attend_products.py`. The bias gets no gradient. Raises ValueError where the mask
    does not fit.
    """
    b, t, _ = x.shape
    mask.check(b, t, t)
    added, blind = added_to_scores(mask, score_bias, t, t, x.new_empty(0, dtype=dtype))
    options = Options(head_dim, scale, dropout, dtype)
    weights, biases = zip(*projections, strict=True)
    return _SelfAttention.apply(x, as_one(added), blind, options, *weights, *biases)  # pyright: ignore[reportReturnType]


class Options(NamedTuple):
    """What is no tensor."""

    head_dim: int
    scale: float
    dropout: float
    dtype: torch.dtype


class _FeedForward(Function):
    """h = x W₁ᵀ + b₁, y = f(h), out = y W₂ᵀ + b₂:  dy = dout W₂, dh = dy f'(h), dx = dh W₁."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        up: Tensor,
        up_bias: Tensor | None,
        down: Tensor,
        down_bias: Tensor | None,
        activation: LearnedActivation,
        dtype: torch.dtype,
    ) -> Tensor:
        x, up, down = x.to(dtype), up.to(dtype), down.to(dtype)
        y, slope = activation.forward(_affine(x, up, up_bias))
        ctx.activation = activation
        ctx.save_for_backward(x, up, down, y, slope)
        return _affine(y, down, down_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, up, down, y, slope = ctx.saved_tensors
        need_x, need_up, need_up_bias, need_down, need_down_bias, _, _ = ctx.needs_input_grad
        d_out = _rows(d_out)
        dy, d_down = gradients(d_out, _rows(y), down, need_x or need_up or need_up_bias, need_down)
        d_down_bias = d_out.sum(0) if need_down_bias else None
        if dy is None:
            return None, None, None, d_down, d_down_bias, None, None
        dh = ctx.activation.backward(dy, _rows(slope))
        del dy
        dx, d_up = gradients(dh, _rows(x), up, need_x, need_up)
        dx = None if dx is None else dx.view(x.shape)
        return dx, d_up, dh.sum(0) if need_up_bias else None, d_down, d_down_bias, None, None


class _SelfAttention(Function):
    """The product with all rows of W_q, W_k, W_v; the heads apart; attention; the heads together; the output."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, added: Tensor | None, blind: Tensor | None, options: Options, *layers: Any
    ) -> Tensor:
        (*weights, output), (*biases, output_bias) = layers[:4], layers[4:]
        head_dim, scale, dropout, dtype = options
        x, output, joined = x.to(dtype), output.to(dtype), torch.cat(weights)
        weight, bias = joined.to(dtype), stacked(biases, weights)
        (b, t, _), h = x.shape, output.shape[1] // head_dim
        rows = _affine(x, weight, bias).view(b, t, 3, h, head_dim)
        q, k, v = rows.permute(2, 0, 3, 1, 4).reshape(3, b * h, t, head_dim).unbind()
        del rows  # as the rest below: what is not needed again makes room
        y, saved = forward_pass(q, k, v, added, (b, h, t, t), scale, dropout)
        y = y.view(b, h, t, head_dim)
        if blind is not None:
            y = y.masked_fill_(blind, 0.0)
        y = y.transpose(1, 2).reshape(b, t, h * head_dim)
        ctx.save_for_backward(x, blind, weight, output, y, *saved)
        ctx.scale, ctx.dtype = scale, joined.dtype
        return _affine(y, output, output_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, blind, weight, output, y, *saved = ctx.saved_tensors
        need_x, _, _, _, *need = ctx.needs_input_grad
        saved = Kept(*saved)
        (b, t, _), (heads, _, head_dim) = x.shape, saved.q.shape
        h = heads // b
        d_out = _rows(d_out)
        with quick_products(saved.q):
            dy, d_output = gradients(d_out, _rows(y), output, True, need[3])
            assert dy is not None
            dy = dy.view(b, t, h, head_dim).transpose(1, 2)
            if blind is not None:
                dy = dy.masked_fill(blind, 0.0)
            into = x.new_empty(3, heads, t, head_dim)
            backward_pass(dy.reshape(heads, t, head_dim), saved, ctx.scale, into.unbind())
            d_rows = into.view(3, b, h, t, head_dim).permute(1, 3, 0, 2, 4).reshape(b * t, -1)
            del dy, into, saved
            dx, d_weight = gradients(d_rows, _rows(x), weight, need_x, any(need[:3]))
        d_weights = (None,) * 3 if d_weight is None else d_weight.to(ctx.dtype).chunk(3)
        d_biases = d_rows.sum(0).to(ctx.dtype).chunk(3) if any(need[4:7]) else (None,) * 3
        d_biases = [each if wanted else None for each, wanted in zip(d_biases, need[4:7], strict=True)]
        dx = None if dx is None else dx.view(x.shape)
        return dx, None, None, None, *d_weights, d_output, *d_biases, d_out.sum(0) if need[7] else None


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return product(x, weight, None if bias is None else bias.to(x.dtype))


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
