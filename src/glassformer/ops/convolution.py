"""A convolution and what follows it, f(norm(W ∗ x) + added), as one operation of oneDNN where nothing is learned.

After training a batch norm is s · x + t for each channel, so the convolution before it has the weights s · W and the
bias t. Of the four passes over the picture (convolution, norm, sum, activation) one is left.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.ops.linear_onednn import PLAIN, asks_for_gradients, traced
from glassformer.ops.linear_packed import Packed

# Private names: a later PyTorch may not have them, and then nothing is taken.
_packet, _reorder = (getattr(torch.ops.mkldnn, f"_{name}", None)
                     for name in ("convolution_pointwise", "reorder_convolution_weight"))  # fmt: skip
DTYPES = (torch.float32, torch.bfloat16)


def scale_and_shift(
    weight: Float[Tensor, "c"],
    bias: Float[Tensor, "c"],
    mean: Float[Tensor, "c"],
    variance: Float[Tensor, "c"],
    eps: float,
) -> tuple[Float[Tensor, "c"], Float[Tensor, "c"]]:
    """(s, t) with (x − mean) / √(variance + ε) · weight + bias = s · x + t."""
    scale = weight * (variance + eps).rsqrt()
    return scale, bias - mean * scale


class Sizes(NamedTuple):
    """What the weights do not say of a convolution and its norm."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    eps: float


class FoldedConvolution:
    """y = f(s · (W ∗ x) + t + added) without gradients, on a CPU, from weights that are folded and packed once.

    `f` is relu or nothing. The result equals that of the parts one after the other but for rounding.
    """

    def __init__(self) -> None:
        self._packed = Packed(self._fold, join=list)
        self._sizes: Sizes | None = None
        self._seen: list[int] = []  # the shape of the input: without one, oneDNN picks a layout that is twice as slow

    def takes(self, x: Tensor, weight: Tensor, added: Tensor | None) -> bool:
        """Whether these can be had so: plain tensors of one dtype on a CPU, nobody tracing, no gradient wanted."""
        if _packet is None or _reorder is None or not torch.backends.mkldnn.is_available() or traced():
            return False
        if asks_for_gradients(x, weight, added) or torch.is_autocast_enabled("cpu"):
            return False
        tensors = (x, weight) if added is None else (x, weight, added)
        return all(type(t) in PLAIN and t.is_cpu and t.dtype is x.dtype for t in tensors) and x.dtype in DTYPES

    def __call__(
        self,
        x: Float[Tensor, "b c y x"],
        weights: Sequence[Tensor],
        added: Float[Tensor, "b d rows columns"] | None,
        activation: str | None,
        sizes: Sizes,
    ) -> Float[Tensor, "b d rows columns"]:
        """`weights` are W and the norm's weight, bias, mean and variance; `activation` is "relu" or None."""
        if sizes != self._sizes:
            self._packed.forget()
            self._sizes = sizes
        self._seen = list(x.shape)
        weight, bias = self._packed(x.dtype, *weights)
        assert _packet is not None
        geometry = sizes.padding, sizes.stride, [1, 1], 1
        if added is None:
            return _packet(x, weight, bias, *geometry, activation or "none", [], "")
        return _packet.binary(x, added, weight, bias, *geometry, "add", 1.0, activation, [], "")

    def _fold(self, weights: list[Tensor], dtype: torch.dtype) -> tuple[Any, Tensor]:
        assert _reorder is not None
        assert self._sizes is not None
        weight, gain, bias, mean, variance = weights
        scale, shift = scale_and_shift(gain, bias, mean, variance, self._sizes.eps)
        folded = (weight * scale[:, None, None, None]).to(dtype).contiguous()
        return _reorder(folded, self._sizes.padding, self._sizes.stride, [1, 1], 1, self._seen), shift.to(dtype)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()  # a copy packs its own weights
