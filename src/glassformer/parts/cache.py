"""The key-value cache: what attention has already computed for the tokens seen so far."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor


class LayerCache:
    """One layer's keys and values, (b, g, capacity, width) each, filled up to its owner's `length`.

    Beside them, where the layer has cross-attention, the keys and values of its context.
    """

    def __init__(self, owner: "KeyValueCache", key: Tensor, value: Tensor) -> None:
        self.owner, self.key, self.value = owner, key, value
        self.context: tuple[Tensor, Tensor, Tensor] | None = None  # itself, its keys, its values

    def append(
        self, k: Float[Tensor, "b g t k"], v: Float[Tensor, "b g t w"]
    ) -> tuple[Float[Tensor, "b g s k"], Float[Tensor, "b g s w"]]:
        """Write `k` and `v` behind what is held; return it, the new included. The length stays as it is.

        Of two dtypes, of what comes and what is held, the wider one is kept. Gradients flow to the new ones; what was
        held is constant. Raises ValueError where they do not fit.
        """
        b, g, t, width = k.shape
        if (b, g, width) != (*self.key.shape[:2], self.key.shape[3]):
            raise ValueError(f"keys of shape {tuple(k.shape)} do not fit a cache of {tuple(self.key.shape)}")
        self.owner.require(t)
        if k.dtype is not self.key.dtype:
            return self._of_other_dtype(k, v)
        start = self.owner.length - self.owner.first
        end, seen = start + t, start - self.owner.held
        if end > self.key.shape[2]:
            return self._roll_on(self.key, k, seen, start), self._roll_on(self.value, v, seen, start)
        learns = torch.is_grad_enabled() and (k.requires_grad or v.requires_grad)
        self.key[:, :, start:end] = k.detach() if learns else k
        self.value[:, :, start:end] = v.detach() if learns else v
        if learns:
            held = self.key[:, :, seen:start], self.value[:, :, seen:start]
            return torch.cat([held[0], k], dim=2), torch.cat([held[1], v], dim=2)
        return self.key[:, :, seen:end], self.value[:, :, seen:end]

    def _of_other_dtype(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """`append` of what has another dtype than the stores: the wider of the two is kept, that of `k` given back."""
        wide = torch.promote_types(k.dtype, self.key.dtype)
        self.key, self.value = self.key.to(wide), self.value.to(wide)
        keys, values = self.append(k.to(wide), v.to(wide))
        return keys.to(k.dtype), values.to(v.dtype)

    def _roll_on(self, held: Tensor, new: Tensor, seen: int, start: int) -> Tensor:
        """Begin the store anew with the last of what is held and new; `advance` does the owner's part."""
        everything = torch.cat([held[:, :, :start], new], dim=2)
        with torch.no_grad():
            held[:, :, : self.owner.kept] = everything[:, :, -self.owner.kept :]
        return everything[:, :, seen:]

    def remember(
        self, context: Float[Tensor, "r s c"], make: Callable[[], tuple[Tensor, Tensor]]
    ) -> tuple[Float[Tensor, "r g s k"], Float[Tensor, "r g s w"]]:
        """The keys and values of a context, (k, v) = make(): made at the first call, the same ever after.

        Gradients flow to what was just made; what is kept is constant. Raises ValueError for another context than the
        first: its keys and values would be others.
        """
        if self.context is None:
            k, v = make()
            self.context = context, k.detach().contiguous(), v.detach().contiguous()
            return k, v
        held, k, v = self.context
        if held is not context and not torch.equal(held, context):
            raise ValueError(
                f"the cache keeps keys and values of a context of {tuple(held.shape)} and was given another one, of "
                f"{tuple(context.shape)}; a new context needs a new cache"
            )
        return k, v


class KeyValueCache:
    """Keys and values of every layer, allocated once and written in place.

    The layers write; the model, which knows when a forward pass is over, calls `advance`. `value_dim` is the width of
    what is kept beside the keys, where it is not theirs.

    With a `window_size` the layers need the last window_size − 1 tokens only, are given those, and there is room for
    two windows: when it is used up, the last one and a half move to its beginning. Then one can truncate by half a
    window, not to any length; and a forward pass that is broken off there leaves nothing to go on from, but 0 tokens.
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
        window_size: int | None = None,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        value_dim = head_dim if value_dim is None else value_dim
        empty = partial(torch.zeros, dtype=dtype, device=device)
        room = capacity if window_size is None else min(capacity, 2 * window_size)
        shape = (batch_size, num_kv_heads, room)
        self.layers = [LayerCache(self, empty(*shape, head_dim), empty(*shape, value_dim)) for _ in range(num_layers)]
        self.capacity, self.length = capacity, 0
        self.window_size, self.room, self.kept = window_size, room, room * 3 // 4
        self.first = 0  # the place of the first token that the stores hold

    @property
    def held(self) -> int:
        """How many tokens before the new ones the layers are given: all, or those that a window reaches."""
        return self.length if self.window_size is None else min(self.length, self.window_size - 1)

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
        if self.length - self.first > self.room:
            self.first = self.length - self.kept

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens. Raises ValueError where their window is forgotten already."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate to {length} tokens a cache that holds {self.length}")
        if self.window_size is not None and 0 < length < min(length, self.window_size - 1) + self.first:
            raise ValueError(
                f"cannot truncate to {length} tokens a cache that holds {self.length} but keeps those from "
                f"{self.first} on; a window of {self.window_size} reaches further back"
            )
        self.length, self.first = length, self.first if length else 0

    def reorder(self, rows: Int[Tensor, "b"]) -> None:
        """Row i becomes a copy of what was row `rows[i]`: beam search keeps some beams and drops others.

        What is kept of contexts stays where it is: rows only move among those that have the same one.
        """
        end = self.length - self.first
        for layer in self.layers:
            for held in (layer.key, layer.value):
                held[:, :, :end] = held[rows, :, :end]

    @property
    def num_bytes(self) -> int:
        """Bytes allocated."""
        own = sum(layer.key.nbytes + layer.value.nbytes for layer in self.layers)
        return own + sum(held.nbytes for layer in self.layers for held in (layer.context or ())[1:])
