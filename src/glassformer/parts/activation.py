"""The non-linearities of feed-forward layers.

gelu(x)      = x Φ(x), Φ the normal distribution function            (Hendrycks & Gimpel 2016)
gelu_tanh(x) = x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))              (the same paper's approximation: GPT-1, GPT-2)
silu(x)      = x σ(x)                                                (Elfwing et al. 2017; "swish")
relu(x)      = max(x, 0)
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from glassformer.ops.sublayers import LearnedActivation

Activation = Callable[[Tensor], Tensor]


def gelu(x: Tensor) -> Tensor:
    """x Φ(x), exactly."""
    return F.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation."""
    learns = x.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if learns and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64, torch.bfloat16):
        return _GELUTanh.apply(x)  # pyright: ignore[reportReturnType]
    return F.gelu(x, approximate="tanh")


class _GELUTanh(Function):
    """The forward pass computes the slope too, all that the backward pass needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y, slope = _gelu_tanh_and_slope(x)
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,) = ctx.saved_tensors
        return slope * dy


def _gelu_tanh_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """(1 + tanh z)/2 = σ(2z), so y = x σ(u) with u = c (x + 0.044715 x³), c = 2√(2/π); y' = σ + σ (1 − σ) x u'.

    x u' = 3 (u − 2c/3 x). In float32 at least. PyTorch's own on a CPU takes 2.5 times as long, forward and backward,
    because of its tanh.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    u = torch.addcmul(wide.new_tensor(_C), wide, wide, value=_C * 0.044715).mul_(wide)
    sigmoid = u.sigmoid()
    third = u.sub_(wide, alpha=2 * _C / 3)  # x u' / 3
    third.addcmul_(third, sigmoid, value=-1)
    slope = torch.addcmul(sigmoid, sigmoid, third, value=3, out=third)
    return sigmoid.mul_(wide).to(x.dtype), slope.to(x.dtype)


_C = 2 * math.sqrt(2 / math.pi)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return F.relu(x)


def silu(x: Tensor) -> Tensor:
    """x σ(x)."""
    return F.silu(x)


LEARNED: dict[Activation, LearnedActivation] = {
    gelu: LearnedActivation(
        lambda x: (F.gelu(x), x), lambda dy, x: torch.ops.aten.gelu_backward.grad_input(dy, x, grad_input=dy)
    ),
    gelu_tanh: LearnedActivation(_gelu_tanh_and_slope, Tensor.mul_),
    relu: LearnedActivation(
        lambda x: (F.relu(x), x), lambda dy, x: torch.ops.aten.threshold_backward.grad_input(dy, x, 0, grad_input=dy)
    ),
    silu: LearnedActivation(
        lambda x: (F.silu(x), x), lambda dy, x: torch.ops.aten.silu_backward.grad_input(dy, x, grad_input=dy)
    ),
}
"""How they learn where a layer writes its own backward pass."""

ACTIVATIONS: dict[str, Activation] = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu, "silu": silu}
