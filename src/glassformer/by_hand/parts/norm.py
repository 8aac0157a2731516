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
        """dweight = Σ dy · n      dbias = Σ dy      dx = (dn − mean(dn) − n · mean(dn · n)) / √(var + ε)

        The two means are what would move mean and variance, which the norm takes away.
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
        self._normal, self._inverse = _divided_by_root_mean_square(x, self.eps)
        return self._normal * self.weight.data

    def backward(self, dy: Array) -> Array:
        """dweight = Σ dy · n      dx = (dn − n · mean(dn · n)) / √(mean(x²) + ε)"""
        self.weight.grad += _sum_rows(dy * self._normal)
        return _through_root_mean_square(dy * self.weight.data, self._normal, self._inverse)


class ZeroCenteredRMSNorm(Module):
    """x / √(mean(x²) + ε) · (1 + weight): weight decay draws the gain to 1, not to 0."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        self.weight = Parameter(np.zeros(dim, "f4"))
        self.eps = eps

    def forward(self, x: Array) -> Array:
        self._normal, self._inverse = _divided_by_root_mean_square(x, self.eps)
        return self._normal * (1 + self.weight.data)

    def backward(self, dy: Array) -> Array:
        """As RMSNorm's, with dn = dy · (1 + weight)."""
        self.weight.grad += _sum_rows(dy * self._normal)
        return _through_root_mean_square(dy * (1 + self.weight.data), self._normal, self._inverse)


class UnitNorm(Module):
    """n = x / ‖x‖; of zeros, zeros. The product of two such vectors is their cosine."""

    def forward(self, x: Array) -> Array:
        self._inverse = 1 / np.maximum(np.sqrt(np.vecdot(x, x))[..., None], 1e-12)
        self._unit = x * self._inverse
        return self._unit

    def backward(self, dy: Array) -> Array:
        """dx = (dy − (dy · n) n) / ‖x‖: what would stretch x is taken away."""
        return (dy - self._unit * np.vecdot(dy, self._unit)[..., None]) * self._inverse


class ScaledUnitNorm(Module):
    """s x / ‖x‖ with a learned s = exp(log_scale) per head, at most 100  (Liu et al. 2022, equation 2)."""

    def __init__(self, num_heads: int) -> None:
        self.log_scale = Parameter(np.full((num_heads, 1, 1), np.log(10.0), "f4"))
        self.unit = UnitNorm()

    def forward(self, x: Array) -> Array:
        self._scale = np.exp(np.minimum(self.log_scale.data, np.log(100.0))).astype(x.dtype)
        self._normal = self.unit(x)
        return self._normal * self._scale

    def backward(self, dy: Array) -> Array:
        """d log_scale = s Σ dy · n over a head's vectors, where s may still grow; dx as UnitNorm's, of s dy."""
        grown = (dy * self._normal).sum((0, 2, 3), keepdims=True)[0] * self._scale
        self.log_scale.grad += grown * (self.log_scale.data <= np.log(100.0))
        return self.unit.backward(dy * self._scale)


def _divided_by_root_mean_square(x: Array, eps: float) -> tuple[Array, Array]:
    """n, and the factor that makes it of x."""
    inverse = 1 / np.sqrt(_mean_product(x, x) + eps)
    return x * inverse, inverse


def _through_root_mean_square(dn: Array, normal: Array, inverse: Array) -> Array:
    """dx from dn, in the memory of dn: what would stretch x as a whole is taken away."""
    dn -= normal * _mean_product(dn, normal)
    dn *= inverse
    return dn


def _mean(x: Array) -> Array:
    return x.sum(-1, keepdims=True) / x.shape[-1]


def _mean_product(x: Array, y: Array) -> Array:
    return np.vecdot(x, y)[..., None] / x.shape[-1]


def _sum_rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1]).sum(0)
