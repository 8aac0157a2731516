"""What is packed of weights, held by a kernel and made again when one of them changes."""

import ctypes
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Key = tuple["weakref.ref[Tensor]", int, int, ctypes.Array[ctypes.c_char], bytes]


class Packed:
    """Holds pack(weight, dtype) for what it saw last: a weight, or several, joined (by default stacked row upon row).

    A weight counts as changed when it is another tensor, when its version counter moved (an optimizer's step,
    `load_state_dict`, any in-place operation), when its memory moved (`.to()`, an assignment to `.data`), or when its
    first 64 bytes differ: the version counter does not see what is written through `.data` or through NumPy, and such
    writes (a redrawn or scaled weight) as a rule touch the beginning too. One that does not must be told: `forget()`.
    """

    __slots__ = ("_held", "_join", "_pack")

    def __init__(
        self, pack: Callable[[Any, torch.dtype], Any], join: Callable[[list[Tensor]], Any] = torch.cat
    ) -> None:
        self._pack, self._join = pack, join
        self._held: tuple[torch.dtype, list[Key], Any] | None = None

    def __call__(self, dtype: torch.dtype, *weights: Tensor) -> Any:
        packed = self.held(dtype, weights)
        return self._renew(dtype, weights) if packed is None else packed

    def held(self, dtype: torch.dtype, weights: Sequence[Tensor]) -> Any:
        """What is held of these weights; None where they are others or have changed."""
        held = self._held
        if held is None or held[0] is not dtype or len(held[1]) != len(weights):
            return None
        for weight, (seen, version, address, now, start) in zip(weights, held[1], strict=True):
            if (
                seen() is not weight
                or weight._version != version
                or weight.data_ptr() != address
                or now.raw != start  # memory that the weight owns: it is still at its address
            ):
                return None
        return held[2]

    def _renew(self, dtype: torch.dtype, weights: tuple[Tensor, ...]) -> Any:
        self._held = None  # the old copy goes before the new one comes
        # An inference tensor has no version counter: a change could not be seen, so nothing is kept.
        keys = None if any(weight.is_inference() for weight in weights) else [_key(weight) for weight in weights]
        plain = [weight.detach() for weight in weights]
        packed = self._pack(plain[0] if len(plain) == 1 else self._join(plain), dtype)
        if keys is not None:
            self._held = dtype, keys, packed
        return packed

    def forget(self) -> None:
        """Drop the copy; the next call packs anew."""
        self._held = None


def _key(weight: Tensor) -> Key:
    address = weight.data_ptr()
    count = weight.numel() if weight.is_contiguous() else min(1, weight.numel())
    now = (ctypes.c_char * min(64, count * weight.element_size())).from_address(address)
    return weakref.ref(weight), weight._version, address, now, now.raw
