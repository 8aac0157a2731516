"""Which keys each query may see: small conditions that combine with `&`.

A `Mask` is a conjunction of terms. Each term answers one question, `allows(b, h, q, k)`, for indices of batch row,
head, query and key; from that single answer follow the dense array (for kernels that take one) and FlexAttention's
`mask_mod`. True means visible. Queries are counted where they stand among the keys: with a cache the `t` queries are
the last `t` of the `s` keys.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class Term(ABC):
    """One condition on the pair (query, key)."""

    batch_size: int = 1

    @abstractmethod
    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """Whether key `k` is visible to query `q`, for index tensors that broadcast against each other."""

    def dense(self, t: int, s: int, device: torch.device) -> Bool[Tensor, "#b #h #t s"]:
        """The condition written out for the last `t` of `s` positions."""
        b = torch.arange(self.batch_size, device=device).view(-1, 1, 1, 1)
        h = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=device)
        q = torch.arange(s - t, s, device=device).view(1, 1, -1, 1)
        k = torch.arange(s, device=device).view(1, 1, 1, -1)
        return self.allows(b, h, q, k)


@dataclass(frozen=True)
class Causal(Term):
    """A query sees itself and what came before (Vaswani et al. 2017, section 3.2.3)."""

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k <= q


@dataclass(frozen=True)
class Window(Term):
    """A query sees keys nearer than `size` positions, on both sides (Beltagy et al. 2020, section 3.1)."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"window size is {self.size}; a query must at least see itself, so it is 1 or more")

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q - k).abs() < self.size


@dataclass(frozen=True, eq=False)
class Padding(Term):
    """Nobody sees the keys that are padding; `present` is True at real tokens."""

    present: Bool[Tensor, "b s"]

    @property
    def batch_size(self) -> int:
        return self.present.shape[0]

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.present[b, k]


@dataclass(frozen=True, eq=False)
class Prefix(Term):
    """The first `lengths` keys are visible to all, the rest causally: a prefix language model (Raffel et al. 2020, 3.2)."""

    lengths: Int[Tensor, "b"]

    @property
    def batch_size(self) -> int:
        return self.lengths.shape[0]

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) | (k < self.lengths[b])


@dataclass(frozen=True, eq=False)
class Documents(Term):
    """Several documents packed into one row: a query sees its own document only."""

    ids: Int[Tensor, "b s"]

    @property
    def batch_size(self) -> int:
        return self.ids.shape[0]

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.ids[b, q] == self.ids[b, k]


@dataclass(frozen=True, eq=False)
class Dense(Term):
    """The condition as an array."""

    visible: Bool[Tensor, "#b #h #t s"]

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        rows, heads, queries, keys = self.visible.shape
        q = q - (keys - queries) if queries > 1 else q * 0
        return self.visible[b * (rows > 1), h * (heads > 1), q, k]

    def dense(self, t: int, s: int, device: torch.device) -> Bool[Tensor, "#b #h #t s"]:
        if self.visible.shape[-1] != s or self.visible.shape[-2] not in (1, t):
            raise ValueError(
                f"a dense mask of shape {tuple(self.visible.shape)} meets {t} queries and {s} keys; "
                f"its last two sizes must be ({t} or 1, {s})"
            )
        return self.visible


@dataclass(frozen=True)
class Mask:
    """What each query may see; `Mask()` hides nothing. Build with the class methods, combine with `&`.

    >>> mask = Mask.causal() & Mask.padding(present)
    """

    terms: tuple[Term, ...] = field(default=())

    @classmethod
    def causal(cls) -> "Mask":
        """Each query sees itself and what came before."""
        return cls((Causal(),))

    @classmethod
    def window(cls, size: int) -> "Mask":
        """Each query sees keys fewer than `size` positions away, itself included."""
        return cls((Window(size),))

    @classmethod
    def padding(cls, present: Bool[Tensor, "b s"]) -> "Mask":
        """Keys where `present` is False are hidden from everyone."""
        if present.dtype != torch.bool:
            raise TypeError(f"a padding mask has dtype {present.dtype}; expected torch.bool, True at real tokens")
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
    def dense(cls, visible: Bool[Tensor, "#b #h #t s"]) -> "Mask":
        """Any pattern at all, as an array that broadcasts to (b, h, t, s)."""
        if visible.dtype != torch.bool:
            raise TypeError(f"a dense mask has dtype {visible.dtype}; expected torch.bool, True where visible")
        return cls((Dense(visible),))

    def __and__(self, other: "Mask") -> "Mask":
        return Mask(self.terms + other.terms)

    def allows(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """Whether every term allows it: FlexAttention's `mask_mod`, with `q` counted among the keys."""
        visible = (b == b) & (q == q) & (k == k)
        for term in self.terms:
            visible = visible & term.allows(b, h, q, k)
        return visible

    def visible(self, t: int, s: int, device: torch.device) -> Bool[Tensor, "#b #h #t s"] | None:
        """The dense array for the last `t` of `s` positions; None where everything is visible."""
        out = None
        for term in self.terms:
            if t == 1 and isinstance(term, Causal):
                continue  # the newest query sees every key there is
            dense = term.dense(t, s, device)
            out = dense if out is None else out & dense
        return out

    @property
    def is_causal(self) -> bool:
        """True where the mask is the causal order and nothing else."""
        return len(self.terms) > 0 and all(isinstance(term, Causal) for term in self.terms)

    @property
    def may_hide_all(self) -> bool:
        """True where some query may be left with no key at all: its output is then 0."""
        return any(isinstance(term, Padding | Dense) for term in self.terms)
