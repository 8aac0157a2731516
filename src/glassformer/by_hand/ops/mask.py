"""Which keys each query may see: small conditions that combine with `&`. True means visible."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy import ndarray as Array

Condition = Callable[[Array, Array], Array]  # (query places (t, 1), key places (1, s)) -> visible (#b, #h, t, s)


def _causal(q: Array, k: Array) -> Array:
    return k <= q


@dataclass(frozen=True)
class Mask:
    """What each query may see; `Mask()` hides nothing. Build with the class methods, combine with `&`.

    >>> mask = Mask.causal() & Mask.padding(present)
    """

    terms: tuple[Condition, ...] = ()

    @classmethod
    def causal(cls) -> "Mask":
        """Each query sees itself and what came before (Vaswani et al. 2017, section 3.2.3)."""
        return cls((_causal,))

    @classmethod
    def window(cls, size: int) -> "Mask":
        """Each query sees keys fewer than `size` places away, on both sides (Beltagy et al. 2020, section 3.1)."""
        if size < 1:
            raise ValueError(f"window size is {size}; a query must at least see itself, so it is 1 or more")
        return cls((lambda q, k: abs(q - k) < size,))

    @classmethod
    def padding(cls, present: Array) -> "Mask":
        """Keys where `present` (b, s) is False are hidden from everyone."""
        _require_bool(present, "padding")
        return cls((lambda q, k: present[:, None, None, :],))

    @classmethod
    def prefix(cls, lengths: Array) -> "Mask":
        """Causal, except that the first `lengths[b]` keys are visible to all (Raffel et al. 2020, section 3.2)."""
        return cls((lambda q, k: (k <= q) | (k < lengths[:, None, None, None]),))

    @classmethod
    def documents(cls, ids: Array) -> "Mask":
        """Several documents packed into one row: a query sees keys with its own id (b, s) only."""
        return cls((lambda q, k: (ids[:, q] == ids[:, k])[:, None],))

    @classmethod
    def dense(cls, visible: Array) -> "Mask":
        """Any pattern at all, as an array that broadcasts to (b, h, t, s)."""
        _require_bool(visible, "dense")
        return cls((lambda q, k: visible,))

    def __and__(self, other: "Mask") -> "Mask":
        return Mask(self.terms + other.terms)

    def visible(self, t: int, s: int) -> Array | None:
        """The pattern (#b, #h, t, s) for `t` queries, which are the last of `s` keys; None where all is visible."""
        # The newest query sees every key there is: one token at a time needs no causal mask.
        terms = [term for term in self.terms if t > 1 or term is not _causal]
        if not terms:
            return None
        q, k = np.arange(s - t, s)[:, None], np.arange(s)[None]
        return reduce(np.logical_and, (term(q, k) for term in terms))


def _require_bool(array: Array, kind: str) -> None:
    if array.dtype != bool:
        raise TypeError(f"a {kind} mask has dtype {array.dtype}; expected bool, True where visible")
