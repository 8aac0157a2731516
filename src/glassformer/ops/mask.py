"""Which keys each query may see: small conditions that combine with `&`.

A `Mask` is a conjunction of terms. Each term answers one question, `allows(b, h, q, k)`, for indices of batch row,
head, query and key; from that single answer follow the dense array (`visible`), one tile of it (`tile`) and
FlexAttention's `mask_mod`. True means visible. Queries are counted where they stand among the keys: with a cache the
`t` queries are the last `t` of the `s` keys.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class Term(ABC):
    """One condition on the pair (query, key)."""

    orders: ClassVar[bool] = True  # whether it compares places of queries with places of keys
    shows_self: ClassVar[bool] = True  # whether every query certainly sees the key at its own place
    by_distance: ClassVar[bool] = False  # whether the distance from query to key alone decides

    @property
    def batch_size(self) -> int:
        """The rows of the term's own array; 1 serves any batch."""
        return 1

    @abstractmethod
    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """Whether key `k` is visible to query `q`, for index tensors that broadcast against each other."""

    def dense(self, t: int, s: int, device: torch.device) -> Bool[Tensor, "#b #h #t s"]:
        """The condition written out for the last `t` of `s` places."""
        return self.allows(*_indices(self.batch_size, 1, slice(s - t, s), slice(0, s), device))

    def check(self, t: int, s: int) -> None:
        """Raise ValueError where the term cannot speak of `t` queries among `s` keys."""
        if self.orders and t > s:
            raise ValueError(
                f"a {type(self).__name__.lower()} mask meets {t} queries and {s} keys; the queries are the last of the "
                f"keys, so there must be at least as many keys"
            )

    def hides_nothing(self, t: int, s: int) -> bool:
        """True where it is certain, from the sizes alone, that the last `t` of `s` places see every key."""
        return False

    def reach(self, q: range | slice, s: int) -> slice:
        """Of `s` keys, those that the queries at these places may see, as far as the places alone tell."""
        return slice(0, s)


@dataclass(frozen=True)
class Causal(Term):
    """A query sees itself and what came before (Vaswani et al. 2017, section 3.2.3)."""

    by_distance: ClassVar[bool] = True

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k <= q

    def hides_nothing(self, t: int, s: int) -> bool:
        return t == 1  # the newest query sees every key there is

    def reach(self, q: range | slice, s: int) -> slice:
        return slice(0, min(q.stop, s))


@dataclass(frozen=True)
class Window(Term):
    """A query sees keys nearer than `size` places, on both sides (Beltagy et al. 2020, section 3.1)."""

    size: int
    by_distance: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"window size is {self.size}; a query must at least see itself, so it is 1 or more")

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q - k).abs() < self.size

    def hides_nothing(self, t: int, s: int) -> bool:
        return s <= self.size

    def reach(self, q: range | slice, s: int) -> slice:
        return slice(max(q.start - self.size + 1, 0), min(q.stop + self.size - 1, s))


@dataclass(frozen=True, eq=False)
class Padding(Term):
    """Nobody sees the keys that are padding; `present` is True at real tokens."""

    present: Bool[Tensor, "b s"]
    orders: ClassVar[bool] = False
    shows_self: ClassVar[bool] = False

    @property
    def batch_size(self) -> int:
        return self.present.shape[0]

    def check(self, t: int, s: int) -> None:
        _require_keys("padding", self.present, s)

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.present[_row(self.present, b), k]


@dataclass(frozen=True, eq=False)
class Prefix(Term):
    """The first `lengths` keys are visible to all, the rest causally: a prefix language model (T5, section 3.2.1)."""

    lengths: Int[Tensor, "b"]

    @property
    def batch_size(self) -> int:
        return self.lengths.shape[0]

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) | (k < self.lengths[_row(self.lengths, b)])

    def hides_nothing(self, t: int, s: int) -> bool:
        return t == 1


@dataclass(frozen=True, eq=False)
class Documents(Term):
    """Several documents packed into one row: a query sees its own document only.

    `lengths`, where they are given, are those of the documents, which stand one after another, the same in every row.
    """

    ids: Int[Tensor, "b s"]
    lengths: tuple[int, ...] | None = None

    @property
    def batch_size(self) -> int:
        return self.ids.shape[0]

    def check(self, t: int, s: int) -> None:
        super().check(t, s)
        _require_keys("documents", self.ids, s)

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        row = _row(self.ids, b)
        return self.ids[row, q] == self.ids[row, k]


