"""FlashAttention written plainly: attention tile by tile, never forming the t × s matrix of weights.

Softmax over a row can be accumulated as its scores come in (Milakov & Gimelshein 2018). Hold, for each query, the
largest score so far m, the sum of exponentials l relative to it, and the sum of values o weighted by them. A new tile
of scores S with a larger maximum m' shrinks what is held by exp(m − m'):

    m' = max(m, rowmax S)     P = exp(S − m')
    l' = exp(m − m') l + rowsum P     o' = exp(m − m') o + P V           out = o / l at the end

(Dao et al. 2022, algorithm 1, with the queries outermost as in Dao 2023, algorithm 1.) The backward pass keeps only
out and L = m + log l, from which each tile of weights comes back as P = exp(S − L) (Dao et al. 2022, algorithm 4):

    D = rowsum(dO ∘ O)     dV += Pᵀ dO     dP = dO Vᵀ     dS = P ∘ (dP − D)     dQ += scale dS K     dK += scale dSᵀ Q

Memory is of the size of q, k, v and out. Tiles that the mask hides by place alone (causal, window) are skipped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from glassformer.ops.attend_apart import apart
from glassformer.ops.attend_inputs import prepared
from glassformer.ops.mask import Mask

TILE = 128  # places on each side of a tile: its scores, 64 KB per head in float32, stay in a core's own cache


@apart
def online(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b g s k"],
    v: Float[Tensor, "b g s k"],
    *,
    mask: Mask,
    score_bias: Float[Tensor, "#b #h #t s"] | None,
    scale: float,
    dropout: float,
) -> tuple[Float[Tensor, "b h t k"], None]:
    """softmax(scale · q kᵀ + bias) v in float32 at least. Gradients of gradients are not defined."""
    q, k, v = prepared(q, k, v, mask)
    with torch.autocast(q.device.type, enabled=False):  # sums over many tiles want the wider dtype
        wide = torch.promote_types(q.dtype, torch.float32)
        seed = int(torch.randint(2**62, ())) if dropout else 0
        tiles = _Tiles(mask, scale, dropout, seed)
        return _Online.apply(q.to(wide), k.to(wide), v.to(wide), score_bias, tiles).to(q.dtype), None


@dataclass(frozen=True)
class _Tiles:
    """The tiles of one call: which there are, and the scores and dropout of each."""

    mask: Mask
    scale: float
    dropout: float
    seed: int

    def pairs(self, t: int, s: int) -> Iterator[tuple[slice, list[slice]]]:
        """Each run of queries, with the runs of keys that it may see."""
        keys = _runs(s)
        for rows in _runs(t):
            places = range(s - t + rows.start, s - t + rows.stop)  # queries are the last t of the s places
            yield rows, [columns for columns in keys if not self.mask.hides(places, range(columns.start, columns.stop))]

    def scores(self, q: Tensor, k: Tensor, bias: Tensor | None, rows: slice, columns: slice) -> Tensor:
        """scale · q kᵀ + bias for one tile (b, h, rows, columns), −∞ where a key is hidden."""
        b, h, t, _ = q.shape
        before = k.shape[2] - t
        scores = _shared(q[:, :, rows], k[:, :, columns].mT).mul_(self.scale)
        if bias is not None:
            scores += bias[_tile_of(bias, rows, columns)]
        places = range(before + rows.start, before + rows.stop), range(columns.start, columns.stop)
        visible = self.mask.tile(b, h, *places, q.device)
        return scores if visible is None else scores.masked_fill_(~visible, -torch.inf)

    def kept(self, weights: Tensor, rows: slice, columns: slice) -> Tensor:
        """1 / (1 − dropout) where a weight is kept, else 0: drawn anew, and the same, in the backward pass."""
        generator = torch.Generator(weights.device).manual_seed(hash((self.seed, rows.start, columns.start)))
        return torch.empty_like(weights).bernoulli_(1 - self.dropout, generator=generator).div_(1 - self.dropout)


class _Online(Function):
    """The two algorithms of the module's docstring."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tiles: _Tiles) -> Tensor:
        out, log_sum = torch.zeros_like(q), q.new_full((*q.shape[:3], 1), torch.inf)
        for rows, seen in tiles.pairs(q.shape[2], k.shape[2]):
            largest = torch.full_like(log_sum[:, :, rows], -torch.inf)
            total, held = torch.zeros_like(largest), torch.zeros_like(q[:, :, rows])
            for columns in seen:
                scores = tiles.scores(q, k, bias, rows, columns)
                before, largest = largest, torch.maximum(largest, scores.amax(-1, keepdim=True))
                base = largest.masked_fill(largest == -torch.inf, 0.0)  # nothing seen yet: avoid −∞ + ∞
                weights, shrink = (scores - base).exp_(), (before - base).exp_()
                total = shrink * total + weights.sum(-1, keepdim=True)
                if tiles.dropout:
                    weights = weights * tiles.kept(weights, rows, columns)
                held = shrink * held + _shared(weights, v[:, :, columns])
            blind = total == 0  # sees no key: out stays 0, and L = ∞ makes its weights exp(S − ∞) = 0
            out[:, :, rows] = (held / total).masked_fill_(blind, 0.0)
            log_sum[:, :, rows] = (largest + total.log()).masked_fill_(blind, torch.inf)
        ctx.save_for_backward(q, k, v, bias, out, log_sum)
        ctx.tiles = tiles
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, bias, out, log_sum = ctx.saved_tensors
        tiles: _Tiles = ctx.tiles
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        d_bias = torch.zeros_like(bias, dtype=q.dtype) if ctx.needs_input_grad[3] else None
        drop = (d_out * out).sum(-1, keepdim=True)
        g = k.shape[1]
        for rows, seen in tiles.pairs(q.shape[2], k.shape[2]):
            q_tile, d_tile = q[:, :, rows], d_out[:, :, rows]
            for columns in seen:
                weights = (tiles.scores(q, k, bias, rows, columns) - log_sum[:, :, rows]).exp_()
                d_weights = _shared(d_tile, v[:, :, columns].mT)
                passed = weights
                if tiles.dropout:
                    kept = tiles.kept(weights, rows, columns)
                    passed, d_weights = weights * kept, d_weights * kept
                d_scores = weights * (d_weights - drop[:, :, rows])
                dv[:, :, columns] += _folded(passed, g).mT @ _folded(d_tile, g)
                dk[:, :, columns] += _folded(d_scores, g).mT @ _folded(q_tile, g) * tiles.scale
                dq[:, :, rows] += _shared(d_scores, k[:, :, columns]) * tiles.scale
                if d_bias is not None:
                    tile = _tile_of(d_bias, rows, columns)
                    d_bias[tile] += d_scores.sum_to_size(d_bias[tile].shape)
        return dq, dk, dv, d_bias, None


def _runs(length: int) -> list[slice]:
    return [slice(start, min(start + TILE, length)) for start in range(0, length, TILE)]


def _tile_of(bias: Tensor, rows: slice, columns: slice) -> tuple[slice, ...]:
    """Where the tile stands in a bias, which may be the same for all queries."""
    return slice(None), slice(None), rows if bias.shape[2] > 1 else slice(None), columns


def _folded(x: Float[Tensor, "b h n m"], g: int) -> Float[Tensor, "b g rn m"]:
    """The query heads that share a key head, laid behind one another as more queries."""
    return x.reshape(x.shape[0], g, -1, x.shape[-1])


def _shared(x: Float[Tensor, "b h n m"], y: Float[Tensor, "b g m p"]) -> Float[Tensor, "b h n p"]:
    """x @ y, where each of y's heads serves h / g of x's."""
    return (_folded(x, y.shape[1]) @ y).view(*x.shape[:3], y.shape[-1])
