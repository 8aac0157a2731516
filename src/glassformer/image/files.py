"""Picture files, by Pillow: read as red, green and blue whatever they hold, and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import error as StructError
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from glassformer.foundation.atomic import atomic_file
from glassformer.image.pixels import as_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange rows and columns


def read_image(path: str | os.PathLike[str]) -> UInt8[Tensor, "3 y x"]:
    """A picture file as red, green, blue in 0 .. 255, turned as its EXIF orientation says.

    Greys are repeated, palettes looked up, 16 bits scaled to 8 (not clipped), transparent parts laid over white; of an
    animation it is the first picture. ValueError where the file is no picture, is damaged or cut off, is too large
    (Pillow's limit, 179 million pixels), or holds floats or 32 bits, whose range a file does not say.
    """
    return as_tensor(_read(path), name=str(path))


def read_mask(path: str | os.PathLike[str]) -> UInt8[Tensor, "y x"]:
    """A picture file whose pixels are numbers of classes: greys as they are, a palette's indices (not its colours).

    ValueError where it has colours, or a number above 255, besides what `read_image` refuses.
    """
    image = _read(path)
    if image.mode not in ("L", "P", "1", "I;16", "I;16B", "I"):
        raise ValueError(
            f"{path} holds {image.mode}; a mask has one channel, whose numbers are classes (greys or a palette)"
        )
    numbers = np.array(image)
    if numbers.max(initial=0) > 255 or numbers.min(initial=0) < 0:
        raise ValueError(f"{path} holds the class {numbers.max()}; classes are 0 .. 254, and 255 is ignored")
    return torch.from_numpy(numbers.astype(np.uint8))


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Rows and columns, from the file's first bytes alone: a quick check before many pictures are read."""
    from PIL import Image

    with _explained(path), Image.open(path) as image:
        columns, rows = image.size
        at_hand = "exif" in image.info or image.format == "TIFF"  # else Pillow reads a whole PNG to look for it
        turned = at_hand and image.getexif().get(0x0112) in TURNED
        return (columns, rows) if turned else (rows, columns)


def write_image(path: str | os.PathLike[str], picture: Tensor, *, quality: int = 95) -> None:
    """Write (3, y, x) pixels, uint8 or float in [0, 1], or a uint8 mask (y, x); the suffix says the format.

    The file is there whole or not at all. `quality` is for formats that lose some (JPEG, WebP).
    """
    from PIL import Image

    path = Path(path)
    known = Image.registered_extensions()
    format = known.get(path.suffix.lower())
    if format not in Image.SAVE:
        raise ValueError(f"{path} has no suffix of a picture format; write .png, .jpg or .webp")
    image = as_image(picture)
    with atomic_file(path) as file:
        image.save(file, format=format, quality=quality)


def as_image(picture: Tensor) -> Image:
    """A Pillow image of (3, y, x) pixels or of a uint8 mask (y, x)."""
    from PIL import Image

    if picture.ndim == 2 and picture.dtype == torch.uint8:
        return Image.fromarray(picture.cpu().numpy())
    if picture.ndim != 3:
        raise ValueError(
            f"one picture is (3, y, x), a mask uint8 (y, x); this is {picture.dtype} {tuple(picture.shape)}"
        )
    return Image.fromarray(as_bytes(picture.detach().cpu()).permute(1, 2, 0).contiguous().numpy())


def as_tensor(image: Image, *, name: str = "the picture") -> UInt8[Tensor, "3 y x"]:
    """(3, y, x) pixels of a Pillow image, of any of its modes but 32-bit whole numbers and floats."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        wide = np.array(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"{name} holds {image.mode!r} pixels, whose range is not known; 8 or 16 bits were expected")
    if image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _read(path: str | os.PathLike[str]) -> Image:
    """The file's picture, whole in memory, the right way up."""
    from PIL import Image, ImageOps

    with _explained(path), Image.open(path) as image:
        return ImageOps.exif_transpose(image)


@contextmanager
def _explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """What Pillow raises about a file, as one sentence that names it."""
    from PIL import Image, UnidentifiedImageError

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there, or is no file; a picture was expected")
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is no picture that Pillow can read ({', '.join(SUFFIXES)})") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} has more pixels than the limit against files that unpack without end") from error
    except PermissionError:
        raise
    except (OSError, ValueError, SyntaxError, LookupError, EOFError, StructError) as error:  # as its decoders do
        raise ValueError(f"{path} is damaged or cut off: {error}") from error
