"""Clips: reading and writing them, preparing them for a model, and sets of them.

Names load on first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassformer.video.datasets import ClipRecord, ClipSet, load_clips
    from glassformer.video.files import filmstrip, read_clip, write_clip
    from glassformer.video.motions import Motions
    from glassformer.video.processor import ClipProcessor, load_clip_processor

_HOMES = {
    "ClipProcessor": "processor",
    "ClipRecord": "datasets",
    "ClipSet": "datasets",
    "Motions": "motions",
    "filmstrip": "files",
    "load_clip_processor": "processor",
    "load_clips": "datasets",
    "read_clip": "files",
    "write_clip": "files",
}

__all__ = [
    "ClipProcessor",
    "ClipRecord",
    "ClipSet",
    "Motions",
    "filmstrip",
    "load_clip_processor",
    "load_clips",
    "read_clip",
    "write_clip",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
