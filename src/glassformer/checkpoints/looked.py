"""The look for NaN and infinity at what a model is made of, and marks of what was looked through before.

The look takes as long as memory gives the bytes: several threads read them, each with two streams of numbers at once,
by NumPy, whose functions start no threads of their own to wait for one another.

A file that was found free of NaN and infinity is not read again to find it so: a mark says it, an empty file in the
user's cache folder (`foundation/atomic.py`). Its name is a hash of which file it was (device, number, size, the times
of its last changes to the nanosecond) and of which tensors were looked at. So a file that was written to since, in
place or anew, is another one, whatever its name and whatever date it was given: the system sets the time of change
itself. Deleting marks costs a look, nothing else.
"""

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glassformer.checkpoints.files import Entry, TensorFile
from glassformer.foundation.atomic import cache_folder

SMALL = 2**24  # bytes: less is looked through in a millisecond, each time
SETTLED = 2.0  # seconds: what changed less long ago may change again before a file system's clock moves on
PIECE = 2**24  # bytes that a thread looks at before it lets their pages go
CACHED = 2**19  # bytes that are read twice, the second time from the processor's cache
THREADS = 4  # that look, at most
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
INFINITY = {
    torch.float16: 0x7C00,
    torch.bfloat16: 0x7F80,
    torch.float32: 0x7F80_0000,
    torch.float64: 0x7FF0_0000_0000_0000,
}
"""As an integer; with its first bit set it is minus infinity."""


def finite(files: Iterable[tuple[TensorFile, Sequence[str]]]) -> set[str]:
    """Those of the files' named tensors that are in files where none of the named holds NaN or infinity."""
    out: set[str] = set()
    for file, names in files:
        mark = mark_of(file, names)
        if mark is not None and is_there(mark):
            out.update(names)
        elif is_finite_file(file, names):
            out.update(names)
            if mark is not None:
                leave(mark)
    return out


def is_finite_file(file: TensorFile, names: Iterable[str]) -> bool:
    """Whether no number of a file's named tensors is NaN or infinite; the pages that were read are let go."""
    pieces = list(pieces_of(file, names))

    def look() -> bool:
        with suppress(IndexError):  # another thread took the last
            while pieces:
                piece = pieces.pop()
                if not is_finite(file.part(piece)):
                    pieces.clear()
                    return False
                file.let_go(piece.begin, piece.end)
        return True

    others = min(THREADS, torch.get_num_threads(), len(pieces)) - 1
    if others < 1:
        return look()
    with ThreadPoolExecutor(others) as pool:
        found = [pool.submit(look) for _ in range(others)]
        return all([look(), *(each.result() for each in found)])


def pieces_of(file: TensorFile, names: Iterable[str]) -> Iterator[Entry]:
    """Where in a file these tensors are, those that are floats: neighbours of one dtype as one, cut in pieces."""
    dtype, begin, end = torch.bool, 0, 0
    entries = sorted((file.entries[name] for name in names), key=lambda entry: entry.begin)
    for entry in (*entries, None):
        if entry is not None and entry.dtype == dtype and entry.begin == end:
            end = entry.end
            continue
        for start in range(begin, end, PIECE) if dtype in INFINITY else ():
            stop = min(start + PIECE, end)
            yield Entry(dtype, ((stop - start) // dtype.itemsize,), start, stop)
        if entry is not None:
            dtype, begin, end = entry.dtype, entry.begin, entry.end


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    if tensor.is_cpu and tensor.dtype in INFINITY and tensor.is_contiguous():
        bits = tensor.detach().view(-1).view(INTEGERS[tensor.dtype.itemsize]).numpy()
        return multiplies(bits) or has_finite_bits(bits, INFINITY[tensor.dtype])
    low, high = tensor.aminmax()  # both are NaN if any is, in no memory of their own
    return bool(low.isfinite() & high.isfinite())


def multiplies(bits: np.ndarray) -> bool:
    """Whether the product of the two halves of numbers is finite: none is with a part that is not, but it may overflow.

    Only of 32 and 64 bits: NumPy has no bfloat16, and is slow with its float16.
    """
    if bits.itemsize == 2:
        return False
    numbers, half = bits.view(f"f{bits.itemsize}"), len(bits) // 2
    with np.errstate(all="ignore"):
        return math.isfinite(np.einsum("i,i->", numbers[: len(bits) - half], numbers[half:]))


def has_finite_bits(bits: np.ndarray, infinity: int) -> bool:
    """Whether no number has an exponent of ones: infinity and NaN are the largest integers of either sign.

    PyTorch takes twenty times as long to add up numbers of 16 bits.
    """
    unsigned, step = bits.view(f"u{bits.itemsize}"), CACHED // bits.itemsize
    negative = infinity + (1 << (8 * bits.itemsize - 1))
    cuts = (slice(start, start + step) for start in range(0, len(bits), step))
    return all(bits[cut].max() < infinity and unsigned[cut].max() < negative for cut in cuts)


def mark_of(file: TensorFile, names: Iterable[str]) -> Path | None:
    """Where the mark of these tensors of a file is, or would be; None for a file that gets none: small, or new."""
    changed = max(file.stat.st_mtime, file.stat.st_ctime)
    if file.stat.st_size < SMALL or not changed + SETTLED < time.time():
        return None
    stat = file.stat
    seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, sorted(names))
    return cache_folder() / "finite" / sha256(repr(seen).encode()).hexdigest()[:32]


def is_there(mark: Path) -> bool:
    """Whether the tensors were looked at before."""
    return os.path.exists(mark)


def leave(mark: Path) -> None:
    """Note that all of the tensors are finite; where nothing can be written they are looked at again next time."""
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:
        pass
