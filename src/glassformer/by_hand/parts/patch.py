"""Images as sequences: patches, and where each of them stands in the picture."""

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.parts.module import Module, Parameter


class PatchEmbedding(Module):
    """Each patch of p × p pixels, all its channels, times one matrix (Dosovitskiy et al. 2021, equation 1).

    The same as a convolution whose stride is its kernel's size, and the weight, (d, c, p, p), is kept as one's.
    """

    def __init__(self, channels: int, patch_size: int, dim: int) -> None:
        self.patch_size = patch_size
        self.weight = Parameter(np.zeros((dim, channels, patch_size, patch_size), "f4"))
        self.bias = Parameter(np.zeros(dim, "f4"))

    def forward(self, image: Array) -> Array:
        """(b, rows, columns, d) of an image (b, c, y, x). Raises ValueError for one that the patches do not divide."""
        p, (b, c, height, width) = self.patch_size, image.shape
        if height % p or width % p:
            raise ValueError(f"an image of {height} × {width} pixels is no whole number of patches; height and width "
                             f"must be multiples of {p}")  # fmt: skip
        cut = image.reshape(b, c, height // p, p, width // p, p)
        self._patches = cut.transpose(0, 2, 4, 1, 3, 5).reshape(b, height // p, width // p, c * p * p)
        return self._patches @ self._matrix().T + self.bias.data

    def backward(self, dy: Array) -> Array:
        """dW = dyᵀ patches    db = Σ dy    d patches = dy W, put back where they were cut out"""
        p, (b, rows, columns, dim) = self.patch_size, dy.shape
        flat = dy.reshape(-1, dim)
        self.weight.grad += (flat.T @ self._patches.reshape(len(flat), -1)).reshape(self.weight.grad.shape)
        self.bias.grad += flat.sum(0)
        pieces = (dy @ self._matrix()).reshape(b, rows, columns, -1, p, p)
        return pieces.transpose(0, 3, 1, 4, 2, 5).reshape(b, -1, rows * p, columns * p)

    def _matrix(self) -> Array:
        """(d, c · p · p)"""
        return self.weight.data.reshape(len(self.weight.data), -1)


class GridPosition(Module):
    """A learned vector for each place of a square grid, and for `before` tokens in front that stand nowhere in it.

    For a grid of another shape the vectors are interpolated, bicubically (Dosovitskiy et al. 2021, section 3.2):
    Y = R G Cᵀ for each of their numbers, with a matrix R of rows and one of columns, C (see `bicubic`).
    """

    def __init__(self, size: int, dim: int, *, before: int = 0) -> None:
        self.size, self.before = size, before
        self.weight = Parameter(np.zeros((1, before + size * size, dim), "f4"))

    def forward(self, rows: int, columns: int) -> Array:
        """The vectors (1, t, d) of the tokens in front, then of the grid's places, row by row."""
        self._shape = rows, columns
        if self._shape == (self.size, self.size):
            return self.weight.data
        front, grid = self.weight.data[0, : self.before], self.weight.data[0, self.before :]
        self._rows, self._columns = bicubic(self.size, rows), bicubic(self.size, columns)
        square = grid.reshape(self.size, self.size, -1)
        there = np.einsum("ry,yxd,cx->rcd", self._rows, square, self._columns, optimize=True)
        return np.concatenate([front, there.reshape(rows * columns, -1).astype(front.dtype)])[None]

    def backward(self, dy: Array) -> None:
        """dG = Rᵀ dY C, summed over the batch"""
        dy = dy.sum(0)
        if self._shape == (self.size, self.size):
            self.weight.grad[0] += dy
            return
        self.weight.grad[0, : self.before] += dy[: self.before]
        there = dy[self.before :].reshape(*self._shape, -1)
        square = np.einsum("ry,rcd,cx->yxd", self._rows, there, self._columns, optimize=True)
        self.weight.grad[0, self.before :] += square.reshape(self.size * self.size, -1)


def bicubic(size: int, wanted: int) -> Array:
    """The matrix (wanted, size) that takes `size` values on a line to `wanted`, by cubic convolution (Keys 1981).

    Value i of the new line stands at u = (i + ½) · size/wanted − ½ of the old one, so that the ends of both lines are
    the same, and is Σ w(u − j) · x_j over the four nearest j; those past an end are the last there is. With a = −¾:

        w(t) = (a + 2) |t|³ − (a + 3) t² + 1          where |t| ≤ 1
               a |t|³ − 5a t² + 8a |t| − 4a           where 1 < |t| < 2
    """
    a = -0.75
    place = (np.arange(wanted) + 0.5) * (size / wanted) - 0.5
    near = np.floor(place).astype(int)[:, None] + np.arange(-1, 3)
    t = abs(place[:, None] - near)
    inner, outer = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    matrix = np.zeros((wanted, size))
    np.add.at(matrix, (np.arange(wanted)[:, None], near.clip(0, size - 1)), np.where(t <= 1, inner, outer))
    return matrix


def check_pictures(pixels: Array, channels: int) -> None:
    """Raise ValueError or TypeError for what is no batch of pictures (b, c, y, x) of finite floats."""
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise ValueError(
            f"pixel_values has shape {pixels.shape}; expected (batch, channels, height, width), none of them 0"
        )
    if pixels.dtype.kind != "f":
        raise TypeError(f"pixel_values has dtype {pixels.dtype}; expected floats, scaled as the model was trained")
    if pixels.shape[1] != channels:
        raise ValueError(f"pixel_values has {pixels.shape[1]} channels in shape {pixels.shape}; expected {channels}")
    if not np.isfinite(pixels).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(pixels))[0])
        raise ValueError(f"pixel_values holds {pixels[place]} at {place}; every pixel must be finite")
