"""Which module of one model corresponds to which of another: by names, by checkpoint tables, by order and values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import Node, rows, variants
from glassformer.parts import TiedLinear
from glassformer.tracing.points import ForwardPass

Part = tuple[int, int] | None
"""The columns of an output that count: several layers may be fused into one. None is all of them."""


@dataclass(frozen=True)
class Pair:
    """Two modules that should compute the same, `a_part` and `b_part` of their outputs."""

    a: str
    b: str
    a_part: Part = None
    b_part: Part = None


@dataclass(frozen=True)
class Alignment:
    """The pairs, and how they were found."""

    pairs: tuple[Pair, ...]
    how: str

    def of_a(self, path: str) -> Pair | None:
        return next((pair for pair in self.pairs if pair.a == path), None)


def align(a: ForwardPass, b: ForwardPass, names: Mapping[str, str] | None = None) -> Alignment:
    """The pairs of two runs. Raises ValueError for a name in `names` that a model has not, with the nearest."""
    chosen = [Pair(left, right) for left, right in (names or {}).items()]
    for one, run, paths in (("a", a, names or {}), ("b", b, (names or {}).values())):
        for path in paths:
            if path not in run.modules:
                near = get_close_matches(path, run.modules, n=3, cutoff=0.3)
                raise ValueError(f"{one} has no module {path!r} (nearest: {', '.join(near) or 'none'})")
    found, how = _by_name(a, b), "by equal names"
    if found is None:
        found, how = _by_table(a, b), "by the checkpoint table"
    if found is None:
        found, how = _by_values(a, b), "by values, shapes and order"
    taken_a, taken_b = {pair.a for pair in chosen}, {pair.b for pair in chosen}
    rest = [pair for pair in found if pair.a not in taken_a and pair.b not in taken_b and (pair.a or pair.b)]
    return Alignment((*chosen, *rest, Pair("", "")), how + (f", {len(chosen)} as told" if chosen else ""))


def leaves(run: ForwardPass) -> list[str]:
    """The modules that ran and hold parameters themselves, in the order in which they ran."""

    def holds(module: nn.Module) -> bool:
        return isinstance(module, TiedLinear) or next(module.parameters(recurse=False), None) is not None

    return [path for path in run.order() if holds(run.modules[path])]


def _by_name(a: ForwardPass, b: ForwardPass) -> list[Pair] | None:
    """Every module that both have, where most of those with parameters have the same name."""
    mine, theirs = leaves(a), set(leaves(b))
    if not mine or sum(path in theirs for path in mine) < 0.5 * max(len(mine), len(theirs)):
        return None
    return [Pair(path, path) for path in a.modules if path in b.modules]


# -- checkpoint tables -------------------------------------------------------------------------------------------------


def _by_table(a: ForwardPass, b: ForwardPass) -> list[Pair] | None:
    """Where one of the two is ours and the other's parameters are named by its table."""
    for ours, theirs, turned in ((a, b, False), (b, a, True)):
        if not isinstance(ours.model, Pretrained) or isinstance(theirs.model, Pretrained):
            continue
        pairs = list(_through_table(ours.model, theirs.model))
        if len({pair.a for pair in pairs}) >= 0.5 * len(leaves(ours)):
            return [Pair(pair.b, pair.a, pair.b_part, pair.a_part) for pair in pairs] if turned else pairs
    return None


