"""Pictures: reading and writing them, changing them, preparing them for a model, and sets of them.

Names load on first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassformer.image.datasets import PictureSet, Record, load_pictures
    from glassformer.image.files import read_image, read_mask, write_image
    from glassformer.image.objects import Objects
    from glassformer.image.postprocess import Detections, Segments
    from glassformer.image.processor import ImageProcessor, ShortestEdge, load_image_processor
    from glassformer.image.scenes import SceneBatch, Scenes
    from glassformer.image.transforms import Augmentation, PictureBatch

_HOMES = {
    "Augmentation": "transforms",
    "Detections": "postprocess",
    "ImageProcessor": "processor",
    "Objects": "objects",
    "PictureBatch": "transforms",
    "PictureSet": "datasets",
    "Record": "datasets",
    "SceneBatch": "scenes",
    "Scenes": "scenes",
    "Segments": "postprocess",
    "ShortestEdge": "processor",
    "load_image_processor": "processor",
    "load_pictures": "datasets",
    "read_image": "files",
    "read_mask": "files",
    "write_image": "files",
}

__all__ = [
    "Augmentation",
    "Detections",
    "ImageProcessor",
    "Objects",
    "PictureBatch",
    "PictureSet",
    "Record",
    "SceneBatch",
    "Scenes",
    "Segments",
    "ShortestEdge",
    "load_image_processor",
    "load_pictures",
    "read_image",
    "read_mask",
    "write_image",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
