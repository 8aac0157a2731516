"""Files that are either whole or absent, and the folder where downloads and encodings are kept."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/glassformer`, or `~/.cache/glassformer`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "glassformer"


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when it is complete: temporary, fsync, rename, fsync of the folder.

    Whatever fails, a file that stood there before still stands.

    Raises:
        OSError: `path` cannot be written (no room, no permission), in one sentence that names it.
    """
    temporary = path.with_name(f".{path.name}.{token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
