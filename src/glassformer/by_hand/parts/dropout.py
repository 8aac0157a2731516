"""Dropout (Srivastava et al. 2014): while training, forget each number with probability p, and scale up the rest."""

import numpy as np
from numpy import ndarray as Array
from numpy.typing import DTypeLike

from glassformer.by_hand.parts.module import Module


class Dropout(Module):
    """y = x · keep, keep = 0 with probability p and 1/(1 − p) otherwise; y = x when not training."""

    def __init__(self, p: float) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"dropout p={p}; expected a probability from 0 to below 1")
        self.p = p
        self._random = np.random.default_rng(0)

    def keep(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array | None:
        """The factors, newly drawn; None where nothing is dropped."""
        if not self.training or self.p == 0:
            return None
        return (self._random.random(shape, np.float32) >= self.p).astype(dtype) / (1 - self.p)

    def forward(self, x: Array) -> Array:
        self._keep = self.keep(x.shape, x.dtype)
        return x if self._keep is None else x * self._keep

    def backward(self, dy: Array) -> Array:
        """dx = dy · keep"""
        return dy if self._keep is None else dy * self._keep
