"""Attention under a window, in blocks of queries: each block meets the keys that its window reaches, and no others.

    out[i] = softmax(scale · q_i · k_j + bias, over the visible j with |i − j| < w) v_j  (Beltagy et al. 2020, 3.1)

The full matrix of n places has n² scores. B queries reach B + 2 (w − 1) keys at most, so n (B + 2w) scores are asked
for in all, a block's at a time.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.ops.attend_apart import apart
from glassformer.ops.attend_inputs import prepared
from glassformer.ops.attend_sdpa import sdpa
from glassformer.ops.mask import Mask

BLOCK = 128  # queries at a time


@apart
def windowed(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b g s k"],
    v: Float[Tensor, "b g s k"],
    *,
    mask: Mask,
    score_bias: Float[Tensor, "#b #h #t s"] | None,
    scale: float,
    dropout: float,
) -> tuple[Float[Tensor, "b h t k"], None]:
    """softmax(scale · q kᵀ + bias) v, each block of queries by `sdpa` over the keys within reach.

    Right for every mask, of use for those with a window or an order: without either all keys are within reach.
    """
    q, k, v = prepared(q, k, v, mask)
    t, s = q.shape[2], k.shape[2]
    keys, values = _parts_of(k), _parts_of(v)
    biases = score_bias.split(BLOCK, dim=2) if score_bias is not None and score_bias.shape[2] > 1 else None
    outs = []
    for i, block in enumerate(q.split(BLOCK, dim=2)):
        # The queries are the last t of the s places. Slices, not ranges, which would make plain numbers of lengths
        # that `generation/length.py` follows.
        places = slice(s - t + i * BLOCK, s - t + i * BLOCK + block.shape[2])
        seen = mask.reach(places, s)
        bias = score_bias if biases is None else biases[i]
        bias = None if bias is None else bias[..., seen]
        options = {"mask": _tile(mask, block, places, seen), "score_bias": bias, "scale": scale, "dropout": dropout}
        outs.append(sdpa(block, keys(seen), values(seen), **options)[0])
    return torch.cat(outs, dim=2), None


def _tile(mask: Mask, q: Tensor, places: slice, seen: slice) -> Mask:
    """The mask between a block of queries and the keys within its reach; made once for all blocks that are alike."""
    if not mask.terms or (q.shape[2] == 1 and mask.by_distance):
        return Mask()  # one query sees all that it can reach
    where = places.start - seen.start if mask.by_distance else places.start
    key = ("tile", where, q.shape[2], seen.stop - seen.start, q.device)

    def make() -> Mask:
        visible = mask.tile(q.shape[0], q.shape[1], places, seen, q.device)
        return Mask.dense(visible) if visible is not None else Mask()

    return mask.keep(key, make)


def _parts_of(x: Float[Tensor, "b g s k"]) -> Callable[[slice], Float[Tensor, "b g part k"]]:
    """A function that gives the places of a slice.

    The gradient of a plain slice is as large as all of x, for each block anew. That of `split` is formed once, and
    what is joined from its pieces has gradients of the size of a block.
    """
    if not (x.requires_grad and torch.is_grad_enabled()):
        return lambda places: x[:, :, places]
    pieces = x.split(BLOCK, dim=2)

    def joined(places: slice) -> Tensor:
        first, last = places.start // BLOCK, (places.stop - 1) // BLOCK
        start = places.start - first * BLOCK
        return torch.cat(pieces[first : last + 1], dim=2)[:, :, start : start + places.stop - places.start]

    return joined
