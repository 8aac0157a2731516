"""What SegFormer has instead of positions: patches that overlap, and a feed-forward layer that sees its neighbours."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.parts.activation import Activation, gelu
from glassformer.parts.dropout import Dropout
from glassformer.parts.linear import Linear


class OverlappingPatchEmbedding(nn.Module):
    """Each patch of p × p pixels times one matrix, a patch beginning every `stride` pixels (Xie et al. 2021, 3.1).

    A convolution with ⌊p/2⌋ zeros around the picture: y rows become ⌊(y + 2⌊p/2⌋ − p) / stride⌋ + 1. The weight is
    drawn from N(0, 2 / (d p²)), the bias is 0.
    """

    def __init__(self, channels: int, patch_size: int, stride: int, dim: int) -> None:
        super().__init__()
        if patch_size < 1 or stride < 1:
            raise ValueError(f"patch_size={patch_size} and stride={stride} must both be 1 or more")
        self.patch_size, self.stride = patch_size, stride
        self.weight = nn.Parameter(torch.empty(dim, channels, patch_size, patch_size))
        self.bias = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight so that the output's gradient keeps its size (He et al. 2015, equation 14)."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.bias)

    def length(self, pixels: int) -> int:
        """How many patches begin along so many pixels."""
        return (pixels + 2 * (self.patch_size // 2) - self.patch_size) // self.stride + 1

    def forward(self, image: Float[Tensor, "b c y x"]) -> Float[Tensor, "b rows columns d"]:
        x = F.conv2d(image, self.weight, self.bias, self.stride, self.patch_size // 2)
        return x.permute(0, 2, 3, 1)

    def extra_repr(self) -> str:
        dim, channels, *_ = self.weight.shape
        return f"{channels}, patch_size={self.patch_size}, stride={self.stride}, {dim}"


class DepthwiseConvolution(nn.Module):
    """Each channel of a grid, over the 3 × 3 places around each place, zeros beyond the edge; (b, y, x, d) both ways.

    The zeros tell where the edge is, and so, over some layers, every place where it stands.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, 1, 3, 3))
        self.bias = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight from N(0, 2 / 9), set the bias to 0."""
        nn.init.normal_(self.weight, std=(2 / 9) ** 0.5)
        nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:
        x = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, padding=1, groups=len(self.weight))
        return x.permute(0, 2, 3, 1)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"


class MixFeedForward(nn.Module):
    """down(activation(mix(up(x)))), with `mix` a depthwise convolution over the grid (Xie et al. 2021, equation 3)."""

    def __init__(self, dim: int, hidden_dim: int, *, activation: Activation = gelu, dropout: float = 0.0) -> None:
        super().__init__()
        self.up = Linear(dim, hidden_dim)
        self.mix = DepthwiseConvolution(hidden_dim)
        self.down = Linear(hidden_dim, dim)
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:
        return self.down(self.dropout(self.activation(self.mix(self.up(x)))))
