"""Normalisation of each vector over its width d.

LayerNorm(x) = (x − mean) / √(var + ε) · weight + bias        (Ba et al. 2016)
RMSNorm(x)   = x / √(mean(x²) + ε) · weight                   (Zhang & Sennrich 2019)
"""

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.parts.module import Module, Parameter


class LayerNorm(Module):
    """(x − mean) / √(var + ε) · weight + bias."""

    def __init__(self, dim: int, eps: float = 1e-5, *, bias: bool = True) -> None:
        self.weight = Parameter(np.ones(dim, "f4"))
        self.bias = Parameter(np.zeros(dim, "f4")) if bias else None
        self.eps = eps

    def forward(self, x: Array) -> Array:
        self._normal = x - _mean(x)
        self._inverse = 1 / np.sqrt(_mean_product(self._normal, self._normal) + self.eps)
        self._normal *= self._inverse
        y = self._normal * self.weight.data
        if self.bias is not None:
            y += self.bias.data
        return y

    def backward(self, dy: Array) -> Array:
        """With n = (x − mean)/√(var + ε) and dn = dy · weight:

            dweight = Σ dy · n      dbias = Σ dy      dx = (dn − mean(dn) − n · mean(dn · n)) / √(var + ε)

        the two means are what moves mean and variance, which the norm takes away.
        """
        self.weight.grad += _sum_rows(dy * self._normal)
        if self.bias is not None:
            self.bias.grad += _sum_rows(dy)
        dx = dy * self.weight.data
        along = _mean_product(dx, self._normal)
        dx -= _mean(dx)
        dx -= self._normal * along
        dx *= self._inverse
        return dx


class RMSNorm(Module):
    """x / √(mean(x²) + ε) · weight."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        self.weight = Parameter(np.ones(dim, "f4"))
        self.eps = eps

    def forward(self, x: Array) -> Array:
        self._inverse = 1 / np.sqrt(_mean_product(x, x) + self.eps)
        self._normal = x * self._inverse
        return self._normal * self.weight.data

    def backward(self, dy: Array) -> Array:
        """dweight = Σ dy · n      dx = (dn − n · mean(dn · n)) / √(mean(x²) + ε),      dn = dy · weight"""
        self.weight.grad += _sum_rows(dy * self._normal)
        dx = dy * self.weight.data
        dx -= self._normal * _mean_product(dx, self._normal)
        dx *= self._inverse
        return dx


def _mean(x: Array) -> Array:
    return x.sum(-1, keepdims=True) / x.shape[-1]


def _mean_product(x: Array, y: Array) -> Array:
    return np.vecdot(x, y)[..., None] / x.shape[-1]


def _sum_rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1]).sum(0)
