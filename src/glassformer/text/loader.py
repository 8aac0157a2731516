"""From a row of tokens to batches: shuffled without end for training, in order for evaluation."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from glassformer.foundation.resumable import Resumable
from glassformer.text.tokens import TokenFile, one_dimensional, smallest_dtype

IGNORED = -100  # a target that counts for nothing, as in torch's cross_entropy


class TokenBatch(NamedTuple):
    """`targets[b, t]` is the token that follows `inputs[b, t]`, or -100 where nothing is to be predicted."""

    inputs: Int64[Tensor, "b t"]
    targets: Int64[Tensor, "b t"]

    @property
    def counted(self) -> int:
        """How many targets count: the weight of this batch in a mean over several."""
        return int((self.targets != IGNORED).sum())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "TokenBatch":
        """The batch on another device."""
        return TokenBatch(
            self.inputs.to(device, non_blocking=non_blocking), self.targets.to(device, non_blocking=non_blocking)
        )


class TokenLoader(Resumable):
    """Batches for training, without end: epoch after epoch of windows in a new order.

    An epoch cuts the row into windows of `length` inputs that do not overlap, from an offset drawn for that epoch on
    (so that the cuts fall elsewhere each time), and shuffles them. Each window comes once in an epoch; a batch may hold
    the last of one epoch and the first of the next. What batch k holds depends on nothing but the seed and k.

    `batch_size` counts the rows of all ranks. Each rank gets batch_size / world_size of them: the batches of all ranks,
    one below the other, are the batch of a single rank, and a state saved by any number of ranks resumes on any other.

    Raises:
        ValueError: sizes that are not positive, ranks that do not divide the batch, a row shorter than one window.
    """

    def __init__(
        self,
        tokens: TokenFile | ArrayLike,
        *,
        batch_size: int,
        length: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        row, self._sha256 = _row_and_hash(tokens)
        self._rows = _rows_of_rank(len(row), batch_size, length, rank, world_size)
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed={seed!r} is not an integer from 0 on")
        self.batch_size, self.length, self.seed, self.step = batch_size, length, seed, 0
        self._count = len(row)
        self._windows = np.lib.stride_tricks.sliding_window_view(row, length + 1)  # (N - length, length + 1), no copy
        # A window short of what fits leaves room for the offset; the same number in every epoch lets us count.
        self.windows_per_epoch = max(1, (len(row) - length) // length)
        self._epoch_starts: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def epoch(self) -> int:
        """How many times all windows have been seen."""
        return self.step * self.batch_size // self.windows_per_epoch

    def __iter__(self) -> "TokenLoader":
        return self

    def __next__(self) -> TokenBatch:
        places = self.step * self.batch_size + self._rows
        epochs, within = np.divmod(places, self.windows_per_epoch)
        starts = np.concatenate([self._starts(int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)])
        self.step += 1
        return _batch(self._windows[starts])

    def _starts(self, epoch: int) -> NDArray[np.int64]:
        """Where the windows of an epoch begin, in its order."""
        if self._epoch_starts[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            room = self._count - 1 - self.windows_per_epoch * self.length
            offset = random.integers(0, min(room, self.length - 1), endpoint=True)
            self._epoch_starts = epoch, offset + self.length * random.permutation(self.windows_per_epoch)
        return self._epoch_starts[1]

    def identity(self) -> dict[str, Any]:
        """The same on every rank."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "length": self.length,
            "count": self._count,
            "sha256": self._sha256,
        }


class SequentialLoader:
    """Batches for evaluation: every token but the first is predicted exactly once, in order, the same each time.

    All batches have the shape (batch_size / world_size, length). Where the tokens end, the rest is filled up with
    targets that do not count (-100): weigh a batch's mean by `TokenBatch.counted`.
    """

    def __init__(
        self, tokens: TokenFile | ArrayLike, *, batch_size: int, length: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._tokens, _ = _row_and_hash(tokens)
        if len(self._tokens) < 2:
            raise ValueError(f"{len(self._tokens)} tokens are too few to evaluate on: it takes two to predict one")
        self._rows = _rows_of_rank(length + 1, batch_size, length, rank, world_size)
        self.batch_size, self.length = batch_size, length

    def __len__(self) -> int:
        return -(-(len(self._tokens) - 1) // (self.batch_size * self.length))

    def __iter__(self) -> Iterator[TokenBatch]:
        within = np.arange(self.length + 1)
        for step in range(len(self)):
            places = (step * self.batch_size + self._rows)[:, None] * self.length + within  # (b, length + 1)
            last = len(self._tokens) - 1
            batch = _batch(self._tokens[np.minimum(places, last)])
            batch.targets[torch.from_numpy(places[:, 1:] > last)] = IGNORED
            yield batch


def _batch(windows: NDArray[np.unsignedinteger]) -> TokenBatch:
    rows = torch.from_numpy(windows.astype(np.int64))
    return TokenBatch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())


def _row_and_hash(tokens: TokenFile | ArrayLike) -> tuple[NDArray[np.unsignedinteger], str]:
    if isinstance(tokens, TokenFile):
        return tokens.tokens, tokens.sha256
    row = one_dimensional(tokens)
    if row.size and row.min() < 0:
        raise ValueError(f"token ids start at 0, but there is {row.min()}")
    narrow = np.ascontiguousarray(row, dtype=smallest_dtype(int(row.max(initial=0)) + 1))
    return narrow, hashlib.sha256(narrow.data).hexdigest()


def _rows_of_rank(count: int, batch_size: int, length: int, rank: int, world_size: int) -> NDArray[np.int64]:
    """Which rows of each batch belong to this rank, after a look at all the numbers."""
    for name, value in {"batch_size": batch_size, "length": length, "world_size": world_size}.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r} is not a positive integer")
    if not isinstance(rank, int) or not 0 <= rank < world_size:
        raise ValueError(f"rank={rank!r} is not one of the {world_size} ranks, 0 to {world_size - 1}")
    if batch_size % world_size:
        raise ValueError(f"world_size={world_size} does not divide batch_size={batch_size}, the rows of all ranks")
    if count < length + 1:
        raise ValueError(
            f"{count} tokens are fewer than one window of length={length} and its last target ({length + 1}): "
            "take a longer text or a shorter length"
        )
    share = batch_size // world_size
    return np.arange(rank * share, (rank + 1) * share)
