"""What is written down while a model's cost is counted: calls of parts, and the memory that the backward pass needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Call:
    """One call of one part: FLOPs, and bytes read and written, of the forward pass."""

    name: str
    kind: str
    flops: int
    moved: int
    learns_input: bool = True  # whether its input has a gradient, which costs as much as the forward pass


@dataclass
class KeptMemory:
    """A piece of memory that the backward pass needs; `storage` is held so that no other gets its number.

    block: in which it was first kept. learned: bytes of weights used by then: those of the rest have gradients when
    the backward pass comes back to it. own: bytes of its gradient. beside: of the other gradients that are there while
    that is made.
    """

    storage: Any
    size: int
    block: int | None
    learned: int
    own: int = 0
    beside: int = 0


@dataclass
class Ledger:
    """What a forward pass costs, written down part by part: where it would run, in numbers of `size` bytes."""

    device: str
    size: int
    autocast: bool = False  # products in bfloat16, all else in float32
    entries: list[Call] = field(default_factory=list)
    kept: dict[int, "KeptMemory"] = field(default_factory=dict)  # storage -> what is known of it, in order
    inputs: dict[int, "KeptMemory"] = field(default_factory=dict)  # the same of what blocks are given
    block: int | None = None  # at work
    learned: int = 0  # bytes of the weights that products have used so far
    turns: int = 1  # how many parts of what is kept now have their gradients one after another, as experts do

    def add(self, name: str, kind: str, flops: int, moved: int, *, learns_input: bool = True) -> None:
        """Write down a call."""
        self.entries.append(Call(name, kind, int(flops), int(moved), learns_input))

    def keep(self, x: Tensor, block: int | None = None, *, beside: int = 0) -> None:
        """The backward pass needs `x`, for the block that is at work (or another): count its memory, once."""
        storage = x.untyped_storage()
        key, block = storage._cdata, self.block if block is None else block
        if key not in self.kept:
            size, own = storage.nbytes(), storage.nbytes() if x.is_floating_point() else 0
            self.kept[key] = KeptMemory(storage, size, block, self.learned, own // self.turns, beside // self.turns)

    def keep_bytes(self, count: int, block: int | None = None, *, beside: int = 0) -> None:
        """The backward pass needs so many bytes that no other part reads."""
        self.keep(torch.empty(int(count), dtype=torch.float8_e5m2, device="meta"), block, beside=beside)

    def streams(self) -> dict[int, int]:
        """Block -> bytes of what it is given first: its gradient is there while the block's is made."""
        first: dict[int, int] = {}
        for each in self.inputs.values():
            if each.block is not None:
                first.setdefault(each.block, each.size)
        return first


def most_held(kept: Sequence[KeptMemory], ledger: Ledger) -> int:
    """The most that a backward pass holds: max over i of Σ_(j ≤ i) s_j + g_i + g_(i+1) + b_i + x_i + those of weights.

    It goes from the last to the first; at i all behind it is freed, and there are the gradients g of i, of what i was
    used for, of what is made `beside` it (b), of the stream x that flows past a block, and of the weights behind i.
    """
    stream = ledger.streams()
    most, held = 0, 0
    for i, each in enumerate(kept):
        held += each.size
        behind = kept[i + 1].own if i + 1 < len(kept) else 0
        past = 0 if each.block is None else stream.get(each.block, 0)
        most = max(most, held + each.own + behind + each.beside + past + ledger.learned - each.learned)
    return most


def most_held_checkpointed(ledger: Ledger) -> int:
    """The same where blocks keep their input alone: what is given up to a block, and `most_held` of that block; or of
    what stands outside of blocks, when they are done."""
    outside = [each for key, each in ledger.kept.items() if each.block is None and key not in ledger.inputs]
    most = most_held(outside, ledger)
    for block in {each.block for each in ledger.kept.values() if each.block is not None}:
        there = [each for each in ledger.kept.values() if each.block == block]
        given = sum(each.size for each in ledger.inputs.values() if each.block is not None and each.block <= block)
        first = sum(each.size for each in outside if each.learned <= there[0].learned)
        most = max(most, given + first + most_held(there, ledger))
    return most


def recomputed(ledger: Ledger) -> int:
    """What the largest block keeps while its turn lasts, where blocks keep their input alone."""
    sizes: dict[int, int] = {}
    for each in ledger.kept.values():
        if each.block is not None:
            sizes[each.block] = sizes.get(each.block, 0) + each.size
    return max(sizes.values(), default=0)
