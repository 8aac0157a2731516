"""Attention by PyTorch's fused kernel, `scaled_dot_product_attention`."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from glassformer.ops.attend_apart import apart
from glassformer.ops.attend_inputs import prepared
from glassformer.ops.mask import Mask


@apart
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
    q, k, v = prepared(q, k, v, mask)
    (_, h, t, _), (_, g, s, _) = q.shape, k.shape
    dtype = q.dtype
    if t == 1 and h == g and dtype.itemsize == 2 and q.device.type == "cpu":
        # For a single query the CPU's kernel takes 4 to 7 times as long in half precision as in float32.
        q, k, v = q.float(), k.float(), v.float()
    # is_causal aligns the first query with the first key, which is wrong after a cache: there t < s.
    is_causal = bool(mask.is_causal and score_bias is None and 1 < t == s)
    added, blind = (None, None) if is_causal else mask.opened(t, s, q.device)
    if score_bias is not None:
        bias = score_bias.to(q.dtype)
        added = bias if added is None else bias.masked_fill(~added, -torch.inf)
    if t == 1 and h > g:  # one query: the heads that share a key head are as good as more queries, and quicker so
        added = None if added is None else added.expand(-1, h, -1, -1).reshape(-1, g, h // g, s)
        out = F.scaled_dot_product_attention(q.reshape(-1, g, h // g, q.shape[-1]), k, v, added, dropout, scale=scale)
        out = out.reshape(q.shape)
    else:
        out = F.scaled_dot_product_attention(q, k, v, added, dropout, is_causal, scale=scale, enable_gqa=h > g)
    return (out if blind is None else out.masked_fill(blind, 0.0)).to(dtype), None
