"""The linear product through oneDNN (github.com/uxlfoundation/oneDNN), packed or with gradients.

PyTorch sends a float32 product on the CPU to MKL, which is slow on CPUs that Intel did not make; oneDNN, which ships
inside PyTorch and serves its bfloat16, is about twice as fast there. It is reached in two ways: by the private
operators `torch.ops.mkldnn._linear_pointwise` and `_reorder_linear_weight`; and in the backward pass, where the
operator would first copy a transpose, by torch.mm under the switch of `ops/linear_switch.py`.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from glassformer.ops.linear_packed import Packed
from glassformer.ops.linear_switch import onednn_matmul, onednn_matmul_is_exact

Weights = Sequence[Float[Tensor, "_ i"]]
Biases = Sequence[Float[Tensor, " _"] | None]
POINTWISE = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", ""), "silu": ("swish", "")}
"""What the operator can apply to each number as it writes it: our names -> its words."""
PLAIN = (Tensor, torch.nn.Parameter)  # a subclass (fake, distributed, quantized) has its own products


def _operator(name: str) -> Any:
    packet = getattr(torch.ops.mkldnn, name, None)
    return None if packet is None else packet.default


# Private names: a later PyTorch may not have them. Then `missing()` says so and the operators are not called.
_product, _reorder = _operator("_linear_pointwise"), _operator("_reorder_linear_weight")
_transforms = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: None)


@cache
def missing() -> str | None:
    """None where oneDNN's product can be called, else the reason why not, in a sentence."""
    if not torch.backends.mkldnn.is_available():
        return "this PyTorch was built without oneDNN"
    if _product is None or _reorder is None:
        return f"PyTorch {torch.__version__} has no torch.ops.mkldnn._linear_pointwise or _reorder_linear_weight"
    weight = torch.full((16, 16), 0.5)
    try:
        right = bool((product(torch.ones(2, 16), pack(weight, weight.dtype), None) == 8).all())
    except (RuntimeError, TypeError) as error:
        return f"torch.ops.mkldnn._linear_pointwise of PyTorch {torch.__version__} failed: {str(error).splitlines()[0]}"
    return None if right else f"torch.ops.mkldnn._linear_pointwise of PyTorch {torch.__version__} gave a wrong product"


class Affine(NamedTuple):
    """y = x Wᵀ + b."""

    weight: Float[Tensor, "o i"]
    bias: Float[Tensor, " o"] | None


class Last(NamedTuple):
    """What the last call without gradients was about, beside its weights."""

    shape: torch.Size
    dtype: torch.dtype
    pointwise: tuple[str, str]


PLAINLY = ("none", "")


