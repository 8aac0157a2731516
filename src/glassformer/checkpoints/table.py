"""Checkpoint tables: how another library's parameter names become ours, and back.

A table is a dict from their name of a module to ours, written once per model and read in both directions:

    GPT2_TABLE: Table = {
        "[transformer.]{wte,wpe}": "{embed,position}",
        "[transformer.]h.*.ln_{1,2}": "blocks.*.{attention,feed_forward}_norm",
        "[transformer.]h.*.attn.c_attn": Split("blocks.*.attention.{query,key,value}", transpose=True),
        "[transformer.]h.*.attn.c_proj": Transpose("blocks.*.attention.output"),
        "[transformer.]h.*.mlp.{c_fc,c_proj}": Transpose("blocks.*.feed_forward.{up,down}"),
        "[transformer.]h.*.attn.{bias,masked_bias}": DROP,
        "[transformer.]ln_f": "norm",
        "lm_head": Tied("embed"),
    }
    ours = load(theirs, GPT2_TABLE)      # mappings, made tensor by tensor as they are read
    theirs = save(ours, GPT2_TABLE)

- `*` stands for an index, a whole dotted part of the name (a layer's number); both sides have the same number of them.
- `{a,b}` stands for several names, as in a shell; the two sides run through theirs in step.
- `[prefix.]` may be absent from a file that is read; it is always written.
- A parameter's own name, `.weight` or `.bias`, is carried over. A row may also name a tensor in full.
- A right-hand side that is no plain string says what else happens to the tensor: `Split`, `Transpose`, `Unsqueezed`,
  `Tied`, `Computed`, `DROP`.

Tables are strict: each name in a file, and each of ours, must be named by exactly one row.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """One of their tensors is several of ours, stacked along the output rows.

    `sizes` are the rows of each part (equal parts when None); `transpose` where they keep weights input-first.
    """

    ours: str
    transpose: bool = False
    sizes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Transpose:
    """The same tensor, its matrices input-first on their side (GPT-2's `Conv1D`); a bias is carried as it is."""

    ours: str


@dataclass(frozen=True)
class Unsqueezed:
    """The same tensor, with a first size of 1 on their side: (1, v) for (v,)."""

    ours: str


@dataclass(frozen=True)
class Tied:
    """Another of their names for a tensor that a plain row names too.

    In a file it may be absent, or equal to the other, or the only copy; it is never written.
    """

    ours: str


@dataclass(frozen=True)
class Computed:
    """A tensor of theirs that we compute: `make` of its shape. In a file it may be absent, or equal; never written."""

    make: Callable[[tuple[int, ...]], Tensor]


DROP = None
"""A tensor of theirs that we have no use for (a causal mask kept as a buffer). Never read, never written."""

Rule = str | Split | Transpose | Unsqueezed | Tied | Computed | None
CLOSE = 1e-4  # what numbers of size 1 may be off by that were computed in another order, in float32
Table = Mapping[str, Rule]
LEAVES = ("weight", "bias")
LARGE = 2**20  # bytes: to turn as many takes time, and memory


@dataclass(frozen=True, eq=False)
class Row:
    """One expanded row: a pattern of theirs, and those of ours that it fills."""

    source: str  # as written in the table, for messages
    theirs: str
    ours: tuple[str, ...]
    transpose: bool = False
    sizes: tuple[int, ...] | None = None
    tied: bool = False
    unsqueezed: bool = False
    computed: Callable[[tuple[int, ...]], Tensor] | None = None

    def check_computed(self, tensor: Tensor, name: str) -> None:
        """Raise ValueError where a tensor of theirs is not what we compute in its place."""
        if self.computed is None or tensor.is_meta:
            return
        ours = self.computed(tuple(tensor.shape))
        tolerance = max(CLOSE, torch.finfo(tensor.dtype).eps) if tensor.is_floating_point() else 0.0
        off = (tensor - ours).abs().max().item() if tensor.numel() else 0.0
        if not off <= tolerance:
            raise ValueError(f"tensor {name!r} is computed here, not read, and the file's differs by up to {off:.3g}")

    def split(self, tensor: Tensor, name: str) -> tuple[Tensor, ...]:
        """Their tensor as ours: a large one that is turned as views of it, others in one piece."""
        turned = self.transpose and tensor.ndim == 2
        lazy = turned and tensor.nbytes >= LARGE
        tensor = tensor.T if turned else tensor
        tensor = tensor.squeeze(0) if self.unsqueezed else tensor
        if len(self.ours) == 1:
            return (tensor if lazy else tensor.contiguous(),)
        rows = tensor.shape[0] if tensor.ndim else 0
        sizes = self.sizes or (rows // len(self.ours),) * len(self.ours)
        if sum(sizes) != rows:
            raise ValueError(
                f"tensor {name!r} has {rows} rows, which do not split into the {len(self.ours)} parts "
                f"{', '.join(self.ours)}" + (f" of {self.sizes} rows" if self.sizes else "")
            )
        if lazy:
            return tensor.split(sizes)
        # A copy: parameters that share one storage would be kept, moved and saved together.
        return tuple(part.clone(memory_format=torch.contiguous_format) for part in tensor.split(sizes))

    def join(self, parts: Iterable[Tensor]) -> Tensor:
        """Our tensors as theirs."""
        parts = list(parts)
        found = tuple(part.shape[0] for part in parts if part.ndim)
        if len(parts) > 1 and found != (self.sizes or found[:1] * len(parts)):
            raise ValueError(
                f"{', '.join(self.ours)} have {found} rows, which row {self.source!r} could not split again; "
                f"expected {self.sizes or 'equal ones'}"
            )
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        tensor = tensor.unsqueeze(0) if self.unsqueezed else tensor
        return (tensor.T if self.transpose and tensor.ndim == 2 else tensor).contiguous()


class Match(NamedTuple):
    """A name that a row names, with what stands for the row's `*` and the carried `.weight` or `.bias`."""

    row: Row
    indices: tuple[str, ...]
    leaf: str

    @property
    def ours(self) -> tuple[str, ...]:
        return tuple(self.fill(pattern) for pattern in self.row.ours)

    def fill(self, pattern: str) -> str:
        return pattern.replace("*", "{}").format(*self.indices) + self.leaf


def expand(pattern: str) -> list[str]:
    """`a.{b,c}.d` -> [`a.b.d`, `a.c.d`]."""
    pieces = [piece.split(",") if i % 2 else [piece] for i, piece in enumerate(re.split(r"[{}]", pattern))]
    return ["".join(choice) for choice in product(*pieces)]


def rows(table: Table) -> list[Row]:
    """The rows of a table, expanded and checked. Raises ValueError naming a row whose two sides do not fit."""
    out: list[Row] = []
    for source, rule in table.items():
        theirs = expand(source)
        match rule:
            case None:
                new = [Row(source, name, ()) for name in theirs]
            case Computed(make):
                new = [Row(source, name, (), computed=make) for name in theirs]
            case Split(ours, transpose, sizes):
                parts = tuple(expand(ours))
                if len(theirs) != 1 or len(parts) < 2 or (sizes and len(sizes) != len(parts)):
                    raise ValueError(f"row {source!r}: Split takes one name of theirs to several of ours, got {rule}")
                new = [Row(source, theirs[0], parts, transpose, sizes)]
            case Transpose(ours) | Unsqueezed(ours) | Tied(ours) | str(ours):
                names = expand(ours)
                if len(names) != len(theirs):
                    raise ValueError(f"row {source!r}: {len(theirs)} names of theirs, {len(names)} of ours in {ours!r}")
                new = [
                    Row(source, t, (o,), isinstance(rule, Transpose), tied=isinstance(rule, Tied),
                        unsqueezed=isinstance(rule, Unsqueezed))
                    for t, o in zip(theirs, names, strict=True)
                ]  # fmt: skip
        for row in new:
            for pattern in (*variants(row.theirs), *row.ours):
                stars = [part for part in pattern.split(".") if "*" in part]
                if any(part != "*" for part in stars):
                    raise ValueError(f"row {source!r}: '*' stands for a whole part between dots, not so in {pattern!r}")
                if row.ours and len(stars) != row.theirs.count("*"):
                    raise ValueError(f"row {source!r}: {pattern!r} has {len(stars)} '*', its other side differs")
        out += new
    return out


def variants(pattern: str) -> list[str]:
    """`[a.]b` -> [`a.b`, `b`]: how it is written, then how it may also be read."""
    full, bare = re.sub(r"[\[\]]", "", pattern), re.sub(r"\[[^\]]*\]", "", pattern)
    return [full] if full == bare else [full, bare]


@dataclass
class Node:
    """A tree of dotted names, so that finding a name's rows costs its own length, however long the table.

    Names that differ in their numbers only, those of layers and experts, are looked up once, unless a row has a number.
    """

    rows: list[Row] = field(default_factory=list)
    children: dict[str, "Node"] = field(default_factory=dict)
    numbered: bool = False  # a row names a number
    found: dict[str, list[Match]] = field(default_factory=dict)  # by names with `*` for their numbers

    def add(self, pattern: str, row: Row) -> None:
        node = self
        for part in pattern.split("."):
            node = node.children.setdefault(part, Node())
            self.numbered |= part.isdecimal()
        node.rows.append(row)
        self.found.clear()

    def find(self, name: str) -> list[Match]:
        parts = name.split(".")
        if self.numbered or "*" in parts:
            return self._find(parts)
        numbers = tuple(part for part in parts if part.isdecimal())
        alike = ".".join("*" if part.isdecimal() else part for part in parts) if numbers else name
        if alike not in self.found:
            self.found[alike] = self._find(parts)
        return [Match(row, numbers, leaf) for row, _, leaf in self.found[alike]]

    def _find(self, parts: list[str]) -> list[Match]:
        matches = [Match(row, at, "") for row, at in self.walk(parts)]
        if parts[-1] in LEAVES:
            matches += [Match(row, at, "." + parts[-1]) for row, at in self.walk(parts[:-1])]
        return matches

    def walk(self, parts: list[str]) -> Iterator[tuple[Row, tuple[str, ...]]]:
        if not parts:
            yield from ((row, ()) for row in self.rows)
            return
        first, rest = parts[0], parts[1:]
        if first in self.children and first != "*":  # a star in a file's name stands for itself
            yield from self.children[first].walk(rest)
        if first.isdecimal() and "*" in self.children:
            yield from ((row, (first, *at)) for row, at in self.children["*"].walk(rest))


@lru_cache(maxsize=64)
def grown(table: tuple[tuple[str, Rule], ...], ours: bool) -> tuple[Node, dict[str, Row]]:
    """The rows of a table by our names, or by theirs: as a tree, and by their patterns."""
    tree, patterns = Node(), {}
    for row in rows(dict(table)):
        for pattern in (() if row.tied else row.ours) if ours else variants(row.theirs):
            tree.add(pattern, row)
            patterns[pattern] = row
    return tree, patterns


def only_match(tree: Node, name: str, patterns: Mapping[str, Row]) -> Match:
    """The one row that names `name`; ValueError with the nearest row, or with the rows that contend for it."""
    matches = tree.find(name)
    if len(matches) == 1:
        return matches[0]
    if matches:
        contenders = ", ".join(repr(match.row.source) for match in matches)
        raise ValueError(f"{name!r} is named by {len(matches)} rows of the table, not one: {contenders}")
    near = get_close_matches(re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", name), patterns, n=1, cutoff=0.0)
    nearest = f"; the nearest row is {patterns[near[0]].source!r}" if near else ""
    raise ValueError(f"no row of the table names {name!r}{nearest}")


Maker = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]
"""Makes the tensors of one row out of a state."""


class Translation(Mapping[str, Tensor]):
    """A state dict under other names: the names are settled at once, each tensor is made when it is read.

    Only the tensors of one row are held, so going through a file of any size needs little memory beside the result.
    `sources[name]` are the names in the state that a tensor is made of.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state
        self.sources: dict[str, tuple[str, ...]] = {}
        self._makers: dict[str, tuple[Maker, int]] = {}
        self._held: tuple[Maker | None, tuple[Tensor, ...]] = (None, ())

    def of(self, state: Mapping[str, Tensor]) -> "Translation":
        """The same names made of another state that has the same ones."""
        other = Translation(state)
        other.sources, other._makers = self.sources, self._makers
        return other

    def add(self, names: tuple[str, ...], sources: tuple[str, ...], make: Maker) -> None:
        for i, name in enumerate(names):
            if name in self.sources:
                both = f"{self.sources[name][0]!r} and {sources[0]!r}"
                raise ValueError(f"{both} both stand for {name!r}; one of them must be left out")
            self.sources[name] = sources
            self._makers[name] = (make, i)

    def __getitem__(self, name: str) -> Tensor:
        make, i = self._makers[name]
        if self._held[0] is not make:
            self._held = (None, ())  # let go before the next is made
            self._held = (make, make(self.state))
        tensor = self._held[1][i]
        if i == len(self._held[1]) - 1:
            self._held = (None, ())
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)


def load(state: Mapping[str, Tensor], table: Table) -> Translation:
    """Their state dict in our names. The tensors may share memory with the state's.

    Raises ValueError for a name that no row, or more than one, names, for a tensor that is not what is computed in its
    place, and, when it is read, for a tensor that does not split and for tied tensors that differ.
    """
    (tree, patterns), out = grown(tuple(table.items()), ours=False), Translation(state)
    matches = {name: only_match(tree, name, patterns) for name in state}
    copies: dict[str, list[str]] = {}  # of ours, under their further names
    for name, match in matches.items():
        if match.row.computed is not None:
            match.row.check_computed(state[name], name)
        if match.row.tied:
            copies.setdefault(match.ours[0], []).append(name)
    for name, match in matches.items():
        if match.row.ours and not match.row.tied:
            ours = match.ours
            twins = copies.pop(ours[0], []) if len(ours) == 1 else []
            out.add(ours, (name,), splitter(match.row, name, twins))
    for ours, (name, *twins) in copies.items():  # nobody else brings this tensor
        out.add((ours,), (name,), splitter(matches[name].row, name, twins))
    return out


def splitter(row: Row, name: str, twins: list[str]) -> Maker:
    """A function that reads one tensor of theirs and gives its parts; raises ValueError where tied twins differ."""

    def make(state: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        parts = row.split(state[name], name)
        for twin in twins:
            if not parts[0].is_meta and not torch.equal(parts[0], state[twin]):
                raise ValueError(f"{twin!r} and {name!r} are tied, one tensor under two names, but they differ")
        return parts

    return make


def save(state: Mapping[str, Tensor], table: Table) -> Translation:
    """Our state dict in their names: the same table, read from right to left.

    Raises ValueError for a name that no row, or more than one, names, and for a missing part of a `Split`.
    """
    (tree, patterns), out = grown(tuple(table.items()), ours=True), Translation(state)
    done: set[str] = set()
    for name in state:
        match = only_match(tree, name, patterns)
        theirs, parts = match.fill(variants(match.row.theirs)[0]), match.ours
        if theirs in done:
            continue
        if missing := [part for part in parts if part not in state]:
            raise ValueError(f"{theirs!r} is made of {', '.join(parts)}, but {', '.join(missing)} is missing")
        done.add(theirs)
        out.add((theirs,), parts, joiner(match.row, parts))
    return out


def joiner(row: Row, parts: tuple[str, ...]) -> Maker:
    """A function that reads our parts and gives their tensor."""
    return lambda state: (row.join(state[part] for part in parts),)
