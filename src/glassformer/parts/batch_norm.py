"""Batch normalisation (Ioffe & Szegedy 2015) of channels, as it is after training: an affine map with fixed numbers."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.ops.convolution import FoldedConvolution, Sizes, scale_and_shift
from glassformer.parts.activation import Activation, relu
from glassformer.parts.linear import listened


class FrozenBatchNorm(nn.Module):
    """(x − running_mean) / √(running_var + ε) · weight + bias for each channel, in training too; nothing is learned.

    So detectors hold it, whose batches are too small to measure means and variances of (Carion et al. 2020, appendix
    A.4).
    """

    eps = 1e-5
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def scale_and_shift(self) -> tuple[Float[Tensor, "c"], Float[Tensor, "c"]]:
        """(s, t) with output = s · x + t."""
        return scale_and_shift(self.weight, self.bias, self.running_mean, self.running_var, self.eps)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        scale, shift = self.scale_and_shift()
        return x * scale[:, None, None] + shift[:, None, None]

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}"


class NormedConvolution(nn.Module):
    """activation(norm(convolution(x)) + added), without a bias of its own, padded so that a stride of 1 keeps the size.

    Without gradients, and where the norm has nothing to measure, all of it is one operation (`ops.convolution`). With a
    frozen norm, convolution and norm are one in training too, of weights that are formed anew at each call.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        size: int,
        *,
        stride: int = 1,
        norm: Any = nn.BatchNorm2d,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, out_channels, size, stride, size // 2, bias=False)
        self.norm = norm(out_channels)
        self.activation = activation
        self.kernel = FoldedConvolution()
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self, x: Float[Tensor, "b c y x"], added: Float[Tensor, "b d rows columns"] | None = None
    ) -> Float[Tensor, "b d rows columns"]:
        layer, norm = self.convolution, self.norm
        if self._is_one(x, added):
            weights = layer.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var
            sizes: Any = Sizes(layer.stride, layer.padding, norm.eps)  # pyright: ignore[reportArgumentType]
            return self.kernel(x, weights, added, None if self.activation is None else "relu", sizes)
        if isinstance(norm, FrozenBatchNorm) and not self._is_heard():
            scale, shift = norm.scale_and_shift()  # there are far fewer weights than activations
            y = F.conv2d(x, layer.weight * scale[:, None, None, None], shift, layer.stride, layer.padding)
        else:
            y = norm(layer(x))
        y = y if added is None else y + added
        return y if self.activation is None else self.activation(y)

    def _is_one(self, x: Tensor, added: Tensor | None) -> bool:
        """Whether the kernel does the same: nothing is learned or measured, and nobody listens to the parts."""
        if torch.compiler.is_compiling() or not self.kernel.takes(x, self.convolution.weight, added):
            return False
        measures = self.norm.training and not isinstance(self.norm, FrozenBatchNorm)
        return not measures and self.activation in (None, relu) and not self._is_heard()

    def _is_heard(self) -> bool:
        """Whether a hook waits for one of the parts; a compiler, which calls hooks itself, asks in vain."""
        parts = (self.convolution, self.norm)
        return not torch.compiler.is_compiling() and any(listened(part) for part in parts)


class BatchNorm(nn.Module):
    """The same map while it is learned: by each batch's means and variances, whose running averages evaluation takes.

    As `torch.nn.BatchNorm2d`, but for the count of batches, which frozen norms have no place for.
    """

    def __init__(self, of: FrozenBatchNorm) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(of.weight.clone()), nn.Parameter(of.bias.clone())
        self.eps, self.momentum = of.eps, 0.1
        self.register_buffer("running_mean", of.running_mean.clone())
        self.register_buffer("running_var", of.running_var.clone())

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        mean: Any = self.running_mean
        variance: Any = self.running_var
        return F.batch_norm(x, mean, variance, self.weight, self.bias, self.training, self.momentum, self.eps)


def thaw_batch_norm(model: nn.Module) -> int:
    """Let every frozen batch norm measure its batches and learn again, as training from scratch wants; how many.

    In place: a `FrozenBatchNorm` becomes a `BatchNorm` whose tensors have the same names, so that what is saved opens
    as before, and in evaluation gives the same.
    """
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, FrozenBatchNorm):
                setattr(parent, name, BatchNorm(child).train(child.training))
                count += 1
    return count
