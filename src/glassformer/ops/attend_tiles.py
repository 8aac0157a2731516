"""Attention without gradients for long sequences: the equation on one tile of scores at a time, by plain products.

    S = scale · q kᵀ + bias,   P = softmax(S),   out = P v        for some rows, heads and queries at a time

A tile has all the keys that its queries reach, so that a softmax is one pass over whole rows, and is small enough for
the cache that the cores share: the two products are then as fast as those of a layer. On an AVX-512 CPU the whole
takes 0.6 of PyTorch's fused kernel's time.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from glassformer.ops.attend_apart import apart
from glassformer.ops.attend_inputs import prepared
from glassformer.ops.attend_products import added_to_scores, additive, quick_products
from glassformer.ops.attend_sdpa import sdpa
from glassformer.ops.linear_onednn import asks_for_gradients
from glassformer.ops.mask import Mask

TILE = 12 << 20  # bytes of scores at a time: less than the cache that cores share
BLOCK = 256  # queries at a time, at most, where one does not reach all keys


@apart
def tiled(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b g s k"],
    v: Float[Tensor, "b g s k"],
    *,
    mask: Mask,
    score_bias: Float[Tensor, "#b #h #t s"] | None,
    scale: float,
    dropout: float,
) -> tuple[Float[Tensor, "b h t k"], None]:
    """softmax(scale · q kᵀ + bias) v in float32 at least: a score of 10 in bfloat16 is off by up to 0.03.

    Where a gradient is asked for, `sdpa` computes it.
    """
    if asks_for_gradients(q, k, v, score_bias):
        return sdpa(q, k, v, mask=mask, score_bias=score_bias, scale=scale, dropout=dropout)
    q, k, v = prepared(q, k, v, mask)
    wide = torch.promote_types(q.dtype, torch.float32)
    bias = None if score_bias is None else score_bias.detach()
    with torch.autocast(q.device.type, enabled=False):
        return _attend(q.to(wide), k.to(wide), v.to(wide), mask, bias, scale, dropout).to(q.dtype), None


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, score_bias: Tensor | None, scale: float, dropout: float
) -> Tensor:
    (b, h, t, width), (_, g, s, _) = q.shape, k.shape
    share, fit = h // g, TILE // q.element_size() if q.device.type == "cpu" else b * h * t * s
    near = mask.by_distance and score_bias is None  # then what is hidden is found for each tile alone
    added, blind = ((), None) if near else added_to_scores(mask, score_bias, t, s, q)
    blocks = _blocks(t, s, fit // (share * s), mask)
    each = share * max((query.stop - query.start) * len(seen) for query, seen in blocks)  # scores of a key head
    groups = _even(g, fit // each)
    rows = _even(b, fit // (each * groups)) if groups == g else 1
    scratch = q.new_empty(rows * groups * each)  # once: the system takes back large blocks that are freed
    out = q.new_empty(b, t, h, width).transpose(1, 2)  # as the projection that follows will read it
    with quick_products(q.movedim(2, 1)):
        for row, group in ((row, group) for row in _slices(b, rows) for group in _slices(g, groups)):
            heads = slice(group.start * share, group.stop * share)
            keys, values = (x[row, group].flatten(0, 1).contiguous() for x in (k, v))
            for query, seen in blocks:
                q_tile, where = q[row, heads, query], slice(seen.start, seen.stop)
                sizes = *q_tile.shape[:3], len(seen)
                scores = scratch[: len(keys) * share * q_tile.shape[2] * len(seen)].view(len(keys), -1, len(seen))
                x = q_tile.reshape(len(keys), -1, width)
                torch.baddbmm(q.new_empty(1, 1, 1), x, keys[:, where].mT, beta=0, alpha=scale, out=scores)
                if near:
                    _hide(scores.view(sizes), mask, s - t + query.start, seen, s)
                for what in added:
                    scores.view(sizes).add_(_part(what, row, heads, query, where))
                torch.softmax(scores, -1, out=scores)
                tile = torch.bmm(F.dropout(scores, dropout, inplace=True), values[:, where])
                out[row, heads, query] = tile.view(q_tile.shape)
    return out if blind is None else out.masked_fill_(blind, 0.0)


def _blocks(t: int, s: int, fit: int, mask: Mask) -> list[tuple[slice, range]]:
    """The queries in blocks of `fit` at most, each with the keys that it reaches."""
    before, most = s - t, fit
    reaches = [len(_seen(mask, range(place, place + 1), s)) for place in (before, s - 1)]  # of the first and the last
    if min(reaches) < s:  # small blocks ask for few keys that they do not see, large ones multiply faster
        most = min(fit, BLOCK if 2 * reaches[1] > s else BLOCK // 2)
    queries = _slices(t, _even(t, most))
    return [(query, _seen(mask, range(before + query.start, before + query.stop), s)) for query in queries]


def _seen(mask: Mask, queries: range, s: int) -> range:
    reach = mask.reach(queries, s)
    return range(reach.start, reach.stop)


def _even(count: int, most: int) -> int:
    """The size of the parts, `most` or less, into which a count falls evenly."""
    return -(-count // -(-count // max(1, most)))


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _part(added: Tensor, row: slice, heads: slice, queries: slice, keys: slice) -> Tensor:
    """What is added to a tile; a size of 1 serves all."""
    places = zip(added.shape, (row, heads, queries, keys), strict=True)
    return added[tuple(where if size > 1 else slice(None) for size, where in places)]


def _hide(scores: Tensor, mask: Mask, first: int, seen: range, s: int) -> None:
    """Put −∞ where a mask by distance hides one of the keys; the queries stand from place `first` on."""
    places = range(first, first + scores.shape[2])
    ends = mask.reach(places[:1], s), mask.reach(places[-1:], s)
    if max(end.start for end in ends) <= seen.start:  # the first keys are seen by all: no need to touch them
        seen = range(min(end.stop for end in ends), seen.stop)
    if seen:
        dtype, device = scores.dtype, scores.device
        key = ("hidden", first - seen.start, len(places), len(seen), device, dtype)

        def make() -> Tensor:
            visible = mask.tile(1, 1, places, seen, device)
            assert visible is not None  # a mask without terms hides nothing
            return additive(visible, dtype)

        scores[..., -len(seen) :].add_(mask.keep(key, make))