@dataclass(frozen=True, eq=False)
class Dense(Term):
    """The condition as an array; a size of 1 serves every row, head or query."""

    array: Bool[Tensor, "#b #h #t s"]
    orders: ClassVar[bool] = False
    shows_self: ClassVar[bool] = False

    @property
    def batch_size(self) -> int:
        return self.array.shape[0]

    def check(self, t: int, s: int) -> None:
        if self.array.shape[-1] != s or self.array.shape[-2] not in (1, t):
            raise ValueError(
                f"a dense mask of shape {tuple(self.array.shape)} meets {t} queries and {s} keys; "
                f"its last two sizes must be ({t} or 1, {s})"
            )

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        _, heads, queries, keys = self.array.shape
        place = q - (keys - queries)  # the first query stands at place s − t
        return self.array[_row(self.array, b), h if heads > 1 else h * 0, place if queries > 1 else q * 0, k]

    def dense(self, t: int, s: int, device: torch.device) -> Bool[Tensor, "#b #h #t s"]:
        return self.array


def _row(array: Tensor, b: Tensor) -> Tensor:
    """The row of the array that serves batch row `b`."""
    return b if array.shape[0] > 1 else b * 0


def _require_keys(name: str, array: Tensor, s: int) -> None:
    if array.shape[1] != s:
        raise ValueError(f"a {name} mask of shape {tuple(array.shape)} meets {s} keys; its shape must be (batch, {s})")


def _require_bool(name: str, array: Tensor) -> None:
    if array.dtype != torch.bool:
        raise TypeError(f"a {name} mask has dtype {array.dtype}; expected torch.bool, True where visible")


def _indices(
    batch_size: int, num_heads: int, q: range | slice, k: range | slice, device: torch.device
) -> tuple[Tensor, ...]:
    """Index tensors of batch row, head, query and key that broadcast to (b, h, t, s)."""
    # Not only ranges: their ends must be plain numbers, and a program that is exported has none for its lengths.
    ranges = slice(0, batch_size), slice(0, num_heads), q, k
    views = (-1, 1, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, -1)
    return tuple(torch.arange(r.start, r.stop, device=device).view(v) for r, v in zip(ranges, views, strict=True))


