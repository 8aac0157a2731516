"""What is written down while a model's cost is counted: calls of parts, and the memory that the backward pass needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Entry:
    """One call of one part: FLOPs, and bytes read and written, of the forward pass."""

    name: str
    kind: str
    flops: int
    moved: int
    learns_input: bool = True  # whether its input has a gradient, which costs as much as the forward pass


@dataclass
class Kept:
    """A piece of memory that the backward pass needs; `storage` is held so that no other gets its number.

    block: in which it was first kept. learned: bytes of weights used by then: those of the rest have gradients when
    the backward pass comes back to it.
    """

    storage: Any
    size: int
    block: int | None
    learned: int


@dataclass
class Ledger:
    """What a forward pass costs, written down part by part: where it would run, in numbers of `size` bytes."""

    device: str
    size: int
    autocast: bool = False  # products in bfloat16, all else in float32
    entries: list[Entry] = field(default_factory=list)
    kept: dict[int, "Kept"] = field(default_factory=dict)  # storage -> what is known of it, in order
    inputs: dict[int, "Kept"] = field(default_factory=dict)  # the same of what blocks are given
    block: int | None = None  # at work
    learned: int = 0  # bytes of the weights that products have used so far

    def add(self, name: str, kind: str, flops: int, moved: int, *, learns_input: bool = True) -> None:
        """Write down a call."""
        self.entries.append(Entry(name, kind, int(flops), int(moved), learns_input))

    def keep(self, x: Tensor, block: int | None = None) -> None:
        """The backward pass needs `x`, for the block that is at work (or another): count its memory, once."""
        storage = x.untyped_storage()
        key, block = storage._cdata, self.block if block is None else block
        if key not in self.kept:
            self.kept[key] = Kept(storage, storage.nbytes(), block, self.learned)

    def keep_bytes(self, count: int, block: int | None = None) -> None:
        """The backward pass needs so many bytes that no other part reads."""
        self.keep(torch.empty(int(count), dtype=torch.uint8, device="meta"), block)


def most_held(kept: Sequence[Kept], learned: int) -> int:
    """The most that a backward pass holds, max over i of Σ_(j ≤ i) s_j + s_i + s_(i+1) + gradients of weights behind i.

    It goes from the last to the first; at i all behind it is freed, and there are the gradients of i and of what i was
    used for. `learned` are the bytes of all weights.
    """
    most, held = 0, 0
    for i, each in enumerate(kept):
        held += each.size
        behind = kept[i + 1].size if i + 1 < len(kept) else 0
        most = max(most, held + each.size + behind + learned - each.learned)
    return most


def most_held_checkpointed(ledger: Ledger) -> int:
    """The same where blocks keep their input alone: what is given up to a block, and `most_held` of that block, whose
    output is there again, and its gradient."""
    outside = [each for key, each in ledger.kept.items() if each.block is None and key not in ledger.inputs]
    most = 0
    for block in {each.block for each in ledger.kept.values() if each.block is not None}:
        there = [each for each in ledger.kept.values() if each.block == block]
        given = sum(each.size for each in ledger.inputs.values() if each.block is not None and each.block <= block)
        coming = next((each.size for each in ledger.inputs.values() if each.block == block), 0)
        first = sum(each.size for each in outside if each.learned <= there[0].learned)
        most = max(most, given + first + 2 * coming + most_held(there, ledger.learned))
    return most


def recomputed(ledger: Ledger) -> int:
    """What the largest block keeps while its turn lasts, where blocks keep their input alone."""
    sizes: dict[int, int] = {}
    for each in ledger.kept.values():
        if each.block is not None:
            sizes[each.block] = sizes.get(each.block, 0) + each.size
    return max(sizes.values(), default=0)
