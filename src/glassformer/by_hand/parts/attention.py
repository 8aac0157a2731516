"""Multi-head attention (Vaswani et al. 2017, section 3.2), grouped or not, self or cross."""

from typing import Any

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.ops.attend import attend, attend_backward
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.cache import LayerCache
from glassformer.by_hand.parts.dropout import Dropout
from glassformer.by_hand.parts.linear import Linear
from glassformer.by_hand.parts.module import Module
from glassformer.by_hand.parts.position import Rotation


class Attention(Module):
    """softmax(scale · Q Kᵀ) V per head, then an output projection.

    `num_kv_heads` below `num_heads` gives grouped-query attention (Ainslie et al. 2023), 1 gives multi-query attention
    (Shazeer 2019). `biased` names the projections with a bias. The weights of the last forward pass are in `weights`.
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
        query_norm: Module | None = None,
        key_norm: Module | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or (head_dim is None and dim % num_heads):
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}; choose a divisor or give head_dim")
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}; each key head serves "
                             f"the same number of query heads")  # fmt: skip
        if not set(biased) <= set("qkvo"):
            raise ValueError(f"biased={biased!r} names no projection; its letters are those of 'qkvo'")
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        self.scale = self.head_dim**-0.5 if scale is None else scale
        self.dropout = Dropout(dropout)
        q_dim, kv_dim = num_heads * self.head_dim, num_kv_heads * self.head_dim
        context_dim = dim if context_dim is None else context_dim
        self.query = Linear(dim, q_dim, bias="q" in biased)
        self.key = Linear(context_dim, kv_dim, bias="k" in biased)
        self.value = Linear(context_dim, kv_dim, bias="v" in biased)
        self.output = Linear(q_dim, dim, bias="o" in biased)
        self.query_norm, self.key_norm = query_norm, key_norm

    def forward(
        self,
        query: Array,
        key: Array | None = None,
        value: Array | None = None,
        *,
        mask: Mask = Mask(),
        score_bias: Array | None = None,
        rotate: Rotation | None = None,
        cache: LayerCache | None = None,
    ) -> Array:
        """Attend from `query` (b, t, d) to `key` (b, s, c; default: itself), reading `value` (default: `key`).

        Raises ValueError for a value without a key, and where the mask or the cache does not fit.
        """
        if value is not None and key is None:
            raise ValueError("a value is given without a key; give both, or the key alone")
        self._given = 1 + (key is not None) + (value is not None)
        key = query if key is None else key
        value = key if value is None else value
        q, k, v = self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        q = q if self.query_norm is None else self.query_norm(q)
        k = k if self.key_norm is None else self.key_norm(k)
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        if cache is not None:
            k, v = cache.append(k, v)
        keep = self.dropout.keep((*q.shape[:3], k.shape[2]), q.dtype)
        out, self.weights = attend(q, k, v, mask=mask, scale=self.scale, bias=score_bias, keep=keep)
        self._saved = None if cache is not None else (q, k, v, keep, rotate)
        return self.output(_merge(out))

    def backward(self, dy: Array) -> Any:
        """The forward pass in reverse; returns one gradient for each input given (one array for self-attention).

        An input that served as query, key and value at once gets the sum of the three gradients. That of a score bias
        is left in `d_score_bias` (b, h, t, s).
        """
        if self._saved is None:
            raise ValueError("there is no backward through a cached pass: run forward without a cache")
        q, k, v, keep, rotate = self._saved
        d_out = self._split(self.output.backward(dy))
        dq, dk, dv, self.d_score_bias = attend_backward(d_out, q, k, v, self.weights, scale=self.scale, keep=keep)
        if rotate is not None:
            dq, dk = rotate.backward(dq), rotate.backward(dk)
        dq = dq if self.query_norm is None else self.query_norm.backward(dq)
        dk = dk if self.key_norm is None else self.key_norm.backward(dk)
        d_query = self.query.backward(_merge(dq))
        d_key = self.key.backward(_merge(dk))
        d_value = self.value.backward(_merge(dv))
        if self._given == 3:
            return d_query, d_key, d_value
        d_key += d_value
        return (d_query, d_key) if self._given == 2 else np.add(d_query, d_key, out=d_query)

    def _split(self, x: Array) -> Array:
        """(b, t, h·k) -> (b, h, t, k)"""
        return x.reshape(*x.shape[:2], -1, self.head_dim).swapaxes(1, 2)


def _merge(x: Array) -> Array:
    """(b, h, t, k) -> (b, t, h·k)"""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)
