"""Tokens to vectors: one learned row per id."""

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.parts.module import Module, Parameter


class Embedding(Module):
    """y = W[ids], with W of shape (size, dim)."""

    def __init__(self, size: int, dim: int) -> None:
        self.weight = Parameter(np.zeros((size, dim), "f4"))

    def shared(self) -> "Embedding":
        """Another embedding with the same table: each remembers the ids that it was given, for its own backward."""
        other = Embedding(0, 0)
        other.weight = self.weight
        return other

    def forward(self, ids: Array) -> Array:
        self._ids = ids
        return self.weight.data[ids]

    def backward(self, dy: Array) -> None:
        """dW[i] = Σ dy over the places where ids = i; ids themselves have no gradient."""
        add_rows(self.weight.grad, self._ids, dy)


def add_rows(table: Array, ids: Array, rows: Array) -> None:
    """table[ids] += rows, where an id may come many times: rows of equal ids are brought together and summed first."""
    ids = np.broadcast_to(ids, rows.shape[:-1]).ravel()
    order = np.argsort(ids, kind="stable")
    found, starts = np.unique(ids[order], return_index=True)
    table[found] += np.add.reduceat(rows.reshape(-1, rows.shape[-1])[order], starts, axis=0)
