"""Multi-head attention (Vaswani et al. 2017, section 3.2), grouped or not, self or cross."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.ops.attend import AttendKernel, auto, learns_by_products
from glassformer.ops.linear_onednn import traced
from glassformer.ops.mask import Mask
from glassformer.ops.sublayers import self_attention
from glassformer.parts.cache import LayerCache
from glassformer.parts.linear import Linear, learning, passes, together


class Attention(nn.Module):
    """softmax(scale · Q Kᵀ + bias) V per head, then an output projection.

    Quantities are arguments of the constructor; behaviours are objects handed in: norms of queries and keys here, the
    mask, score bias, rotation and cache at the call. `num_kv_heads` below `num_heads` gives grouped-query attention
    (Ainslie et al. 2023), 1 gives multi-query attention (Shazeer 2019). `biased` names the projections with a bias.
    Raises ValueError for sizes that do not divide one another, letters outside "qkvo", a dropout outside [0, 1).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        context_dim: int | None = None,
        biased: str = "qkvo",
        query_norm: nn.Module | None = None,
        key_norm: nn.Module | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
        kernel: AttendKernel = auto,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or (head_dim is None and dim % num_heads):
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}; choose a divisor or give head_dim")
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}; each key head serves "
                             f"the same number of query heads")  # fmt: skip
        if not set(biased) <= set("qkvo"):
            raise ValueError(f"biased={biased!r} names no projection; its letters are those of 'qkvo'")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is no share of the weights to drop; expected 0 or more, and below 1")
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        self.scale = self.head_dim**-0.5 if scale is None else scale
        self.dropout, self.kernel = dropout, kernel
        q_dim, kv_dim = num_heads * self.head_dim, num_kv_heads * self.head_dim
        self.context_dim = context_dim = dim if context_dim is None else context_dim
        self.query = Linear(dim, q_dim, bias="q" in biased)
        self.key = Linear(context_dim, kv_dim, bias="k" in biased)
        self.value = Linear(context_dim, kv_dim, bias="v" in biased)
        self.output = Linear(q_dim, dim, bias="o" in biased)
        self.query_norm = query_norm or nn.Identity()
        self.key_norm = key_norm or nn.Identity()
        self.weights = nn.Identity()  # a tap: hook it to see the attention pattern

    def forward(
        self,
        query: Float[Tensor, "b t d"],
        key: Float[Tensor, "r s c"] | None = None,
        value: Float[Tensor, "r s c"] | None = None,
        *,
        mask: Mask = Mask(),
        score_bias: Float[Tensor, "#b #h t s"] | None = None,
        rotate: Callable[[Tensor], Tensor] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Attend from `query` to `key` (default: itself), reading `value` (default: `key`).

        A cache is told what `query` brings, and gives back all that it holds. Of a `key` that is given it keeps the
        keys and values of the first call. Where `key` has fewer rows than `query`, each serves as many in turn: the
        beams of one source share it.

        Raises ValueError for a value without a key, a context of another width, and a mask or cache that does not fit.
        """
        if value is not None and key is None:
            raise ValueError("a value is given without a key; give both, or the key alone")
        if key is None and rotate is None and cache is None:
            out = self._learned_as_one(query, mask, score_bias)
            if out is not None:
                return out
        if key is None:
            q, k, v = together((self.query, self.key, self.value), query)
            q, k, v = self.query_norm(self._split(q)), self.key_norm(self._split(k)), self._split(v)
            if rotate is not None:
                q, k = rotate(q), rotate(k)
            dtype = q.dtype
            if cache is not None:
                if q.shape[1:3] == (k.shape[1], 1) and _is_widened(q):
                    q, k, v = q.float(), k.float(), v.float()
                k, v = cache.append(k, v)
        else:
            q = self.query_norm(self._split(self.query(query)))
            q, dtype = q if rotate is None else rotate(q), q.dtype
            if cache is not None and q.shape[2] == 1 and _is_widened(q):
                q = q.float()
            make = partial(self._context, key, value, rotate, q.dtype)
            k, v = make() if cache is None else cache.remember(key, make)
            if k.dtype is not q.dtype:  # kept when there were more queries than one
                k, v = k.to(q.dtype), v.to(q.dtype)
        shared = 1 if key is None else query.shape[0] // key.shape[0]
        if shared > 1:
            _check_shared(mask, score_bias, q.shape[0], k.shape[0])
            q = rearrange(q, "(r n) h t k -> r h (n t) k", n=shared)
        dropout = self._dropped()
        out, weights = self.kernel(q, k, v, mask=mask, score_bias=score_bias, scale=self.scale, dropout=dropout)
        if shared > 1:
            out = rearrange(out, "r h (n t) k -> (r n) h t k", n=shared)
            weights = None if weights is None else rearrange(weights, "r h (n t) s -> (r n) h t s", n=shared)
        if weights is not None:
            self.weights(weights)
        out = out if out.dtype is dtype else out.to(dtype)
        return self.output(out.transpose(1, 2).flatten(-2))

    def _dropped(self) -> float:
        return self.dropout if self.training else 0.0

    def _learned_as_one(
        self, x: Float[Tensor, "b t d"], mask: Mask, score_bias: Float[Tensor, "#b #h t t"] | None
    ) -> Float[Tensor, "b t d"] | None:
        """Self-attention as one step of autograd, where it is by `products` with nothing between; else None."""
        parts = self._modules
        found = learning([parts[name] for name in ("query", "key", "value", "output")], x)  # pyright: ignore
        if found is None or (score_bias is not None and score_bias.requires_grad):
            return None
        dtype, layers = found
        if layers[0].weight.shape != layers[1].weight.shape:
            return None
        if not passes(*(parts[name] for name in ("query_norm", "key_norm", "weights"))):  # pyright: ignore
            return None
        t, dropout = x.shape[1], self._dropped()
        if not learns_by_products(self.kernel, t, t, x.device, dtype, mask, dropout):
            return None
        return self_attention(
            x, layers, self.head_dim, mask=mask, score_bias=score_bias, scale=self.scale, dropout=dropout, dtype=dtype
        )

    def _context(
        self, key: Tensor, value: Tensor | None, rotate: Callable[[Tensor], Tensor] | None, dtype: torch.dtype
    ) -> Any:
        """The keys and values (r, g, s, k) of what is attended to."""
        if key.shape[-1] != self.context_dim:
            raise ValueError(f"what is attended to has {key.shape[-1]} features; keys are made of {self.context_dim}")
        if value is None:
            k, v = together((self.key, self.value), key)
        else:
            k, v = self.key(key), self.value(value)
        k = self.key_norm(self._split(k))
        return (k if rotate is None else rotate(k)).to(dtype), self._split(v).to(dtype)

    def _split(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b h t k"]:
        return x.view(*x.shape[:-1], -1, self.head_dim).transpose(1, 2)


def _is_widened(q: Tensor) -> bool:
    """Whether one token's attention computes in float32 (see `ops/attend_sdpa.py`).

    A cache that is given float32 keeps float32: else all that it holds would be converted again at each step.
    """
    return q.dtype.itemsize == 2 and q.is_cpu and not traced() and not torch.is_autocast_enabled("cpu")


def _check_shared(mask: Mask, score_bias: Tensor | None, rows: int, contexts: int) -> None:
    """Rows that share a context become queries of one row: their places among the keys are lost."""
    if rows % contexts or score_bias is not None or any(term.orders for term in mask.terms):
        raise ValueError(
            f"{rows} rows of queries meet {contexts} of keys; to share them the one must be a multiple of the other, "
            "and neither a score bias nor a mask may depend on where a query stands"
        )


def CrossAttention(dim: int, context_dim: int, num_heads: int, **options: Any) -> Attention:
    """An `Attention` whose keys and values come from a context `context_dim` wide: `attention(x, context)`.

    The options, and the errors, are those of `Attention`.
    """
    return Attention(dim, num_heads, context_dim=context_dim, **options)


def MultiQueryAttention(dim: int, num_heads: int, **options: Any) -> Attention:
    """An `Attention` with one key head, which all query heads share (Shazeer 2019)."""
    return GroupedQueryAttention(dim, num_heads, 1, **options)


def GroupedQueryAttention(dim: int, num_heads: int, num_kv_heads: int, **options: Any) -> Attention:
    """An `Attention` whose query heads share `num_kv_heads` key heads, in groups (Ainslie et al. 2023)."""
    return Attention(dim, num_heads, num_kv_heads=num_kv_heads, **options)
