"""Clips as sequences: tubelets, patches that reach over some frames."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class TubeletEmbedding(nn.Module):
    """Each block of f frames and p × p pixels, all its channels, times one matrix (Arnab et al. 2021, section 3.2).

    The same as a convolution whose stride is its kernel's size, and the weight, (d, c, f, p, p), is kept as one's.
    """

    def __init__(self, channels: int, num_frames: int, patch_size: int, dim: int) -> None:
        super().__init__()
        self.num_frames, self.patch_size = num_frames, patch_size
        self.weight = nn.Parameter(torch.empty(dim, channels, num_frames, patch_size, patch_size))
        self.bias = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight from N(0, 0.02²), set the bias to 0."""
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def forward(self, clip: Float[Tensor, "b t c y x"]) -> Float[Tensor, "b times rows columns d"]:
        """Raises ValueError for a clip that the tubelets do not divide."""
        f, p = self.num_frames, self.patch_size
        if clip.shape[1] % f or clip.shape[3] % p or clip.shape[4] % p:
            raise ValueError(
                f"a clip of {clip.shape[1]} frames of {clip.shape[3]} × {clip.shape[4]} pixels is no whole number of "
                f"tubelets; frames must be a multiple of {f}, height and width of {p}"
            )
        how = "b (times f) c (rows y) (columns x) -> b times rows columns (c f y x)"
        return F.linear(rearrange(clip, how, f=f, y=p, x=p), self.weight.flatten(1), self.bias)

    def extra_repr(self) -> str:
        dim, channels, *_ = self.weight.shape
        return f"{channels}, num_frames={self.num_frames}, patch_size={self.patch_size}, {dim}"
