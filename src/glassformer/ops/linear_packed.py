"""A packed copy of a weight, held by a kernel and made again when the weight changes."""

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor

Key = tuple["weakref.ref[Tensor]", int, int, bytes]


class Packed:
    """Holds pack(weight) for the weight it saw last.

    The weight counts as changed when it is another tensor, when its version counter moved (an optimizer's step,
    `load_state_dict`, any in-place operation), when its memory moved (`.to()`, an assignment to `.data`), or when its
    first 64 bytes differ: the version counter does not see what is written through `.data` or through NumPy, and such
    writes (a redrawn or scaled weight) as a rule touch the beginning too. One that does not must be told: `forget()`.
    """

    __slots__ = ("_held", "_pack")

    def __init__(self, pack: Callable[[Tensor], Any]) -> None:
        self._pack = pack
        self._held: tuple[Key, Any] | None = None

    def __call__(self, weight: Tensor) -> Any:
        held = self._held
        if held is not None:
            (seen, version, address, start), packed = held
            if (
                seen() is weight
                and weight._version == version
                and weight.data_ptr() == address
                and ctypes.string_at(address, len(start)) == start
            ):
                return packed
        return self._renew(weight)

    def _renew(self, weight: Tensor) -> Any:
        self._held = None  # the old copy goes before the new one comes
        if weight.is_inference():  # has no version counter: a change could not be seen, so nothing is kept
            return self._pack(weight)
        plain = weight.detach()
        size = plain.element_size() * (plain.numel() if plain.is_contiguous() else min(1, plain.numel()))
        start = ctypes.string_at(plain.data_ptr(), min(64, size)) if size else b""
        key = weakref.ref(weight), weight._version, plain.data_ptr(), start
        packed = self._pack(plain)
        self._held = key, packed
        return packed

    def forget(self) -> None:
        """Drop the copy; the next call packs anew."""
        self._held = None
