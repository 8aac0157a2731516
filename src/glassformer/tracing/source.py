"""Which line called: the first frame that is neither of PyTorch nor of this room."""

import linecache
import sys
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

import torch

TORCH = str(Path(torch.__file__).parent) + "/"
LIBRARY = TORCH + "nn/"
PASSED_OVER = (TORCH, str(Path(__file__).parent) + "/", "<frozen", "<string>", "<@beartype")
HELPERS = ("/einops/", "/jaxtyping/", "/beartype/", "/contextlib.py", "/functools.py")


@dataclass(frozen=True)
class SourceLine:
    """A line of a file, and the function it stands in."""

    file: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """The line itself; empty where the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{short_path(self.file)}:{self.line}"


def short_path(file: str) -> str:
    """A file's path from its package on, or from the working folder."""
    for mark in ("/site-packages/", "/src/"):
        if mark in file:
            return file.rsplit(mark, 1)[1]
    here = str(Path.cwd()) + "/"
    return file.removeprefix(here)


def is_passed_over(file: str) -> bool:
    """Whether a file is PyTorch's, this room's, or of what only hands calls on."""
    return file.startswith(PASSED_OVER) or any(helper in file for helper in HELPERS)


def calling_line(until: CodeType) -> SourceLine | None:
    """The line that called, no further out than the function `until`.

    A model made of PyTorch's own modules has no such line: then it is the innermost line of `torch.nn`.
    """
    frame: FrameType | None = sys._getframe(1)
    inside: FrameType | None = None
    while frame is not None and frame.f_code is not until:
        file = frame.f_code.co_filename
        if not is_passed_over(file):
            return _source(frame)
        if inside is None and file.startswith(LIBRARY) and not file.endswith("nn/modules/module.py"):
            inside = frame
        frame = frame.f_back
    return None if inside is None else _source(inside)


def _source(frame: FrameType) -> SourceLine:
    return SourceLine(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
