"""Windows over a picture's grid, shifted or not, and the bias that tells places in a window apart (Swin)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.ops.mask import Mask
from glassformer.parts.linear import Linear


@dataclass(frozen=True)
class Windows:
    """How a grid of `rows` × `columns` places falls into windows of `size` × `size` (Liu et al. 2021, section 3.2).

    The grid is filled up with zeros on its right and lower edges to whole windows. With a `shift`, what is beyond the
    upper and left edges comes in again at the lower and right ones (figure 4), where `mask` keeps it apart.
    """

    rows: int
    columns: int
    size: int
    shift: int = 0

    @classmethod
    def fit(cls, rows: int, columns: int, size: int, shift: int) -> "Windows":
        """A grid with no more rows or columns than a window has takes smaller ones, that need not be shifted."""
        shorter = min(rows, columns)
        return cls(rows, columns, shorter) if shorter <= size else cls(rows, columns, size, shift)

    @property
    def filled(self) -> bool:
        """Whether the windows reach over the grid's edges."""
        return bool(self.rows % self.size or self.columns % self.size)

    def split(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "bw t d"]:
        """The windows as rows of a batch: those of the first picture, row by row, then those of the next."""
        x = F.pad(x, (0, 0, 0, -self.columns % self.size, 0, -self.rows % self.size))
        x = x.roll((-self.shift, -self.shift), (1, 2)) if self.shift else x
        return rearrange(x, "b (y p) (x q) d -> (b y x) (p q) d", p=self.size, q=self.size)

    def join(self, windows: Float[Tensor, "bw t d"]) -> Float[Tensor, "b y x d"]:
        """What `split` took apart, put together: shifted back, without the zeros."""
        rows, columns = (-(-length // self.size) for length in (self.rows, self.columns))
        x = rearrange(windows, "(b y x) (p q) d -> b (y p) (x q) d", y=rows, x=columns, p=self.size, q=self.size)
        x = x.roll((self.shift, self.shift), (1, 2)) if self.shift else x
        return x.narrow(1, 0, self.rows).narrow(2, 0, self.columns)

    def mask(self, batch: int, device: torch.device) -> Mask:
        """Places see each other in their window only where they were neighbours before the shift too."""
        if not self.shift:
            return Mask()
        return Mask.dense(self.visible(device).repeat(batch, 1, 1)[:, None])

    def visible(self, device: torch.device) -> Bool[Tensor, "w t t"]:
        """For each window of one picture: which of its places see which."""
        down, across = (self._regions(length, device) for length in (self.rows, self.columns))
        region = rearrange(down[:, None] * 3 + across, "(y p) (x q) -> (y x) (p q)", p=self.size, q=self.size)
        return region[:, :, None] == region[:, None, :]

    def _regions(self, length: int, device: torch.device) -> Int[Tensor, "p"]:
        """Along one side: 0 before the last window, 1 in it, 2 where what was shifted out comes in again."""
        padded = length + -length % self.size
        place = torch.arange(padded, device=device)
        return (place >= padded - self.size).long() + (place >= padded - self.shift)


class WindowMasks:
    """`Windows.mask` for a batch, kept for the next pictures of the same size."""

    def __init__(self) -> None:
        self._kept: dict[Any, Mask] = {}

    def __call__(self, windows: Windows, x: Float[Tensor, "b y x d"]) -> Mask:
        if torch.compiler.is_compiling():
            return windows.mask(x.shape[0], x.device)  # `len` would fix the batch's size
        key = (windows, len(x), x.device)
        if key not in self._kept:
            if len(self._kept) >= 8:  # pictures of ever other sizes: begin anew
                self._kept.clear()
            self._kept[key] = windows.mask(len(x), x.device)
        return self._kept[key]


class WindowBias(nn.Module):
    """A learned number per head for each offset between two places of a window, added to scores (section 3.2, eq. 4).

    Row (Δy + M − 1)(2M − 1) + Δx + M − 1 of `table` is that of an offset (Δy, Δx) of the query from the key, for
    windows of M × M. A smaller window has the same offsets, but for the largest.
    """

    def __init__(self, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, num_heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw from N(0, 0.02²)."""
        nn.init.normal_(self.table, std=0.02)

    def forward(self, size: int) -> Float[Tensor, "1 h t t"]:
        """The bias within a window of `size` × `size` places, counted row by row."""
        return _of_pairs(self.table, size)

    def extra_repr(self) -> str:
        return f"num_heads={self.table.shape[1]}, window_size={self.window_size}"


class ContinuousWindowBias(nn.Module):
    """16 σ(network(offset)) per head: a bias for offsets that were never seen (Liu et al. 2022, section 3.3).

    The network is down(relu(up(·))). An offset is a share of the window, log-spaced: sign(Δ) log₂(1 + 8|Δ|) / log₂ 8
    for each direction (equation 4), with Δ = (query − key) / (M − 1), M the size of the windows with which it learned:
    `trained_size`, where that differs from `window_size`.
    """

    def __init__(self, num_heads: int, window_size: int, *, trained_size: int = 0, hidden_dim: int = 512) -> None:
        super().__init__()
        self.window_size, self.trained_size = window_size, trained_size or window_size
        self.up = Linear(2, hidden_dim)
        self.down = Linear(hidden_dim, num_heads, bias=False)

    def forward(self) -> Float[Tensor, "1 h t t"]:
        """The bias within a window, its places counted row by row."""
        step = torch.arange(1 - self.window_size, self.window_size, device=self.up.weight.device)
        share = 8 * step / max(self.trained_size - 1, 1)
        log = (share.sign() * (share.abs() + 1).log2() / 3).to(self.up.weight.dtype)
        offsets = torch.cartesian_prod(log, log)  # rows in the first number, columns in the second
        return 16 * _of_pairs(self.down(self.up(offsets).relu()), self.window_size).sigmoid()

    def extra_repr(self) -> str:
        return f"window_size={self.window_size}, trained_size={self.trained_size}"


def _of_pairs(table: Float[Tensor, "offsets h"], size: int) -> Float[Tensor, "1 h t t"]:
    """For each pair of places in a window of `size` × `size`: the table's row of their offset."""
    side = math.isqrt(len(table))  # 2M − 1
    place = torch.arange(size, device=table.device)
    step = place[:, None] - place + side // 2  # query minus key, from 0
    row = rearrange(step, "i j -> i 1 j 1") * side + rearrange(step, "i j -> 1 i 1 j")
    return rearrange(table[row], "y x v u h -> 1 h (y x) (v u)").contiguous()  # it is added to many, which is slow else
