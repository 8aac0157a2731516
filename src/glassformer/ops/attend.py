"""Scaled dot-product attention: one meaning, several kernels.

    out = softmax(scale · q kᵀ + bias, over the visible keys) v            (Vaswani et al. 2017, equation 1)

Shape letters: b batch, h heads, g key/value heads (h is a multiple of g), t queries, s keys, k head width.
A query that sees no key has weights 0 and output 0, with gradients 0, in every kernel.

    reference   the equation, weights returned; in float32 at least
    products    two batched products and a softmax, the weights kept for the backward pass
    tiled       the same for a tile of scores at a time; sdpa where gradients are asked for
    sdpa        PyTorch's fused kernel
    online      tile by tile, the weights never formed: FlashAttention written plainly; in float32 at least
    windowed    a block of queries at a time against the keys that its window reaches, each block by `sdpa`
    flex        PyTorch's compiler makes a kernel for the mask; on a CPU without gradients
    auto        `products` where that is the fastest, else `tiled` without gradients; with them `windowed` where a
                window leaves out most keys, else `sdpa`
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from glassformer.ops.attend_apart import apart
from glassformer.ops.attend_flex import flex
from glassformer.ops.attend_inputs import prepared
from glassformer.ops.attend_online import online
from glassformer.ops.attend_products import products
from glassformer.ops.attend_sdpa import sdpa
from glassformer.ops.attend_tiles import tiled
from glassformer.ops.attend_window import BLOCK, windowed
from glassformer.ops.linear_onednn import asks_for_gradients, traced
from glassformer.ops.mask import Mask, Window

QUICK = (torch.float32, torch.bfloat16)  # what a CPU multiplies fast


class AttendKernel(Protocol):
    """What every attention kernel takes and gives; the weights are None where it never forms them.

    Raises ValueError where the sizes of q, k, v or the mask do not fit, or for what the kernel cannot do.
    """

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
    q, k, v = prepared(q, k, v, mask)
    dtype, group = q.dtype, q.shape[1] // k.shape[1]
    device = "cpu" if q.is_meta else q.device.type  # autocast knows no meta tensors
    with torch.autocast(device, enabled=False):
        q, k, v = (x.to(torch.promote_types(dtype, torch.float32)) for x in (q, k, v))
        k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
        scores = torch.einsum("bhtk,bhsk->bhts", q, k) * scale
        if score_bias is not None:
            scores = scores + score_bias
        visible = mask.visible(q.shape[2], k.shape[2], q.device)
        if visible is not None:
            scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        if visible is not None:
            weights = weights.masked_fill(~visible, 0.0)  # a row with nothing visible came out uniform
        out = torch.einsum("bhts,bhsk->bhtk", F.dropout(weights, dropout).to(v.dtype), v)
    return out.to(dtype), weights.to(dtype)


@apart
def auto(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b g s k"],
    v: Float[Tensor, "b g s k"],
    *,
    mask: Mask,
    score_bias: Float[Tensor, "#b #h #t s"] | None,
    scale: float,
    dropout: float,
) -> tuple[Float[Tensor, "b h t k"], None]:
    """On a CPU `products` where the weights of one head take 512 KB at most, else `tiled` without gradients.

    `windowed` on a CPU, with gradients or for one query, where more than that would be formed and a block of queries
    reaches half of the keys at most. `sdpa` elsewhere, for a single query, and what the former do slowly: float64
    without gradients, float16, graphs that are compiled.

    With gradients, longer sequences go to `products` too where `sdpa` on a CPU would form the weights itself, and
    slower: with dropout, and for the gradient of a bias. The choice depends on nothing but the arguments.

    Measured on an AVX-512 CPU with oneDNN's products, the kernel alone, over the time of `sdpa`. Forward and backward,
    `products`: in float32 0.6 at 128 and at 256 tokens, 0.85 at 512, 1.1 at 1024; in bfloat16 0.2, 0.3, 0.4 and 0.9;
    with dropout 0.4 to 0.7 at every length. Forward, `tiled`: 0.6, and 0.65 under a causal mask.
    """
    forms_weights = dropout > 0 or (score_bias is not None and score_bias.requires_grad and torch.is_grad_enabled())
    learns = asks_for_gradients(q, k, v, score_bias)
    kernel = _quickest(q.shape[2], k.shape[2], q.device, q.dtype, mask, learns, forms_weights)
    return kernel(q, k, v, mask=mask, score_bias=score_bias, scale=scale, dropout=dropout)  # pyright: ignore


def learns_by_products(
    kernel: AttendKernel, t: int, s: int, device: torch.device, dtype: torch.dtype, mask: Mask, dropout: float
) -> bool:
    """Whether a kernel computes attention that is to learn, a bias aside, by `products`, and of whole rows."""
    if kernel is auto:
        kernel = _quickest(t, s, device, dtype, mask, True, dropout > 0)
    return kernel is products and mask.apart(t, s) is None


def _quickest(
    t: int, s: int, device: torch.device, dtype: torch.dtype, mask: Mask, learns: bool, forms_weights: bool
) -> AttendKernel:
    """The choice of `auto`."""
    small = t > 1 and dtype != torch.float16 and t * s * dtype.itemsize <= 512 * 1024
    if device.type != "cpu":
        return sdpa
    if t > 1 and dtype in QUICK and not traced() and not learns:
        return products if small else tiled
    if not small and is_narrow(mask, t, s):
        return windowed
    return products if small or forms_weights else sdpa


def is_narrow(mask: Mask, t: int, s: int) -> bool:
    """Whether the last block of queries, and so each, reaches half of the keys at most."""
    if torch.compiler.is_compiling() or t > s or not any(isinstance(term, Window) for term in mask.terms):
        return False  # a compiled graph would have a copy of itself for each block
    seen = mask.reach(slice(s - min(t, BLOCK), s), s)
    return 2 * (seen.stop - seen.start) <= s


ATTEND: dict[str, AttendKernel] = {
    "auto": auto, "reference": reference, "products": products, "sdpa": sdpa, "online": online,
    "windowed": windowed, "tiled": tiled, "flex": flex,
}  # fmt: skip
