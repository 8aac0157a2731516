"""The linear layer."""

from numpy import ndarray as Array
from numpy import zeros

from glassformer.by_hand.parts.embedding import Embedding
from glassformer.by_hand.parts.module import Module, Parameter


class Linear(Module):
    """y = x Wᵀ + b, with W of shape (out_dim, in_dim)."""

    def __init__(self, in_dim: int, out_dim: int, *, bias: bool = True) -> None:
        self.weight = Parameter(zeros((out_dim, in_dim), "f4"))
        self.bias = Parameter(zeros(out_dim, "f4")) if bias else None

    def forward(self, x: Array) -> Array:
        self._x = _rows(x)
        y = self._x @ self.weight.data.T
        if self.bias is not None:
            y += self.bias.data
        return y.reshape(*x.shape[:-1], -1)

    def backward(self, dy: Array) -> Array:
        """dW = dyᵀ x    db = Σ dy    dx = dy W"""
        rows = _rows(dy)
        self.weight.grad += rows.T @ self._x
        if self.bias is not None:
            self.bias.grad += rows.sum(0)
        return (rows @ self.weight.data).reshape(*dy.shape[:-1], -1)


class TiedLinear(Module):
    """y = x Eᵀ + b, with E the table of an embedding: the same parameter in two places (Press & Wolf 2017)."""

    def __init__(self, embedding: Embedding, *, bias: bool = False) -> None:
        self._embedding = embedding
        self.bias = Parameter(zeros(len(embedding.weight.data), "f4")) if bias else None

    @property
    def weight(self) -> Parameter:
        """The embedding's."""
        return self._embedding.weight

    def forward(self, x: Array) -> Array:
        self._x = _rows(x)
        y = self._x @ self.weight.data.T
        if self.bias is not None:
            y += self.bias.data
        return y.reshape(*x.shape[:-1], -1)

    def backward(self, dy: Array) -> Array:
        """dE = dyᵀ x    db = Σ dy    dx = dy E"""
        rows = _rows(dy)
        self.weight.grad += rows.T @ self._x
        if self.bias is not None:
            self.bias.grad += rows.sum(0)
        return (rows @ self.weight.data).reshape(*dy.shape[:-1], -1)


def _rows(x: Array) -> Array:
    """All leading axes as one: a single large product is quicker than many small ones."""
    return x.reshape(-1, x.shape[-1])
