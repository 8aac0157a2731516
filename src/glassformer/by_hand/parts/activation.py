"""The non-linearities of feed-forward layers, each with its slope.

    gelu(x)      = x Φ(x)                                slope  Φ(x) + x φ(x)      (Hendrycks & Gimpel 2016)
    gelu_tanh(x) = x/2 (1 + T)                           slope  (1 + T)/2 + x/2 (1 − T²) u′
                   T = tanh(u),  u = √(2/π) (x + 0.044715 x³)                      (the same paper's approximation)
    silu(x)      = x σ(x)                                slope  σ (1 + x (1 − σ))  (Elfwing et al. 2017; "swish")
    relu(x)      = max(x, 0)                             slope  1 where x > 0

Φ and φ are the distribution function and density of the normal distribution, σ the logistic function.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.ops.erf import erf


@dataclass(frozen=True)
class Activation:
    """A function of one number, and its derivative."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]

    def __call__(self, x: Array) -> Array:
        return self.value(x)


def _normal_distribution(x: Array) -> Array:
    return 0.5 * (1 + erf(x * math.sqrt(0.5)))


def _normal_density(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _logistic(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))  # 1/(1 + exp(−x)), without its overflow


def _tanh_of_cubic(x: Array) -> Array:
    u = x * x
    u *= 0.044715 * math.sqrt(2 / math.pi)
    u += math.sqrt(2 / math.pi)
    u *= x
    return np.tanh(u, out=u)


def _gelu_tanh(x: Array) -> Array:
    y = _tanh_of_cubic(x)
    y += 1
    y *= x
    y *= 0.5
    return y


def _gelu_tanh_slope(x: Array) -> Array:
    tanh = _tanh_of_cubic(x)
    slope = x * x
    slope *= 3 * 0.044715 * math.sqrt(2 / math.pi)
    slope += math.sqrt(2 / math.pi)  # u′
    slope *= x
    slope *= 1 - tanh
    slope += 1
    tanh += 1
    slope *= tanh  # (1 + T)(1 + x (1 − T) u′) is (1 + T) + x (1 − T²) u′
    slope *= 0.5
    return slope


def _silu_slope(x: Array) -> Array:
    s = _logistic(x)
    return s * (1 + x * (1 - s))


gelu = Activation(lambda x: x * _normal_distribution(x), lambda x: _normal_distribution(x) + x * _normal_density(x))
gelu_tanh = Activation(_gelu_tanh, _gelu_tanh_slope)
relu = Activation(lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(x.dtype))
silu = Activation(lambda x: x * _logistic(x), _silu_slope)

ACTIVATIONS: dict[str, Activation] = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu, "silu": silu}
