"""What stands in a picture, pixel by pixel: a map of classes, or a mask for each object."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor

from glassformer.image.draw import draw_masks, draw_semantic, titled
from glassformer.image.postprocess import Segments, instance_segments, semantic_maps
from glassformer.image.processor import ImageProcessor
from glassformer.prediction.batches import Track
from glassformer.prediction.pictures import Picture, PicturePrediction, class_names, on_cpu, outputs, sizes_of


@dataclass(frozen=True)
class ClassMap(PicturePrediction):
    """A class for each pixel (y, x)."""

    classes: Int[Tensor, "y x"]
    names: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        numbers, counts = self.classes.unique(return_counts=True)
        shares = zip(numbers.tolist(), (counts / self.classes.numel()).tolist(), strict=True)
        rows = [{"class": self.names[number], "share": share} for number, share in shares]
        return sorted(rows, key=lambda row: -row["share"])

    def draw(self, picture: Tensor, *, title: str = "") -> Picture:
        drawn = draw_semantic(picture, self.classes, self.names)
        return titled(drawn, title) if title else drawn


@dataclass(frozen=True)
class Masks(PicturePrediction):
    """Objects with their masks."""

    found: Segments
    names: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        order = self.found.scores.argsort(descending=True).tolist()
        return [
            {
                "class": self.names[int(self.found.classes[i])],
                "score": self.found.scores[i].item(),
                "pixels": int(self.found.masks[i].sum()),
            }
            for i in order
        ]

    def draw(self, picture: Tensor, *, title: str = "") -> Picture:
        found = self.found
        drawn = draw_masks(picture, found.masks.bool(), found.classes, labels=self.names, scores=found.scores)
        return titled(drawn, title) if title else drawn


def predict_class_maps(
    model: Any, processor: ImageProcessor, pictures: Sequence[Tensor], *, batch_size: int = 8, track: Track = iter
) -> list[ClassMap]:
    """The class of each pixel of each picture (3, y, x)."""
    names, found = class_names(model.config), []
    for some, output in outputs(model, processor, pictures, batch_size, track):
        found += [ClassMap(each, names) for each in semantic_maps(on_cpu(output.logits), sizes_of(some))]
    return found


WORKING = (384, 384)
"""The size at which masks are cut at 0, as in Hugging Face's processor: smooth, then brought to the picture's."""


def predict_masks(
    model: Any,
    processor: ImageProcessor,
    pictures: Sequence[Tensor],
    *,
    threshold: float = 0.5,
    batch_size: int = 8,
    track: Track = iter,
) -> list[Masks]:
    """The objects of each picture (3, y, x), with their masks, that the model is surer of than `threshold`."""
    names, found = class_names(model.config), []
    for some, output in outputs(model, processor, pictures, batch_size, track):
        classes, masks = on_cpu(output.class_queries_logits), on_cpu(output.masks_queries_logits)
        segments = instance_segments(classes, masks, sizes_of(some), threshold=threshold, working_size=WORKING)
        found += [Masks(each, names) for each in segments]
    return found
