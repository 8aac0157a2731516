"""The key-value cache: what attention has already computed for the tokens seen so far."""

import numpy as np
from numpy import ndarray as Array
from numpy.typing import DTypeLike


class LayerCache:
    """One layer's keys and values, (b, g, capacity, width) each, filled up to its owner's `length`."""

    def __init__(self, owner: "KeyValueCache", key: Array, value: Array) -> None:
        self.owner, self.key, self.value = owner, key, value

    def append(self, k: Array, v: Array) -> tuple[Array, Array]:
        """Write `k` and `v` behind what is held; return everything, the new included. The length stays as it is.

        Raises ValueError where they do not fit.
        """
        b, g, t, width = k.shape
        if (b, g, width) != (*self.key.shape[:2], self.key.shape[3]):
            raise ValueError(f"keys of shape {k.shape} do not fit a cache of {self.key.shape}")
        self.owner.require(t)
        start = self.owner.length
        end = start + t
        self.key[:, :, start:end] = k
        self.value[:, :, start:end] = v
        return self.key[:, :, :end], self.value[:, :, :end]


class KeyValueCache:
    """Keys and values of every layer, allocated once and written in place; the model calls `advance` after a pass.

    `value_dim` is the width of what is kept beside the keys, where it is not theirs.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_kv_heads: int,
        capacity: int,
        head_dim: int,
        *,
        value_dim: int | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        value_dim = head_dim if value_dim is None else value_dim
        shape = (num_layers, batch_size, num_kv_heads, capacity)
        keys, values = np.zeros((*shape, head_dim), dtype), np.zeros((*shape, value_dim), dtype)
        self.layers = [LayerCache(self, key, value) for key, value in zip(keys, values, strict=True)]
        self.capacity, self.length = capacity, 0

    def require(self, t: int) -> None:
        """Raise ValueError unless `t` more tokens fit."""
        if self.length + t > self.capacity:
            raise ValueError(
                f"the cache holds {self.length} tokens and {t} more were given; its capacity is {self.capacity}"
            )

    def advance(self, t: int) -> None:
        """Count the `t` tokens that the layers have just written."""
        self.require(t)
        self.length += t

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate to {length} tokens a cache that holds {self.length}")
        self.length = length