@dataclass(frozen=True)
class Mask:
    """What each query may see; `Mask()` hides nothing. Build with the class methods, combine with `&`.

    A mask is a value: what it was lowered to is kept, so do not write into its arrays. Give all layers the same one.

    >>> mask = Mask.causal() & Mask.padding(present)
    """

    terms: tuple[Term, ...] = ()
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def causal(cls) -> "Mask":
        """Each query sees itself and what came before."""
        return cls((Causal(),))

    @classmethod
    def window(cls, size: int) -> "Mask":
        """Each query sees keys fewer than `size` places away, itself included. Raises ValueError below 1."""
        return cls((Window(size),))

    @classmethod
    def padding(cls, present: Bool[Tensor, "b s"]) -> "Mask":
        """Keys where `present` is False are hidden from everyone. Raises TypeError unless it is boolean."""
        _require_bool("padding", present)
        return cls((Padding(present),))

    @classmethod
    def prefix(cls, lengths: Int[Tensor, "b"]) -> "Mask":
        """Causal, except that the first `lengths[b]` keys of each row are visible to all its queries."""
        return cls((Prefix(lengths),))

    @classmethod
    def documents(cls, ids: Int[Tensor, "b s"]) -> "Mask":
        """A query sees only keys with its own document id."""
        return cls((Documents(ids),))

    @classmethod
    def packed(cls, lengths: Sequence[int], device: torch.device | str | None = None) -> "Mask":
        """Documents of these lengths, one after another in each row: kernels compute each by itself."""
        ids = torch.arange(len(lengths), device=device).repeat_interleave(torch.tensor(lengths, device=device))
        return cls((Documents(ids[None], tuple(lengths)),))

    @classmethod
    def dense(cls, visible: Bool[Tensor, "#b #h #t s"]) -> "Mask":
        """Any pattern at all, as an array that broadcasts to (b, h, t, s). Raises TypeError unless it is boolean."""
        _require_bool("dense", visible)
        return cls((Dense(visible),))

    def __and__(self, other: "Mask") -> "Mask":
        return Mask(self.terms + other.terms)

    @property
    def is_causal(self) -> bool:
        """True where the mask is the causal order and nothing else."""
        return len(self.terms) > 0 and all(isinstance(term, Causal) for term in self.terms)

    @property
    def may_hide_all(self) -> bool:
        """True where some query may be left with no key at all: its output is then 0."""
        return not all(term.shows_self for term in self.terms)

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """Whether every term allows it: FlexAttention's `mask_mod`, with `q` counted among the keys."""
        return reduce(and_, (term.allows(b, h, q, k) for term in self.terms), (q == q) & (k == k))

    def visible(self, t: int, s: int, device: torch.device) -> Bool[Tensor, "#b #h #t s"] | None:
        """The dense array for the last `t` of `s` places; None where everything is certainly visible.

        Raises ValueError where a term's sizes do not fit, or an order is asked of more queries than keys.
        """
        for term in self.terms:
            term.check(t, s)
        # A program that is exported serves all sizes: nothing may follow from those of the example.
        terms = [term for term in self.terms if torch.compiler.is_exporting() or not term.hides_nothing(t, s)]
        if not terms:
            return None
        return self.keep(("visible", t, s, device), lambda: reduce(and_, (term.dense(t, s, device) for term in terms)))

    def opened(
        self, t: int, s: int, device: torch.device
    ) -> tuple[Bool[Tensor, "#b #h #t s"] | None, Bool[Tensor, "#b #h #t 1"] | None]:
        """`visible`, with the queries that see nothing seeing everything; and which those are (None: there are none).

        A softmax over no key at all is not a number. Kernels compute such a row as if it saw all, and then put 0 for
        its output, through which no gradient flows.
        """
        visible = self.visible(t, s, device)
        if visible is None or not self.may_hide_all:
            return visible, None
        return self.keep(("opened", t, s, device), lambda: _open(visible))

    def apart(self, t: int, s: int) -> tuple[tuple[int, ...], "Mask"] | None:
        """The lengths of the documents that the places fall into, and the mask within each; None where not known."""
        if t != s:
            return None
        packed = [term for term in self.terms if isinstance(term, Documents) and term.lengths is not None]
        rest = [term for term in self.terms if term not in packed]
        if len(packed) != 1 or not all(term.by_distance for term in rest):
            return None
        assert packed[0].lengths is not None
        return packed[0].lengths, self.keep("within", lambda: Mask(tuple(rest)))

    @property
    def by_distance(self) -> bool:
        """True where the distance from a query to a key alone decides: all pairs at one distance are alike."""
        return all(term.by_distance for term in self.terms)

    def reach(self, q: range | slice, s: int) -> slice:
        """Of `s` keys, those that the queries at these places may see, as far as the places alone tell."""
        reaches = [term.reach(q, s) for term in self.terms]
        return slice(max((each.start for each in reaches), default=0), min((each.stop for each in reaches), default=s))

    def hides(self, q: range, k: range) -> bool:
        """True where it is certain, from the places alone, that none of the queries sees any of the keys."""
        seen = self.reach(q, k.stop)
        return k.stop <= seen.start or seen.stop <= k.start

    def tile(
        self, batch_size: int, num_heads: int, q: range | slice, k: range | slice, device: torch.device
    ) -> Bool[Tensor, "#b #h #t s"] | None:
        """`visible` for these places only, without the rest of the array; None for `Mask()`."""
        if not self.terms:
            return None
        return self.allows(*_indices(batch_size, num_heads, q, k, device))

    def check(self, batch_size: int, t: int, s: int) -> None:
        """Raise ValueError where a term cannot speak of a batch of `t` queries among `s` keys."""
        for term in self.terms:
            term.check(t, s)
            if term.batch_size not in (1, batch_size):
                raise ValueError(
                    f"a {type(term).__name__.lower()} mask of {term.batch_size} rows meets a batch of {batch_size}"
                )

    def keep(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once per key: every layer of a model is handed the same mask."""
        if torch.compiler.is_compiling():
            return make()
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def _open(visible: Bool[Tensor, "#b #h #t s"]) -> tuple[Tensor, Tensor | None]:
    blind = ~visible.any(-1, keepdim=True)
    # Looking is free on the CPU; elsewhere it would wait for the device, and a compiled graph has no values yet.
    if visible.device.type == "cpu" and not torch.compiler.is_compiling() and not blind.any():
        return visible, None
    return visible | blind, blind