def _through_table(ours: Any, theirs: nn.Module) -> Iterator[Pair]:
    tree = Node()
    for row in rows(ours._table(ours.config)):
        for pattern in variants(row.theirs):
            tree.add(pattern, row)
    names: dict[str, tuple[str, ...]] = {}
    heads = [path for path, module in ours.named_modules() if isinstance(module, TiedLinear)]
    done: tuple[set[str], set[str]] = set(heads), set()
    tied: list[str] = []
    for name, width in sorted(_widths(theirs), key=lambda each: not each[0].endswith("weight")):  # a bias may be apart
        matches = tree.find(name)
        path = name.rpartition(".")[0]
        if len(matches) != 1 or not matches[0].row.ours:
            continue
        match = matches[0]
        if match.row.tied:
            tied += [path] if matrix(theirs.get_submodule(path)) is not None else []
            continue
        here = [each.rpartition(".")[0] for each in match.ours]
        names[name] = match.ours
        if path in done[1] or done[0] & set(here):
            continue
        sizes, start = match.row.sizes or (width[match.row.transpose] // len(here),) * len(here), 0
        for mine, size in zip(here, sizes, strict=True):
            yield Pair(mine, path, None, None if len(here) == 1 else (start, start + size))
            start += size
        done[0].update(here)
        done[1].add(path)
    loose = [path for path, module in ours.named_modules() if matrix(module) is not None and path not in done[0]]
    heads = heads or loose
    if len(heads) == 1 and tied:  # tied, or with a weight of its own by mistake
        yield Pair(heads[0], tied[0])
    yield from _containers(ours, theirs, names)


def _widths(model: nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each parameter's name with its first and last size; layers that hold none, perhaps by mistake, as if they did."""
    for name, tensor in (*model.named_parameters(remove_duplicate=False), *model.named_buffers()):
        yield name, (tensor.shape[0], tensor.shape[-1]) if tensor.ndim else (0, 0)
    for path, module in model.named_modules():
        if next(module.children(), None) is None and next(module.parameters(recurse=False), None) is None:
            yield f"{path}.weight", (0, 0)


def _containers(ours: nn.Module, theirs: nn.Module, names: Mapping[str, tuple[str, ...]]) -> Iterator[Pair]:
    """Modules that hold others, paired where they hold the same parameters."""
    held: dict[frozenset[str], list[str]] = {}
    for path, module in theirs.named_modules():
        mapped = [names.get(f"{path}.{name}" if path else name) for name, _ in module.named_parameters()]
        if path and next(module.children(), None) is not None and mapped and None not in mapped:
            held.setdefault(frozenset(each for group in mapped for each in group or ()), []).append(path)
    for path, module in ours.named_modules():
        if path and next(module.children(), None) is not None:
            mine = frozenset(f"{path}.{name}" for name, _ in module.named_parameters())
            if held.get(mine):
                yield Pair(path, held[mine].pop(0))


# -- order, shapes, values ---------------------------------------------------------------------------------------------


def _by_values(a: ForwardPass, b: ForwardPass) -> list[Pair]:
    """Leaves in the order of execution: those that hold equal tensors, then those whose shapes line up between them."""
    mine, theirs = leaves(a), leaves(b)
    left = [_mark(a.modules[path]) for path in mine]
    right = [_mark(b.modules[path]) for path in theirs]
    matched: dict[int, int] = {}
    for i, mark in enumerate(left):
        if left.count(mark) == right.count(mark) == 1:
            matched[i] = right.index(mark)
    matcher = SequenceMatcher(None, [m[0] for m in left], [m[0] for m in right], autojunk=False)
    for start_a, start_b, size in matcher.get_matching_blocks():
        for i in range(size):
            if start_b + i not in matched.values():
                matched.setdefault(start_a + i, start_b + i)
    pairs = [Pair(mine[i], theirs[j]) for i, j in matched.items()]
    free_a = [path for i, path in enumerate(mine) if i not in matched]
    free_b = [path for j, path in enumerate(theirs) if j not in matched.values()]
    pairs += _fused(a, b, free_a, free_b)
    pairs += [Pair(p.b, p.a, p.b_part, p.a_part) for p in _fused(b, a, free_b, free_a)]
    if not pairs:
        raise ValueError(
            f"no layer of a, {type(a.model).__name__}, has the shape of one of b, {type(b.model).__name__}; "
            "names={'a.path': 'b.path'} says what corresponds"
        )
    return [*pairs, *_holders(a, b, pairs)]


def _holders(a: ForwardPass, b: ForwardPass, pairs: list[Pair]) -> Iterator[Pair]:
    """Modules that hold others, paired where what they hold is."""
    counterparts: dict[str, set[str]] = {}
    for pair in pairs:
        counterparts.setdefault(pair.a, set()).add(pair.b)
    mine, theirs = leaves(a), leaves(b)
    held: dict[frozenset[str], list[str]] = {}
    for path in b.modules:
        within = frozenset(leaf for leaf in theirs if leaf.startswith(f"{path}."))
        if path and within:
            held.setdefault(within, []).append(path)
    for path in a.modules:
        within = [counterparts.get(leaf) for leaf in mine if leaf.startswith(f"{path}.")]
        found = frozenset(each for group in within for each in group or ())
        if path and within and None not in within and held.get(found):
            yield Pair(path, held[found].pop(0))


def _mark(module: nn.Module) -> tuple[Any, ...]:
    """Shapes up to transposition; and sums that say which tensors these are, whatever the order of their entries."""
    held = [module.weight] if isinstance(module, TiedLinear) else list(module.parameters(recurse=False))
    shapes = tuple(sorted(tuple(sorted(tensor.shape)) for tensor in held if tensor.ndim > 1)) or tuple(
        tuple(tensor.shape) for tensor in held[:1]
    )
    sums = tuple(f"{tensor.detach().double().square().sum().item():.4e}" for tensor in held)
    return shapes, type(module).__name__ if isinstance(module, nn.Embedding) else "", sums


def _fused(a: ForwardPass, b: ForwardPass, free_a: list[str], free_b: list[str]) -> list[Pair]:
    """One layer of `a` that holds the rows of several of `b`, one behind the other."""
    pairs = []
    for path in free_a:
        whole = matrix(a.modules[path])
        if whole is None:
            continue
        start, found = 0, []
        while start < whole.shape[0]:
            fits = [
                each for each in free_b
                if (m := matrix(b.modules[each])) is not None
                and m.shape == whole[start : start + m.shape[0]].shape
                and torch.allclose(m.double(), whole[start : start + m.shape[0]].double(), atol=1e-6)
            ]  # fmt: skip
            if not fits:
                break
            rows_here = matrix(b.modules[fits[0]]).shape[0]  # type: ignore[union-attr]
            found.append(Pair(path, fits[0], (start, start + rows_here), None))
            start += rows_here
        if start == whole.shape[0]:
            pairs += found
    return pairs


def matrix(module: nn.Module) -> Tensor | None:
    """The weight of a linear layer, output rows first; None for what is none."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or is_embedding(module):
        return None
    return weight.detach().T if type(module).__name__ == "Conv1D" else weight.detach()


def is_embedding(module: nn.Module) -> bool:
    """Whether it looks vectors up by a number."""
    name = type(module).__name__
    return isinstance(module, nn.Embedding) or name.endswith("Embedding") or name == "LearnedPosition"
