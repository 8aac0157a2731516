"""The linear product y = x Wᵀ + b and the kernels that compute it.

A kernel is an object held by one layer: it may keep a packed copy of that layer's weight, which it makes again whenever
the weight changes. It decides how the product is computed; the parameters of the layer stay plain.

    reference   F.linear                                            every dtype and device
    onednn      oneDNN, packed for inference, with gradients        float32, bfloat16 on the CPU
    measured    the faster of the two on this machine, measured once    as reference
    bfloat16    a packed bfloat16 copy of the weight                inference on the CPU
    int8        one scale per row of W, bfloat16 activations        inference on the CPU
    int4        a scale and a zero per group of 32, the same        inference on the CPU
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from glassformer.foundation.suggest import did_you_mean
from glassformer.ops import machine
from glassformer.ops.linear_largest import Largest
from glassformer.ops.linear_onednn import (
    POINTWISE,
    Biases,
    OneDNN,
    Weights,
    asks_for_gradients,
    split,
    stacked,
    traced,
    train,
    working_dtype,
)
from glassformer.ops.linear_quantized import BFloat16, Int4, Int8


class LinearKernel(Protocol):
    """Computes y = x Wᵀ + b in the dtype of x (under autocast: in autocast's, as F.linear does)."""

    def __call__(
        self, x: Float[Tensor, "*rows i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None
    ) -> Float[Tensor, "*rows o"]: ...


class JointKernel(LinearKernel, Protocol):
    """A kernel that can compute the products of several layers with one x, such as queries, keys and values, at once.

    The result is that of calling the kernel for each weight (to rounding). Where no gradient is asked for it is one
    product, packed once: at one row q, k, v of GPT-2 take 0.6 to 0.9 of the time. With gradients it is one product
    with the weights laid below one another, and the gradient of x one product instead of a sum of three. All the
    kernels here are such.
    """

    def together(
        self, x: Float[Tensor, "*rows i"], weights: Weights, biases: Biases
    ) -> tuple[Float[Tensor, "*rows _"], ...]: ...


class Reference:
    """y = x Wᵀ + b by torch.nn.functional.linear: every dtype, every device."""

    def __call__(
        self, x: Float[Tensor, "*rows i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None
    ) -> Float[Tensor, "*rows o"]:
        return F.linear(x, weight, bias)

    def together(
        self, x: Float[Tensor, "*rows i"], weights: Weights, biases: Biases
    ) -> tuple[Float[Tensor, "*rows _"], ...]:
        """Each product by itself."""
        return tuple(F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))

    def forget(self) -> None:
        """It holds nothing."""


class Measured:
    """The faster of `reference` and `onednn` on this machine: for one row, few, many and with gradients, by size.

    What is faster was measured once and is kept in the user's cache folder (see `ops/machine.py`); `glassformer doctor`
    shows it. What oneDNN does not take (other dtypes and devices, tensor subclasses) goes to the reference.
    """

    def __init__(self) -> None:
        self._onednn = OneDNN()
        self.largest = Largest()

    def __call__(
        self, x: Float[Tensor, "*rows i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None
    ) -> Float[Tensor, "*rows o"]:
        if traced():
            return F.linear(x, weight, bias)
        y = self._onednn.again(x, (weight,), bias)
        if y is not None:
            return y
        dtype = working_dtype(x, weight)
        if dtype is None:
            return F.linear(x, weight, bias)
        work = x.numel() * weight.shape[0]  # multiply-adds
        if asks_for_gradients(x, weight, bias):
            if work >= machine.onednn_pays_from(dtype, "training"):
                return train(x, weight, bias, dtype)
        elif work >= machine.onednn_pays_from(dtype, machine.case_of(x.numel() // weight.shape[-1])):
            return self._onednn.infer(x, (weight,), bias, dtype)
        return F.linear(x, weight, bias)

    def together(
        self, x: Float[Tensor, "*rows i"], weights: Weights, biases: Biases
    ) -> tuple[Float[Tensor, "*rows _"], ...]:
        """Several products of one x: as one with gradients, and without them where oneDNN is faster."""
        if traced():
            return tuple(self(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))
        bias = stacked(biases, weights)
        y = self._onednn.again(x, weights, bias)
        if y is not None:
            return split(y, weights)
        dtype = working_dtype(x, *weights)
        if dtype is not None:
            if asks_for_gradients(x, *weights, *biases):
                return split(self(x, torch.cat(list(weights)), bias), weights)
            work = x.numel() * sum(weight.shape[0] for weight in weights)
            if work >= machine.onednn_pays_from(dtype, machine.case_of(x.numel() // weights[0].shape[-1])):
                return split(self._onednn.infer(x, weights, bias, dtype), weights)
        return tuple(self(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))

    def activated(
        self, x: Float[Tensor, "*rows i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None, name: str
    ) -> Float[Tensor, "*rows o"] | None:
        """The product with an activation, where oneDNN is faster and applies it on the way; else None."""
        if traced():
            return None
        y = self._onednn.again(x, (weight,), bias, POINTWISE[name]) if name in POINTWISE else None
        if y is not None:
            return y
        dtype = working_dtype(x, weight)
        if dtype is None:
            return None
        case = machine.case_of(x.numel() // weight.shape[-1])
        if x.numel() * weight.shape[0] < machine.onednn_pays_from(dtype, case):
            return None
        return self._onednn.activated(x, weight, bias, name)

    def learns_from(self) -> float:
        """The number of multiply-adds from which layers learn as one (`ops/sublayers.py`): where oneDNN is faster."""
        return machine.onednn_pays_from(torch.float32, "training")

    def forget(self) -> None:
        """Drop the packed copies; the next call packs anew."""
        self._onednn.forget()
        self.largest.forget()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()


LINEAR: dict[str, Callable[[], JointKernel]] = {
    "measured": Measured,
    "reference": Reference,
    "onednn": OneDNN,
    "bfloat16": BFloat16,
    "int8": Int8,
    "int4": Int4,
}


def linear_kernel(name: str = "measured") -> JointKernel:
    """A new kernel for one layer. Raises ValueError for an unknown name."""
    if name not in LINEAR:
        raise ValueError(f"unknown linear kernel {name!r}{did_you_mean(name, LINEAR)}; there are {', '.join(LINEAR)}")
    return LINEAR[name]()
