"""Attention as two batched products with a softmax between them, for sequences whose weights fit the caches.

It forms the weights, as the equation does, but in one array: scaled by the product itself, masked and normalised in
place. The weights are all that the backward pass needs besides q, k and v:

    P = softmax(S),  O = P V:      dV = Pᵀ dO,   dP = dO Vᵀ,   dS = P ∘ (dP − rowsum(dP ∘ P)),   dQ = dS K,   dK = dSᵀ Q
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from glassformer.ops.attend_apart import apart
from glassformer.ops.attend_inputs import prepared
from glassformer.ops.dropout import kept
from glassformer.ops.linear_onednn import traced
from glassformer.ops.machine import products_by_onednn
from glassformer.ops.mask import Mask


@apart
def products(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b g s k"],
    v: Float[Tensor, "b g s k"],
    *,
    mask: Mask,
    score_bias: Float[Tensor, "#b #h #t s"] | None,
    scale: float,
    dropout: float,
) -> tuple[Float[Tensor, "b h t k"], None]:
    """softmax(scale · q kᵀ + bias) v, the scores in the dtype of q. Gradients of gradients are not defined."""
    q, k, v = prepared(q, k, v, mask)
    (b, h, t, _), s = q.shape, k.shape[2]
    added, blind = added_to_scores(mask, score_bias, t, s, q)
    if torch.is_grad_enabled() or traced():
        options = as_one(added), (b, h, t, s), scale, dropout
        out = _plain(*_folded(q, k, v), *options) if traced() else _Products.apply(q, k, v, *options)
    else:
        out = _inferred(q, k, v, added, scale, dropout)
    out = out.view(q.shape)
    return (out if blind is None else out.masked_fill(blind, 0.0)), None


def _folded(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and heads as one; the query heads that share a key head as more queries: grouped keys are never repeated."""
    (b, h, t, width), (_, g, s, _) = q.shape, k.shape
    return q.reshape(b * g, h // g * t, width), k.reshape(b * g, s, width), v.reshape(b * g, s, width)


def added_to_scores(
    mask: Mask, score_bias: Tensor | None, t: int, s: int, q: Tensor
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """What is added to the scores: the bias, then −∞ where a key is hidden; and the queries that see nothing."""
    if mask.is_causal and score_bias is None and t > 1 and not traced():
        return (_causal(t, s, q.device, q.dtype),), None
    visible, blind = mask.opened(t, s, q.device)
    bias = () if score_bias is None else (score_bias,)
    if visible is None:
        return bias, blind
    return (*bias, mask.keep(("additive", t, s, q.device, q.dtype), lambda: additive(visible, q.dtype))), blind


def as_one(added: Sequence[Tensor]) -> Tensor | None:
    """The sum of what is added to the scores."""
    return sum(added[1:], added[0]) if added else None


@lru_cache(maxsize=1)
def _causal(t: int, s: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A causal mask is the same at every step of a training: the latest is kept."""
    with torch.inference_mode(False):
        visible = Mask.causal().visible(t, s, device)
        assert visible is not None  # t > 1: some query has a key behind it
        return additive(visible, dtype)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """What hides keys when it is added to scores: 0 where they are visible, −∞ elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def _plain(q: Tensor, k: Tensor, v: Tensor, added: Tensor | None, sizes: Any, scale: float, dropout: float) -> Tensor:
    """The same by PyTorch's own gradients: what torch.compile and torch.func can see into."""
    scores = torch.bmm(q, k.mT) * scale
    if added is not None:
        scores = (scores.view(sizes) + added).view(scores.shape).to(q.dtype)
    return torch.bmm(F.dropout(scores.softmax(-1), dropout), v)


def _inferred(q: Tensor, k: Tensor, v: Tensor, added: Sequence[Tensor], scale: float, dropout: float) -> Tensor:
    """Without gradients. Rows of weights are filled up with hidden keys where that makes a quicker softmax."""
    s = k.shape[2]
    more = _more(s, q)
    if more:
        k, v = (F.pad(x, (0, 0, 0, more)) for x in (k, v))
        added = [F.pad(x, (0, more), value=-torch.inf) for x in added or (q.new_zeros(1, 1, 1, s),)]
    sizes = *q.shape[:3], s + more
    q, k, v = _folded(q, k, v)
    with quick_products(q):
        weights = _weights(q, k, added, sizes, scale)
        return torch.bmm(F.dropout(weights, dropout, inplace=True), v)


def _more(s: int, q: Tensor) -> int:
    """The keys that lack to whole vectors of 32, where halves are computed on a CPU and it is a third of s at most.

    PyTorch's softmax takes the end of a row number by number: 49 bfloat16 take twice as long as 64.
    """
    more = -s % 32 if q.device.type == "cpu" and q.element_size() == 2 else 0
    return more if 3 * more <= s else 0


def _weights(q: Tensor, k: Tensor, added: Sequence[Tensor], sizes: Any, scale: float) -> Tensor:
    scores = _scaled_product(q, k.mT, scale)
    for each in added:
        scores.view(sizes).add_(each)
    return torch.softmax(scores, -1, out=scores)


def _scaled_product(x: Tensor, y: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    nothing = x.new_empty(1, 1, 1)  # beta=0: it is not read
    return torch.baddbmm(nothing, x, y, beta=0, alpha=scale, out=out)


def quick_products(q: Tensor) -> AbstractContextManager[Any]:
    """While entered, products go where this machine multiplies fastest; a few rows are all call, and stay."""
    suits = q.dtype == torch.float32 and q.device.type == "cpu" and q.shape[1] >= 16
    return products_by_onednn() if suits else nullcontext()


class Kept(NamedTuple):
    """What the backward pass needs: the weights, and by what dropout multiplied them."""

    q: Tensor
    k: Tensor
    v: Tensor
    weights: Tensor
    chosen: Tensor | None


def forward_pass(
    q: Tensor, k: Tensor, v: Tensor, added: Tensor | None, sizes: Any, scale: float, dropout: float
) -> tuple[Tensor, Kept]:
    """The equation, of rows and heads as one."""
    with quick_products(q):
        weights = _weights(q, k, () if added is None else (added,), sizes, scale)
        chosen = kept(weights, dropout) if dropout else None
        out = torch.bmm(weights if chosen is None else weights * chosen, v)
    return out, Kept(q, k, v, weights, chosen)


def backward_pass(
    d_out: Tensor, saved: Kept, scale: float, into: Sequence[Tensor | None] = (None, None, None)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of q, k and v, written where one says, and of the scores."""
    q, k, v, weights, chosen = saved
    with quick_products(q):
        dv = torch.bmm((weights if chosen is None else weights * chosen).mT, d_out, out=into[2])
        d_weights = torch.bmm(d_out, v.mT)
        if chosen is not None:
            d_weights.mul_(chosen)
        # What softmax's own backward pass calls; here it writes over its input.
        d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype, grad_input=d_weights)  # pyright: ignore
        dq, dk = _scaled_product(d_scores, k, scale, into[0]), _scaled_product(d_scores.mT, q, scale, into[1])
    return dq, dk, dv, d_scores


class _Products(Function):
    """The equation and its gradients, with nothing kept but the weights (and which of them dropout kept)."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, added: Tensor | None, sizes: Any, scale: float, dropout: float
    ) -> Tensor:
        ctx.shapes = q.shape, k.shape
        ctx.sizes, ctx.scale, ctx.added_shape = sizes, scale, None if added is None else added.shape
        out, saved = forward_pass(*_folded(q, k, v), added, sizes, scale, dropout)
        ctx.save_for_backward(*saved)
        return out.view(ctx.shapes[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        saved, (q_shape, k_shape) = Kept(*ctx.saved_tensors), ctx.shapes
        dq, dk, dv, d_scores = backward_pass(d_out.reshape(saved.q.shape), saved, ctx.scale)
        d_added = d_scores.view(ctx.sizes).sum_to_size(ctx.added_shape) if ctx.needs_input_grad[3] else None
        return dq.view(q_shape), dk.view(k_shape), dv.view(k_shape), d_added, None, None, None
