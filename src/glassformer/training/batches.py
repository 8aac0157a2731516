"""Batches as mappings that a model takes by name, and where they come from: rows of a text, or single examples.

Every loader for training goes on without end; what its batch k holds depends on nothing but the seed and k, so that a
run resumes to the bit wherever it was stopped.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassformer.foundation.resumable import Resumable
from glassformer.text.loader import IGNORED, TokenBatch

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
POOL = 50  # batches whose examples are sorted by length together: little padding, and still another order each epoch


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What goes into `model(**inputs)`, which gives the mean loss over what counts of `inputs[target]`.

    Every input has one row per example: a tensor, or a list of tensors or of mappings of them, such as the objects of
    each picture. Of whole numbers the entries but `ignored` count; of anything else (objects, pixels) each row does.
    `units` is how much the model reads, in the task's unit: tokens without padding, pictures.
    """

    inputs: Mapping[str, Any]
    target: str
    units: int
    ignored: int = IGNORED

    def __len__(self) -> int:
        return len(self.inputs[self.target])

    @property
    def counted(self) -> int:
        """How many targets count: the weight of this batch in a mean over several."""
        target = self.inputs[self.target]
        if not isinstance(target, Tensor) or target.is_floating_point():
            return len(target)
        return int((target != self.ignored).sum())

    def rows(self, start: int, stop: int) -> "Batch":
        """Some of its rows."""
        inputs = {name: each[start:stop] for name, each in self.inputs.items()}
        return replace(self, inputs=inputs, units=self.units * len(inputs[self.target]) // len(self))

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on another device."""
        return replace(self, inputs={name: moved(each, device) for name, each in self.inputs.items()})


def moved(inputs: Any, device: torch.device | str) -> Any:
    """Tensors, and what holds them, on another device."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    if isinstance(inputs, Mapping):
        return {name: moved(each, device) for name, each in inputs.items()}
    return [moved(each, device) for each in inputs]


class Source(Protocol):
    """One batch after the other."""

    def __next__(self) -> Batch: ...


class Loader(Source, Protocol):
    """Batches for training, without end, with a state to go on from."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def next_token_batch(batch: TokenBatch) -> Batch:
    """Rows of a text, and the token that follows each."""
    inputs = {"input_ids": batch.inputs, "targets": batch.targets}
    return Batch(inputs=inputs, target="targets", units=batch.inputs.numel())


class Drawn(Protocol[T_co]):
    """Things to learn from, without end: what comes next depends on the seed and the step alone."""

    seed: int
    step: int

    def __next__(self) -> T_co: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class Rows(Generic[T]):
    """What is drawn (windows of a text, numbers of pictures) made into the task's batch: `make(drawn, random)`.

    The generator, for words to hide or pictures to turn, depends on the seed and the step alone.
    """

    def __init__(self, drawn: Drawn[T], make: Callable[[T, np.random.Generator], Batch]) -> None:
        self.drawn, self.make = drawn, make

    def __next__(self) -> Batch:
        random = np.random.default_rng([self.drawn.seed, self.drawn.step, 1])  # what is drawn has two numbers
        return self.make(next(self.drawn), random)

    def state_dict(self) -> dict[str, Any]:
        """The state of what is drawn."""
        return self.drawn.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where the state was taken. ValueError where it is of other data, sizes or seed."""
        self.drawn.load_state_dict(state)


class Counting(Resumable):
    """The numbers 0, 1, 2, … in batches, for what is made by its number and never comes again (generated pictures)."""

    def __init__(self, *, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} is not a positive integer")
        self.batch_size, self.seed, self.step = batch_size, seed, 0

    def __next__(self) -> NDArray[np.int64]:
        self.step += 1
        return np.arange((self.step - 1) * self.batch_size, self.step * self.batch_size)

    def identity(self) -> dict[str, Any]:
        """The sizes and the seed."""
        return {"batch_size": self.batch_size, "seed": self.seed}


class ExampleLoader(Resumable, Generic[T]):
    """Examples in batches of about the same length, without end: each comes once in an epoch, in a new order.

    An epoch shuffles the examples, sorts every `POOL` batches' worth of them by length, cuts these into batches and
    shuffles the batches. The last batch of an epoch's order may be smaller.

    Args:
        lengths: of the examples; what batches are made by.
        make: the batch of some examples, by their numbers (or whatever `Rows` makes it of).
        content: what the examples hold, for `fingerprint`: a state goes on through the same examples only.

    Raises:
        ValueError: there are no examples, or `batch_size` is not positive.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        make: Callable[[NDArray[np.int64]], T],
        *,
        batch_size: int,
        seed: int,
        content: object,
    ) -> None:
        if not len(lengths):
            raise ValueError("there is no example to learn from")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} is not a positive integer")
        self.lengths, self.make = np.asarray(lengths), make
        self.batch_size, self.seed, self.step = batch_size, seed, 0
        self.batches_per_epoch = -(-len(lengths) // batch_size)
        self._sha256 = fingerprint(content)
        self._epoch: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def __next__(self) -> T:
        epoch, place = divmod(self.step, self.batches_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self.order(epoch)
        self.step += 1
        return self.make(self._epoch[1][place])

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """The examples of each batch of an epoch, by their numbers."""
        random = np.random.default_rng([self.seed, epoch])
        shuffled, pool = random.permutation(len(self.lengths)), POOL * self.batch_size
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(shuffled), pool):
            some = shuffled[start : start + pool]
            batches += cut(some[np.argsort(self.lengths[some], kind="stable")], self.batch_size)
        return [batches[i] for i in random.permutation(len(batches))]

    def identity(self) -> dict[str, Any]:
        """The examples, their batches and their order."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "count": len(self.lengths),
            "sha256": self._sha256,
        }


class SortedBatches:
    """Examples for evaluation: each once, the short ones first, the same each time."""

    def __init__(self, lengths: Sequence[int], make: Callable[[NDArray[np.int64]], Batch], *, batch_size: int) -> None:
        if not len(lengths):
            raise ValueError("there is no example to evaluate on")
        self.make = make
        self.numbers = cut(np.argsort(np.asarray(lengths), kind="stable"), batch_size)
        """The examples of each batch."""

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Batch]:
        return (self.make(numbers) for numbers in self.numbers)


def cut(numbers: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """In pieces of `size`, the last perhaps shorter."""
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def fingerprint(content: object) -> str:
    """The SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def padded(rows: Iterable[Sequence[int]], value: int) -> Tensor:
    """(b, t) of the rows, filled up on the right with `value`."""
    rows = list(rows)
    filled = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for place, row in zip(filled, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(filled)


def presence(rows: Iterable[Sequence[int]]) -> Tensor:
    """(b, t) with 1 where a row has a token, 0 where it is padded."""
    lengths = torch.tensor([len(row) for row in rows])
    return (torch.arange(int(lengths.max())) < lengths[:, None]).long()
