"""What a model says of pictures: its kind, and its predictions, each of which can be printed and drawn."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from glassformer.image.processor import ImageProcessor
from glassformer.models import catalog
from glassformer.prediction.batches import Track, predicting

Picture = UInt8[Tensor, "3 y x"]


class PicturePrediction(ABC):
    """A prediction for one picture."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """What was found, the surest first: in words and numbers, as a table or JSON has it."""

    @abstractmethod
    def draw(self, picture: Tensor, *, title: str = "") -> Picture:
        """The picture with what was found."""


def head_of(model: Any) -> str | None:
    """What the model's head is for: "image_classification", "object_detection"; None where it has none."""
    names = (name for heads in catalog.HEADS.values() for name, head in heads.items() if type(model) is head)
    return next(names, None)


def outputs(
    model: Any, processor: ImageProcessor, pictures: Sequence[Tensor], batch_size: int, track: Track
) -> Iterator[tuple[Sequence[Tensor], Any]]:
    """Some pictures and the model's output for them, batch by batch: one at a time where they differ in size.

    Raises ValueError where the processor is for padded pictures and the model reads no mask of them.
    """
    rows = batch_size if processor.one_size else 1
    with predicting(model) as device:
        for start in track(range(0, len(pictures), rows)):
            some = pictures[start : start + rows]
            inputs = processor(some)
            if rows == 1:
                inputs.pop("pixel_mask", None)  # all of it is picture
            yield some, model(**{name: tensor.to(device) for name, tensor in inputs.items()})


def class_names(config: Any) -> tuple[str, ...]:
    """The classes' names; LABEL_0 and so on where they have none, as in Hugging Face's configs."""
    return tuple(config.labels or (f"LABEL_{i}" for i in range(config.num_classes)))


def sizes_of(pictures: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Rows and columns of each."""
    return [(picture.shape[-2], picture.shape[-1]) for picture in pictures]


def on_cpu(tensor: Tensor) -> torch.Tensor:
    """Floats of 32 bits on the CPU, as post-processing wants them."""
    return tensor.detach().float().cpu()
