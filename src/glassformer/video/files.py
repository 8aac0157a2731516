"""Clips as files: read and written by `av` (FFmpeg's libraries); animated GIFs are written by Pillow.

clip = read_clip("dog.mp4", frames=16)     # uint8 (16, 3, y, x), evenly over the whole
write_clip("again.mp4", clip, rate=8)
write_image("frames.png", filmstrip(clip))
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from glassformer.foundation.atomic import atomic_file
from glassformer.image.pixels import as_bytes
from glassformer.video.processor import evenly

SUFFIXES = (".mp4", ".gif", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg")
"""Kinds of files that are looked for in folders of clips; `read_clip` takes whatever FFmpeg reads."""

_FORMATS = {".mp4": ("mp4", "libx264"), ".mkv": ("matroska", "libx264"), ".mov": ("mov", "libx264")}


def read_clip(path: str | os.PathLike[str], frames: int | None = None) -> UInt8[Tensor, "t 3 y x"]:
    """The frames of a clip in their order, turned as the file says: all of them, or `frames` evenly over the whole.

    Frames count, not times: each as long as the next. Of a shorter clip some are given twice.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it holds no pictures, is damaged, or is cut off.
    """
    with _opened(path) as (container, stream):
        total = stream.frames or _count(container, stream)
        if not total:
            raise ValueError(f"{path} has no frames")
        wanted = list(range(total)) if frames is None else evenly(torch.arange(total), frames).tolist()
        kept: dict[int, Tensor] = {}
        seen = 0
        for seen, frame in enumerate(container.decode(stream), start=1):
            if frame.is_corrupt:
                raise ValueError(f"{path} is damaged at frame {seen - 1}")
            if seen - 1 in wanted:
                kept[seen - 1] = _pixels(frame)
        if seen < total - max(2, total // 50):  # the first or last few may be there only for the decoder
            raise ValueError(f"{path} is cut off: it says {total} frames and has {seen}")
    if not kept:
        raise ValueError(f"{path} has no frames")
    last = max(kept)
    pictures = [kept[at] if at in kept else kept[last] for at in wanted if frames is not None or at in kept]
    if len({picture.shape for picture in pictures}) > 1:
        raise ValueError(f"{path} has frames of several sizes; a clip has one")
    return torch.stack(pictures)


def clip_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Rows and columns as they are stored, from the file's first bytes alone; raises as `read_clip` does."""
    with _opened(path) as (_, stream):
        return stream.height, stream.width


def write_clip(path: str | os.PathLike[str], clip: Tensor, *, rate: float = 8) -> None:
    """Write (t, 3, y, x) pixels, uint8 or float in [0, 1], `rate` frames to a second; whole or not at all.

    `.gif` keeps up to 255 colours a frame as they are, and of frames that are alike shows the first for longer;
    `.mp4`, `.mkv` and `.mov` are H.264 at high quality, whose sizes are even for the sake of players: a last row or
    column is repeated where it is not.
    """
    path, pixels = Path(path), as_bytes(clip)
    if clip.ndim != 4 or not len(clip):
        raise ValueError(f"a clip is (t, 3, y, x) with a frame at least; this has the shape {tuple(clip.shape)}")
    if not 0 < rate <= 1000:
        raise ValueError(f"rate={rate} frames a second; expected more than 0, up to 1000")
    suffix = path.suffix.lower()
    if suffix != ".gif" and suffix not in _FORMATS:
        raise ValueError(f"{path} has no suffix of a clip that can be written; write {', '.join(_FORMATS)} or .gif")
    with atomic_file(path) as file:
        if suffix == ".gif":
            _write_gif(file, pixels, rate)
        else:
            _write_video(file, pixels, rate, *_FORMATS[suffix])


def filmstrip(
    clip: UInt8[Tensor, "t 3 y x"], *, columns: int | None = None, gap: int = 2
) -> UInt8[Tensor, "3 rows width"]:
    """The frames side by side, in rows of `columns` (all in one row), with white between them."""
    t, _, y, x = clip.shape
    columns = t if columns is None else columns
    if columns < 1 or gap < 0:
        raise ValueError(f"columns={columns}, gap={gap}; expected one column or more, and a gap of 0 or more")
    rows = -(-t // columns)
    sheet = clip.new_full((3, rows * (y + gap) - gap, columns * (x + gap) - gap), 255)
    for number, frame in enumerate(clip):
        top, left = number // columns * (y + gap), number % columns * (x + gap)
        sheet[:, top : top + y, left : left + x] = frame
    return sheet


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """The file and its first stream of pictures; what FFmpeg complains of while the block reads, as a sentence."""
    av = _av()
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there, or is no file; a clip was expected")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} holds no pictures; a clip was expected")
            yield container, container.streams.video[0]
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} is no clip, or is damaged or cut off: {error.strerror}") from error


def _count(container: Any, stream: Any) -> int:
    """Frames of a file that does not say how many it has."""
    count = sum(packet.size > 0 for packet in container.demux(stream))
    container.seek(0)
    return count


def _pixels(frame: Any) -> UInt8[Tensor, "3 y x"]:
    """Red, green, blue, turned upright: phones write frames as the sensor lay, and the angle beside."""
    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
    return torch.rot90(pixels, round(frame.rotation / 90), (1, 2)).contiguous()


def _write_video(file: Any, clip: UInt8[Tensor, "t 3 y x"], rate: float, format: str, codec: str) -> None:
    av = _av()
    y, x = clip.shape[2:]
    even = torch.nn.functional.pad(clip.float(), (0, x % 2, 0, y % 2), mode="replicate").to(torch.uint8)
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001), options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = even.shape[3], even.shape[2], "yuv420p"
        for frame in even.permute(0, 2, 3, 1).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_gif(file: Any, clip: UInt8[Tensor, "t 3 y x"], rate: float) -> None:
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in clip.permute(0, 2, 3, 1).contiguous().numpy()]
    palettes = [picture.quantize(255, dither=Image.Dither.NONE) for picture in pictures]
    palettes[0].save(
        file, format="GIF", save_all=True, append_images=palettes[1:], duration=1000 / rate, loop=0, disposal=1
    )


def _av() -> Any:
    try:
        import av
        import av.error
    except ImportError as error:
        raise ImportError("clips are read and written by av: pip install 'glassformer[video]'") from error
    return av
