"""Attention by PyTorch's FlexAttention: the mask and the bias compiled into one fused kernel (Dong et al. 2024).

The mask becomes a `BlockMask`, which leaves out whole blocks of hidden keys, whatever the pattern.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from glassformer.ops.attend_inputs import prepared
from glassformer.ops.mask import Mask

HALF_AND_SINGLE = (torch.float32, torch.bfloat16, torch.float16)


def flex(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b g s k"],
    v: Float[Tensor, "b g s k"],
    *,
    mask: Mask,
    score_bias: Float[Tensor, "#b #h #t s"] | None,
    scale: float,
    dropout: float,
) -> tuple[Float[Tensor, "b h t k"], None]:
    """softmax(scale · q kᵀ + bias) v, compiled at the first call for each pattern of sizes.

    Raises ValueError for dropout, for float64, and for gradients on a CPU: FlexAttention has none of these.
    """
    q, k, v = prepared(q, k, v, mask)
    _require_supported(q, k, v, score_bias, dropout)
    if not torch.is_grad_enabled():  # on a CPU it looks at requires_grad alone
        q, k, v = q.detach(), k.detach(), v.detach()
        score_bias = None if score_bias is None else score_bias.detach()
    block_mask = mask.keep(("flex", q.shape[:3], k.shape[2], q.device), lambda: _block_mask(mask, q, k))
    score_mod = None if score_bias is None else _score_mod(score_bias)
    grouped = q.shape[1] != k.shape[1]
    kernel = flex_attention if torch.compiler.is_compiling() else _compiled(q.device.type)
    return kernel(q, k, v, score_mod=score_mod, block_mask=block_mask, scale=scale, enable_gqa=grouped), None


def check_flex(device: torch.device, *, dropout: float, learns: bool) -> None:
    """Raise ValueError where the kernel cannot do what is asked of it there: dropout, gradients on a CPU."""
    if dropout:
        raise ValueError(f"the flex kernel has no dropout, and dropout={dropout}; use 'products', 'online' or 'sdpa'")
    if learns and device.type == "cpu":
        raise ValueError("the flex kernel has no gradients on a CPU; use 'auto', or call it under torch.no_grad()")


def _require_supported(q: Tensor, k: Tensor, v: Tensor, score_bias: Tensor | None, dropout: float) -> None:
    learns = any(x is not None and x.requires_grad for x in (q, k, v, score_bias))
    check_flex(q.device, dropout=dropout, learns=learns and torch.is_grad_enabled())
    if q.dtype not in HALF_AND_SINGLE:
        raise ValueError(f"the flex kernel takes float32, bfloat16 or float16, not {q.dtype}; use 'sdpa'")


@cache
def _compiled(device: str) -> Any:
    # The CPU's kernel for sizes that vary does not build in PyTorch 2.13: there, one is made for each pattern of sizes.
    return torch.compile(flex_attention, fullgraph=True, dynamic=False if device == "cpu" else None)


def _block_mask(mask: Mask, q: Tensor, k: Tensor) -> BlockMask | None:
    if not mask.terms:
        return None
    (b, h, t, _), s = q.shape, k.shape[2]

    # The queries are the last t of the s places.
    return create_block_mask(lambda b, h, q, k: mask.allows(b, h, q + (s - t), k), b, h, t, s, device=str(q.device))


def _score_mod(bias: Tensor) -> Any:
    rows, heads, queries, _ = bias.shape

    return lambda score, b, h, q, k: (
        score + bias[b if rows > 1 else 0, h if heads > 1 else 0, q if queries > 1 else 0, k]
    )
