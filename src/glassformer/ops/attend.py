"""Scaled dot-product attention: one meaning, several kernels.

    out = softmax(scale · q kᵀ + bias, over the visible keys) v            (Vaswani et al. 2017, equation 1)

Shape letters: b batch, h heads, g key/value heads (h is a multiple of g), t queries, s keys, k head width.
A query that sees no key has weights 0 and output 0, with gradients 0, in every kernel.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from glassformer.ops.mask import Mask


class AttendKernel(Protocol):
    """What every attention kernel takes and gives; the weights are None where it never forms them."""

    def __call__(
        self,
        q: Float[Tensor, "b h t k"],
        k: Float[Tensor, "b g s k"],
        v: Float[Tensor, "b g s k"],
        *,
        mask: Mask,
        score_bias: Float[Tensor, "#b #h #t s"] | None,
        scale: float,
        dropout: float,
    ) -> tuple[Float[Tensor, "b h t k"], Float[Tensor, "b h t s"] | None]: ...


def reference(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b g s k"],
    v: Float[Tensor, "b g s k"],
    *,
    mask: Mask,
    score_bias: Float[Tensor, "#b #h #t s"] | None,
    scale: float,
    dropout: float,
) -> tuple[Float[Tensor, "b h t k"], Float[Tensor, "b h t s"]]:
    """The equation, weights and all; every other kernel is held equal to it."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = torch.einsum("bhtk,bhsk->bhts", q, k) * scale
    if score_bias is not None:
        scores = scores + score_bias
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    visible = mask.visible(q.shape[2], k.shape[2], q.device)
    if visible is not None:
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    if visible is not None:
        weights = weights.masked_fill(~visible, 0.0)  # a row with nothing visible came out uniform
    weights = weights.to(q.dtype)
    return torch.einsum("bhts,bhsk->bhtk", F.dropout(weights, dropout), v), weights


def sdpa(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b g s k"],
    v: Float[Tensor, "b g s k"],
    *,
    mask: Mask,
    score_bias: Float[Tensor, "#b #h #t s"] | None,
    scale: float,
    dropout: float,
) -> tuple[Float[Tensor, "b h t k"], None]:
    """PyTorch's fused kernel; a mask that is only causal takes its `is_causal` path."""
    t, s = q.shape[2], k.shape[2]
    # is_causal aligns the first query with the first key, which is wrong after a cache: there t < s.
    is_causal = mask.is_causal and score_bias is None and t == s
    visible = None if is_causal else mask.visible(t, s, q.device)
    added = visible
    if score_bias is not None:
        added = score_bias if visible is None else score_bias.masked_fill(~visible, torch.finfo(score_bias.dtype).min)
    grouped = q.shape[1] != k.shape[1]
    out = F.scaled_dot_product_attention(q, k, v, added, dropout, is_causal, scale=scale, enable_gqa=grouped)
    if visible is not None and mask.may_hide_all:
        out = out.masked_fill(~visible.any(-1, keepdim=True), 0.0)
    return out, None


ATTEND: dict[str, AttendKernel] = {"reference": reference, "sdpa": sdpa}