class OneDNN:
    """y = x Wᵀ + b in float32 or bfloat16 on the CPU.

    Without gradients the weight is packed once into oneDNN's own layout (a second copy of it in memory); with them
    both products of the backward pass go through oneDNN too. CPU autocast is honoured as in F.linear. Inside
    `torch.compile` and `torch.func` transforms, which cannot see into it, it is F.linear.

    Raises ValueError for another dtype or device, and where this PyTorch lacks the operators. Gradients of gradients
    are not defined.
    """

    def __init__(self) -> None:
        self._packed = Packed(pack)
        self._last: Last | None = None

    def __call__(
        self, x: Float[Tensor, "*rows i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None
    ) -> Float[Tensor, "*rows o"]:
        if traced():
            return F.linear(x, weight, bias)
        dtype = working_dtype(x, weight)
        if dtype is None or missing():
            raise _refusal(x, weight)
        if asks_for_gradients(x, weight, bias):
            return train(x, weight, bias, dtype)
        return self.infer(x, (weight,), bias, dtype)

    def together(
        self, x: Float[Tensor, "*rows i"], weights: Weights, biases: Biases
    ) -> tuple[Float[Tensor, "*rows _"], ...]:
        """Several products of one x, as one product with all the rows of W."""
        if traced():
            return tuple(self(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))
        dtype, bias = working_dtype(x, *weights), stacked(biases, weights)
        if dtype is None or missing():
            raise _refusal(x, weights[0])
        if asks_for_gradients(x, *weights, *biases):
            return split(train(x, torch.cat(list(weights)), bias, dtype), weights)
        return split(self.infer(x, weights, bias, dtype), weights)

    def activated(
        self, x: Float[Tensor, "*rows i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None, name: str
    ) -> Float[Tensor, "*rows o"] | None:
        """f(x Wᵀ + b) for the activation of a name, while the product is written; None where it is not done so.

        It is without gradients, outside traced code: there nobody needs what f is applied to.
        """
        dtype = None if traced() or name not in POINTWISE else working_dtype(x, weight)
        if dtype is None or missing() or asks_for_gradients(x, weight, bias):
            return None
        return self.infer(x, (weight,), bias, dtype, POINTWISE[name])

    def learns_from(self) -> float:
        """The number of multiply-adds from which layers learn as one (`ops/sublayers.py`)."""
        return math.inf if missing() else 0

    def infer(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        bias: Tensor | None,
        dtype: torch.dtype,
        pointwise: tuple[str, str] = PLAINLY,
    ) -> Tensor:
        """The product in `dtype`, by the packed rows of all the weights, without gradients."""
        if x.dtype is not dtype:
            x = x.to(dtype)
        if bias is not None and bias.dtype is not dtype:
            bias = bias.to(dtype)
        self._last = Last(x.shape, dtype, pointwise)
        try:
            return _product(x, self._packed(dtype, *weights), bias, pointwise[0], [], pointwise[1])
        except RuntimeError:
            F.linear(x, torch.cat(list(weights)).to(dtype), bias)  # where the shapes do not fit, its message says how
            raise

    def again(
        self, x: Tensor, weights: Sequence[Tensor], bias: Tensor | None, pointwise: tuple[str, str] = PLAINLY
    ) -> Tensor | None:
        """The product, where all but the numbers is as at the last call; else None. Not for traced code.

        So it is at each step of decoding, where a look at everything takes as long as a small product.
        """
        last = self._last
        if (
            last is None
            or x.shape != last.shape
            or x.dtype is not last.dtype
            or pointwise is not last.pointwise
            or not torch.is_inference_mode_enabled()
            or torch.is_autocast_enabled("cpu")
            or type(x) not in PLAIN
            or not x.is_cpu
            or (bias is not None and bias.dtype is not last.dtype)
        ):
            return None
        packed = self._packed.held(last.dtype, weights)
        return None if packed is None else _product(x, packed, bias, pointwise[0], [], pointwise[1])

    def forget(self) -> None:
        """Drop the packed copy; the next call packs anew."""
        self._packed.forget()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()  # a copied or unpickled kernel packs its own weight


def traced() -> bool:
    """Whether torch.compile, torch.export or a torch.func transform is looking."""
    return torch.compiler.is_compiling() or _transforms() is not None


def asks_for_gradients(*tensors: Tensor | None) -> bool:
    """Whether a gradient will be wanted of one of them."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def stacked(biases: Sequence[Tensor | None], weights: Sequence[Tensor]) -> Tensor | None:
    """The biases of several layers as one, 0 where a layer has none; None where none has."""
    if all(bias is None for bias in biases):
        return None
    pairs = zip(biases, weights, strict=True)
    return torch.cat([weight.new_zeros(weight.shape[0]) if bias is None else bias for bias, weight in pairs])


def split(y: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The outputs that belong to each weight (views)."""
    return y.split([weight.shape[0] for weight in weights], -1)


def working_dtype(x: Tensor, *weights: Tensor) -> torch.dtype | None:
    """The dtype in which oneDNN computes x Wᵀ (under autocast: autocast's), or None where it does not take them."""
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else x.dtype
    if dtype is not torch.float32 and dtype is not torch.bfloat16:
        return None
    for tensor in (x, *weights):
        # Autocast leaves float64 as it is.
        if tensor.dtype is not dtype and (not autocast or tensor.dtype is torch.float64):
            return None
        if type(tensor) not in PLAIN or not tensor.is_cpu:
            return None
    return dtype


def _refusal(x: Tensor, weight: Tensor) -> ValueError:
    reason = missing()
    if reason is not None:
        return ValueError(f"the onednn linear kernel cannot run: {reason}")
    return ValueError(
        f"the onednn linear kernel takes plain float32 or bfloat16 tensors of one dtype on the CPU, not x of "
        f"{_named(x)} with a weight of {_named(weight)}; use linear kernel 'reference' or 'measured'"
    )


def _named(tensor: Tensor) -> str:
    kind = "" if type(tensor) in PLAIN else f" ({type(tensor).__name__})"
    return f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device}{kind}"


def pack(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight in oneDNN's own layout: opaque, for `product` only."""
    # No batch size is named: the layout oneDNN then picks is the fastest or equal for one row and for many.
    return _reorder(weight.to(dtype).contiguous(), None)


def product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b from the packed (or a plain) weight."""
    return _product(x, packed, bias, "none", [], "")


def train(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The product in `dtype` with its gradients."""
    return _Product.apply(x, weight, bias, dtype)  # pyright: ignore[reportReturnType]


class _Product(Function):
    """y = x Wᵀ + b;  dx = dy W,  dW = dyᵀ x,  db = Σ_rows dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        ctx.dtypes = x.dtype, weight.dtype, None if bias is None else bias.dtype
        x, weight = x.to(dtype), weight.to(dtype)
        ctx.save_for_backward(x, weight)
        try:
            return product(x, weight, None if bias is None else bias.to(dtype))
        except RuntimeError:
            F.linear(x, weight, bias)  # where the shapes do not fit, its message says how
            raise

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        x_dtype, weight_dtype, bias_dtype = ctx.dtypes
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        rows, seen = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])
        dx, dw = gradients(rows, seen, weight, need_x, need_weight)
        if dx is not None:
            dx = dx.view(x.shape).to(x_dtype)
        if dw is not None:
            dw = dw.to(weight_dtype)
        return dx, dw, rows.sum(0).to(bias_dtype) if need_bias else None, None


def gradients(
    dy: Float[Tensor, "n o"], x: Float[Tensor, "n i"], weight: Float[Tensor, "o i"], need_x: bool, need_weight: bool
) -> tuple[Float[Tensor, "n i"] | None, Float[Tensor, "o i"] | None]:
    """dx = dy W and dW = dyᵀ x, those that are needed."""
    if weight.dtype is torch.float32 and not onednn_matmul_is_exact():
        dx = product(dy, weight.t(), None) if need_x else None
        return dx, _transposed_product(dy, x) if need_weight else None
    with onednn_matmul if weight.dtype is torch.float32 else nullcontext():
        return dy @ weight if need_x else None, dy.t() @ x if need_weight else None


def _transposed_product(dy: Tensor, x: Tensor) -> Tensor:
    """dyᵀ x by the operator, which copies the transpose of its first argument: give it the narrower one."""
    if x.shape[1] < dy.shape[1]:
        return product(x.t(), dy.t(), None).t()
    return product(dy.t(), x.t(), None)
