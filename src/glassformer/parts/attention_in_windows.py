"""Attention of each window of a grid to itself (Liu et al. 2021, section 3.2), with nothing moved twice."""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.ops.linear_onednn import traced
from glassformer.ops.mask import Mask
from glassformer.parts.attention import Attention
from glassformer.parts.linear import listened, together
from glassformer.parts.windows import Windows


def attend_in_windows(
    attention: Attention,
    x: Float[Tensor, "b y x d"],
    windows: Windows,
    mask: Mask,
    score_bias: Float[Tensor, "#bw #h t t"] | None,
) -> Float[Tensor, "b y x d"]:
    """windows.join(attention(windows.split(x))), for as many key heads as query heads.

    On a CPU, without gradients and where nobody listens, the grid itself is projected: its places go to their windows
    as heads of queries, keys and values, in one step instead of seven, and the zeros that fill the grid up, which are
    all alike, are projected once.
    """
    if not _gathers(attention, x):
        return windows.join(attention(windows.split(x), mask=mask, score_bias=score_bias))
    places, width = x.flatten(0, 2), attention.head_dim
    if windows.filled:
        places = F.pad(places, (0, 0, 1, 0))
    projected = together((attention.query, attention.key, attention.value), places)
    heads = projected[0].shape[-1] // width
    there, back = _ways(windows, len(x), heads, x.device)
    moved = _beside(projected).view(-1, width).index_select(0, there)
    q, k, v = moved.view(3, -1, heads, windows.size**2, width)
    q, k = attention.query_norm(q), attention.key_norm(k)
    out, _ = attention.kernel(q, k, v, mask=mask, score_bias=score_bias, scale=attention.scale, dropout=0.0)
    return attention.output(out.reshape(-1, width).index_select(0, back).view(*x.shape[:3], -1))


def _gathers(attention: nn.Module, x: Tensor) -> bool:
    if torch.is_grad_enabled() or attention.training or not x.is_cpu or traced():
        return False
    return type(attention) is Attention and not any(listened(part) for part in attention.modules())


@lru_cache(maxsize=32)
def _ways(windows: Windows, batch: int, heads: int, device: torch.device) -> tuple[Int[Tensor, "_"], Int[Tensor, "_"]]:
    """Where the heads' vectors come from: (3, windows, h, t) of q, k, v from (places, 3, h); and the way back."""
    with torch.inference_mode(False):
        head, number, area = torch.arange(heads, device=device), windows.rows * windows.columns, windows.size**2
        # (windows, t), the places counted from 1: those that fill the grid up are 0
        place = torch.arange(1, batch * number + 1, device=device).view(batch, windows.rows, windows.columns, 1)
        place = windows.split(place.double())[..., 0].long()
        first = place if windows.filled else place - 1
        of = torch.arange(3, device=device)[:, None, None, None]
        there = (first[:, None, :] * 3 + of) * heads + head[:, None]
        seat = torch.empty(batch * number + 1, dtype=torch.long, device=device)
        seat[place.flatten()] = torch.arange(place.numel(), device=device)
        window, within = seat[1:, None] // area, seat[1:, None] % area
        back = (window * heads + head) * area + within
        return there.flatten().int(), back.flatten().int()


def _beside(parts: Sequence[Float[Tensor, "n d"]]) -> Float[Tensor, "n dd"]:
    """The columns of all, beside each other: not moved where that is how they lie."""
    first, width = parts[0], parts[0].shape[1]
    for i, part in enumerate(parts):
        same = part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        lies = part.storage_offset() - first.storage_offset() == i * width
        if not same or not lies or part.stride() != (len(parts) * width, 1):
            return torch.cat(list(parts), dim=1)
    return first.as_strided((len(first), len(parts) * width), (len(parts) * width, 1))
