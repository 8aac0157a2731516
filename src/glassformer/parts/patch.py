"""Images as sequences: patches, and where each of them stands in the picture."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """Each patch of p × p pixels, all its channels, times one matrix (Dosovitskiy et al. 2021, equation 1).

    The same as a convolution whose stride is its kernel's size, and the weight, (d, c, p, p), is kept as one's.
    """

    def __init__(self, channels: int, patch_size: int, dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.weight = nn.Parameter(torch.empty(dim, channels, patch_size, patch_size))
        self.bias = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight from N(0, 0.02²), set the bias to 0."""
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def forward(self, image: Float[Tensor, "b c y x"]) -> Float[Tensor, "b rows columns d"]:
        """Raises ValueError for an image that the patches do not divide."""
        p = self.patch_size
        if image.shape[2] % p or image.shape[3] % p:
            raise ValueError(
                f"an image of {image.shape[2]} × {image.shape[3]} pixels is no whole number of patches; height and "
                f"width must be multiples of {p}"
            )
        patches = rearrange(image, "b c (rows y) (columns x) -> b rows columns (c y x)", y=p, x=p)
        return F.linear(patches, self.weight.flatten(1), self.bias)

    def extra_repr(self) -> str:
        dim, channels, *_ = self.weight.shape
        return f"{channels}, patch_size={self.patch_size}, {dim}"


class GridPosition(nn.Module):
    """A learned vector for each place of a square grid, and for `before` tokens in front that stand nowhere in it.

    For a grid of another shape the vectors are interpolated, bicubically (Dosovitskiy et al. 2021, section 3.2; its
    corners are the outer edges of the corner patches, as in Hugging Face's `interpolate_pos_encoding`). `antialias`
    averages over what a coarser grid would leap over.
    """

    def __init__(self, size: int, dim: int, *, before: int = 0, antialias: bool = False) -> None:
        super().__init__()
        self.size, self.before, self.antialias = size, before, antialias
        self.weight = nn.Parameter(torch.empty(1, before + size * size, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw from N(0, 0.02²)."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, rows: int, columns: int) -> Float[Tensor, "1 t d"]:
        """The vectors of the tokens in front, then of the grid's places, row by row."""
        if (rows, columns) == (self.size, self.size):
            return self.weight
        before, grid = self.weight[:, : self.before], self.weight[:, self.before :]
        wide = torch.promote_types(grid.dtype, torch.float32)
        square = rearrange(grid.to(wide), "1 (y x) d -> 1 d y x", y=self.size)
        there = F.interpolate(
            square, size=(rows, columns), mode="bicubic", align_corners=False, antialias=self.antialias
        )
        return torch.cat([before, rearrange(there, "1 d y x -> 1 (y x) d").to(grid.dtype)], dim=1)

    def extra_repr(self) -> str:
        return f"{self.size}, {self.weight.shape[-1]}, before={self.before}"
