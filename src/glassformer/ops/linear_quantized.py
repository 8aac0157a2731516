"""Linear products that read fewer bytes of weight: a bfloat16 copy, 8-bit and 4-bit integers; for inference on the CPU.

At one row a product takes the time that reading its weight takes, so half the bytes are about twice the speed. The
layer's own weight stays as it is (and in memory); the kernel holds the small copy and makes it again when the weight
changes. Activations are rounded to bfloat16 and the result has the dtype of x.

Inside `torch.compile` and `torch.func` transforms, which cannot see into the packed operators, the same numbers are
computed from the plain weight at every call: right, but not fast.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from glassformer.ops.linear_onednn import PLAIN, Biases, Weights, missing, pack, product, split, stacked, traced
from glassformer.ops.linear_packed import Packed

BF16 = torch.bfloat16
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
GROUP = 32  # weights that share a scale and a zero in int4
# Rows from which turning int8 back into bfloat16 for one large product beats the operator made for a few rows.
MANY_ROWS = 16


class Inference(ABC):
    """What the kernels of this file share: the checks, the packed copy, the dtypes.

    Raises ValueError where a gradient would be needed, off the CPU, for float64, and for tensor subclasses.
    """

    name: str

    def __init__(self) -> None:
        self._packed = Packed(self.pack)

    @abstractmethod
    def pack(self, weight: Tensor, dtype: torch.dtype = BF16) -> Any:
        """The small copy of the weight, for activations in `dtype`, which is bfloat16."""

    @abstractmethod
    def product(self, x: Tensor, packed: Any, out_dim: int) -> Tensor:
        """x Wᵀ (r, o) in bfloat16 from x (r, i) in bfloat16 and the small copy."""

    @abstractmethod
    def rounded(self, weight: Tensor) -> Tensor:
        """The weight (o, i) that the small copy stands for, in float32."""

    def __call__(
        self, x: Float[Tensor, "*rows i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None
    ) -> Float[Tensor, "*rows o"]:
        return self._of(x, (weight,), bias)

    def together(
        self, x: Float[Tensor, "*rows i"], weights: Weights, biases: Biases
    ) -> tuple[Float[Tensor, "*rows _"], ...]:
        """Several products of one x as one, with all the rows of W."""
        return split(self._of(x, weights, stacked(biases, weights)), weights)

    def _of(self, x: Tensor, weights: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        hidden = traced()
        self._check(x, weights, bias, hidden)
        if hidden:
            y = F.linear(x.to(BF16), torch.cat([self.rounded(weight).to(BF16) for weight in weights]))
        else:
            rows = x.reshape(-1, x.shape[-1]) if x.dtype is BF16 else x.to(BF16).reshape(-1, x.shape[-1])
            out_dim = weights[0].shape[0] if len(weights) == 1 else sum(weight.shape[0] for weight in weights)
            y = self.product(rows, self._packed(BF16, *weights), out_dim).view(*x.shape[:-1], out_dim)
        if bias is not None:
            y = y + bias  # float32 where the bias is
        return y if y.dtype is x.dtype else y.to(x.dtype)

    def _check(self, x: Tensor, weights: Sequence[Tensor], bias: Tensor | None, hidden: bool) -> None:
        if torch.is_grad_enabled() and any(
            tensor.requires_grad for tensor in (x, *weights, bias) if tensor is not None
        ):
            raise ValueError(
                f"linear kernel {self.name!r} is for inference and has no gradient: call the model under "
                f"torch.no_grad(), or train with linear kernel 'measured'"
            )
        for tensor in (x, *weights):
            if not tensor.is_cpu or tensor.dtype not in DTYPES or not (hidden or type(tensor) in PLAIN):
                raise ValueError(
                    f"linear kernel {self.name!r} takes plain float32, float16 or bfloat16 tensors on the CPU, not a "
                    f"{type(tensor).__name__} of {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"
                )
            if tensor.shape[-1] != x.shape[-1]:
                raise ValueError(f"x has {x.shape[-1]} features, but the weight {tuple(tensor.shape)} takes "
                                 f"{tensor.shape[1]}")  # fmt: skip

    def forget(self) -> None:
        """Drop the packed copy; the next call packs anew."""
        self._packed.forget()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()


class BFloat16(Inference):
    """y = bf16(x) bf16(W)ᵀ + b: half the bytes of float32. Each weight is within 2⁻⁹ of itself."""

    name = "bfloat16"

    def pack(self, weight: Tensor, dtype: torch.dtype = BF16) -> Tensor:
        return weight.to(dtype) if missing() else pack(weight, dtype)

    def product(self, x: Tensor, packed: Tensor, out_dim: int) -> Tensor:
        return F.linear(x, packed) if missing() else product(x, packed, None)

    def rounded(self, weight: Tensor) -> Tensor:
        return weight.to(BF16).float()


class Int8(Inference):
    """y = bf16(x) Qᵀ · s + b  with W ≈ s Q, Q integers in ±127, one bfloat16 scale s per row of W: a quarter the bytes.

    s = max|row| / 127, so each weight is within s/2 of itself (Dettmers et al. 2022, section 2: absmax, by vectors).
    """

    name = "int8"

    def pack(self, weight: Tensor, dtype: torch.dtype = BF16) -> tuple[Tensor, Tensor]:
        q, scale = int8(weight)
        # The operator reads whole groups of 16 columns: past the end, where there are fewer.
        return F.pad(q, (0, -q.shape[1] % 16)).to(torch.int8).contiguous(), scale.to(dtype)

    def product(self, x: Tensor, packed: tuple[Tensor, Tensor], out_dim: int) -> Tensor:
        q, scale = packed
        if x.shape[1] != q.shape[1]:
            x = F.pad(x, (0, q.shape[1] - x.shape[1]))
        if x.shape[0] < MANY_ROWS:
            return torch.ops.aten._weight_int8pack_mm(x.contiguous(), q, scale)
        return F.linear(x, q.to(BF16)) * scale

    def rounded(self, weight: Tensor) -> Tensor:
        q, scale = int8(weight)
        return q * scale[:, None]


class Int4(Inference):
    """y = bf16(x) Wᵀ + b  with W ≈ z + s Q, Q integers from −8 to 7, s and z in bfloat16 for each 32 weights of a row.

    s = (max − min) / 15 over the group and z the zero that puts min on −8 (Frantar et al. 2022, section 2, gives the
    grid): five bits a weight in all. Each weight is within s/2, and the rounding of s and z, of itself.
    """

    name = "int4"

    def pack(self, weight: Tensor, dtype: torch.dtype = BF16) -> tuple[Tensor, Tensor]:
        q, scale, zero = _int4(F.pad(weight, (0, 0, 0, -weight.shape[0] % 16)))  # the operator takes rows by sixteens
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q.flatten(1).to(torch.int32) + 8, 1)
        scale_and_zero = torch.cat([scale, zero], -1).transpose(0, 1).contiguous()
        return packed, scale_and_zero.to(dtype)

    def product(self, x: Tensor, packed: tuple[Tensor, Tensor], out_dim: int) -> Tensor:
        q, scale_and_zero = packed
        if x.shape[1] % GROUP:
            x = F.pad(x, (0, -x.shape[1] % GROUP))
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(x.contiguous(), q, GROUP, scale_and_zero)
        return y if y.shape[1] == out_dim else y[:, :out_dim]

    def rounded(self, weight: Tensor) -> Tensor:
        q, scale, zero = _int4(weight)
        return (zero + scale * q).flatten(1)[:, : weight.shape[1]]


def int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Q (o, i) and s (o), both in float32 though s is a bfloat16 number."""
    weight = weight.float()
    scale = (weight.abs().amax(1) / 127).to(BF16).float()
    return (weight / _divisor(scale)[:, None]).round().clamp(-127, 127), scale


def _int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Q (o, groups, 32), s and z (o, groups, 1) in float32, s and z bfloat16 numbers; zeros fill the last group."""
    groups = F.pad(weight.float(), (0, -weight.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scale = ((high - low) / 15).to(BF16).float()
    zero = (low + 8 * scale).to(BF16).float()
    return ((groups - zero) / _divisor(scale)).round().clamp(-8, 7), scale, zero


def _divisor(scale: Tensor) -> Tensor:
    """1 instead of 0, which is the scale of weights that are all 0 (int8) or all the same (int4)."""
    return torch.where(scale > 0, scale, 1.0)
