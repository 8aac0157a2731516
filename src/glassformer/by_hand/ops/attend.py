"""Scaled dot-product attention (Vaswani et al. 2017, equation 1), forward and backward.

out = W v,   W = softmax(S),   S = scale · q kᵀ,   over the visible keys

q (b, h, t, k);  k, v (b, g, s, k);  W (b, h, t, s), with h a multiple of g: each key head serves h/g query heads
"""

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.ops.mask import Mask


def softmax(scores: Array, visible: Array | None = None) -> Array:
    """exp(S) / Σ exp(S) over the last axis, computed in the memory of `scores`.

    Less each row's maximum, which cancels and keeps exp from overflowing. A row that sees nothing becomes 0.
    """
    if visible is None:
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(-1, keepdims=True)
        return scores
    np.copyto(scores, -np.inf, where=~visible)
    top = scores.max(-1, keepdims=True)
    top[top == -np.inf] = 0
    scores -= top
    np.exp(scores, out=scores)
    total = scores.sum(-1, keepdims=True)
    total[total == 0] = 1
    scores /= total
    return scores


def softmax_backward(d_weights: Array, weights: Array) -> Array:
    """dS = W · (dW − Σ dW · W), from ∂W_i/∂S_j = W_i (δ_ij − W_j); computed in the memory of `d_weights`."""
    d_weights -= np.vecdot(d_weights, weights)[..., None]
    d_weights *= weights
    return d_weights


def attend(
    q: Array, k: Array, v: Array, *, mask: Mask, scale: float, bias: Array | None = None, keep: Array | None = None
) -> tuple[Array, Array]:
    """`out` and the weights.

    `bias` (#b, #h, #t, s) is added to the scores. `keep` (b, h, t, s) is dropout: 0 for a dropped weight, 1/(1 − p)
    for a kept one.
    """
    group = q.shape[1] // k.shape[1]
    scores = _by_head(_by_key_head(q, group) * scale @ _transposed(k[:, :, None]))
    if bias is not None:
        scores += bias
    weights = softmax(scores, mask.visible(q.shape[2], k.shape[2]))
    dropped = weights if keep is None else weights * keep
    return _by_head(_by_key_head(dropped, group) @ v[:, :, None]), weights


def attend_backward(
    d_out: Array, q: Array, k: Array, v: Array, weights: Array, *, scale: float, keep: Array | None = None
) -> tuple[Array, Array, Array, Array]:
    """The gradients of q, k, v and of the scores, which is that of a bias:

        dv = Wᵀ dout      dW = dout vᵀ      dS = softmax_backward(dW)      dq = scale · dS k      dk = scale · dSᵀ q

    A key head gathers the gradients of all the query heads that it serves.
    """
    group = q.shape[1] // k.shape[1]
    d_out, q = _by_key_head(d_out, group), _by_key_head(q, group) * scale
    k, v = k[:, :, None], v[:, :, None]
    dropped = weights if keep is None else weights * keep
    dv = _transposed(_by_key_head(dropped, group)) @ d_out
    d_weights = _by_head(d_out @ _transposed(v))
    if keep is not None:
        d_weights *= keep
    d_scores = _by_key_head(softmax_backward(d_weights, weights), group)
    dq, dk = d_scores @ k, _transposed(d_scores) @ q
    dq *= scale
    return _by_head(dq), dk.sum(2), dv.sum(2), _by_head(d_scores)


def _by_key_head(x: Array, group: int) -> Array:
    """(b, h, ...) as (b, g, h/g, ...)."""
    return x.reshape(x.shape[0], -1, group, *x.shape[2:])


def _by_head(x: Array) -> Array:
    """(b, g, h/g, ...) as (b, h, ...)."""
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def _transposed(x: Array) -> Array:
    return x.swapaxes(-1, -2)
