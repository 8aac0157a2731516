"""Marks of what was looked through: a file that was found free of NaN and infinity is not read again to find it so.

A mark is an empty file in the user's cache folder (`foundation/atomic.py`). Its name is a hash of which file it was
(device, number, size, the times of its last changes to the nanosecond) and of which tensors were looked at. So a file
that was written to since, in place or anew, is another one, whatever its name and whatever date it was given: the
system sets the time of change itself. Deleting marks costs a look, nothing else.
"""

import os
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from glassformer.checkpoints.files import TensorFile
from glassformer.foundation.atomic import cache_folder

SMALL = 2**24  # bytes: less is looked through in a millisecond, each time
SETTLED = 2.0  # seconds: what changed less long ago may change again before a file system's clock moves on


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
