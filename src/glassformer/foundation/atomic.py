"""Files and folders that are either there whole or not there: write beside, flush to the disk, rename.

A crash, a full disk or a `kill -9` at any moment leaves the old file, or the new one, and at most an orphan whose name
`sweep` knows.
"""

import errno
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

MARK = ".glassformer-"


def cache_folder() -> Path:
    """Where downloads, encoded texts and measurements are kept: `$GLASSFORMER_CACHE`, else the user's cache folder."""
    if own := os.environ.get("GLASSFORMER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glassformer"


def temporary(path: Path) -> Path:
    """A name beside `path`, on the same disk (a rename is atomic within one only), that `sweep` knows."""
    return path.with_name(f".{path.name}{MARK}{uuid4().hex[:12]}.tmp")


def sweep(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove what interrupted writes left in a folder, and name it. Only while nobody writes there."""
    orphans = [path for path in sorted(Path(folder).glob(f".*{MARK}*.tmp")) if not path.is_symlink()]
    for path in orphans:
        remove(path)
    return orphans


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names; without it a rename may be lost when the power fails."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What writing failed for, as a sentence: what was not written, and that nothing was lost.

    A full disk, and what the system says of no file by name: the file may be too large, the disk broken.
    """
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.errno is None or (error.filename is not None and not is_full):
            raise  # it is a sentence, or names its file
        reason = "the disk is full" if is_full else os.strerror(error.errno)
        told = OSError(f"{reason}: {path} was not written, what was there is unchanged")
        told.errno = error.errno
        raise told from error


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write; it takes its name, whole and on the disk, when the block ends without an error."""
    path = Path(path)
    beside = temporary(path)
    with explained(path):
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill; it takes its name when the block ends without an error. `path` must be free or an empty folder.

    Files written in it must have been flushed to the disk, as `atomic_file` does.
    """
    path = Path(path)
    if (path.is_dir() and any(path.iterdir())) or path.is_file():
        raise FileExistsError(f"{path} is already there; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = temporary(path)
    with explained(path):
        try:
            beside.mkdir()
            yield beside
            sync_folder(beside)
            beside.replace(path)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    sync_folder(path.parent)


@contextmanager
def atomic_update(folder: str | os.PathLike[str], *, last: str, stale: Collection[str] = ()) -> Iterator[Path]:
    """A folder to fill, whose files then replace those of `folder`; other files there stay, but for the `stale` ones.

    Several renames are not one: `last`, the file without which the folder is refused, goes first and comes back at the
    end. A crash between them leaves a folder that is refused, never a mixture that is taken for whole.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        with atomic_folder(folder) as beside:
            yield beside
        return
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; a folder is needed here")
    beside = temporary(folder / "update")
    with explained(folder):
        try:
            beside.mkdir()
            yield beside
            sync_folder(beside)
            (folder / last).unlink(missing_ok=True)
            for name in stale:
                (folder / name).unlink(missing_ok=True)
            sync_folder(folder)
            for name in sorted((path.name for path in beside.iterdir()), key=lambda name: name == last):
                (beside / name).replace(folder / name)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    sync_folder(folder)
