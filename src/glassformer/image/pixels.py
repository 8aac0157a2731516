"""Pixels: whole numbers 0 .. 255, or floats in [0, 1]; checked with a sentence, and turned into each other.

A picture is (3, y, x), red green blue; a batch of them is (b, 3, y, x).
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def check_pixels(picture: Tensor) -> None:
    """ValueError unless this is uint8, or float in [0, 1], of shape (..., 3, y, x) with at least one pixel."""
    shape = tuple(picture.shape)
    if picture.ndim < 3 or shape[-3] != 3:
        raise ValueError(f"a picture has 3 channels, red green blue: (3, y, x); this has the shape {shape}")
    if not picture.numel():
        raise ValueError(f"a picture of shape {shape} has no pixels")
    if picture.dtype == torch.uint8:
        return
    if not picture.is_floating_point():
        raise ValueError(f"pixels are uint8 in 0 .. 255 or float in [0, 1], not {picture.dtype}")
    low, high = picture.aminmax()
    if not (low >= 0 and high <= 1):  # false for NaN too
        found = (
            f"from {low.item():g} to {high.item():g}" if low.isfinite() and high.isfinite() else "that are not finite"
        )
        raise ValueError(f"float pixels lie in [0, 1]; these have values {found}")


def as_float(picture: Tensor) -> Float[Tensor, "*b 3 y x"]:
    """Pixels in [0, 1]; floats stay as they are."""
    check_pixels(picture)
    return picture if picture.is_floating_point() else picture.float() / 255


def as_bytes(picture: Tensor) -> UInt8[Tensor, "*b 3 y x"]:
    """Pixels in 0 .. 255, rounded to the nearest; uint8 stays as it is."""
    check_pixels(picture)
    return (picture * 255).round().to(torch.uint8) if picture.is_floating_point() else picture
