"""What a picture shows: its most probable classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from glassformer.image.draw import draw_classes
from glassformer.image.processor import ImageProcessor
from glassformer.prediction.batches import Track
from glassformer.prediction.pictures import Picture, PicturePrediction, class_names, on_cpu, outputs


@dataclass(frozen=True)
class Ranking(PicturePrediction):
    """Classes, the most probable first."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    def rows(self) -> list[dict[str, Any]]:
        pairs = zip(self.labels, self.probabilities, strict=True)
        return [{"class": label, "probability": probability} for label, probability in pairs]

    def draw(self, picture: Tensor, *, title: str = "") -> Picture:
        return draw_classes(picture, self.labels, self.probabilities, title=title)


def predict_image_classes(
    model: Any,
    processor: ImageProcessor,
    pictures: Sequence[Tensor],
    *,
    top: int | None = 5,
    batch_size: int = 32,
    track: Track = iter,
) -> list[Ranking]:
    """The `top` most probable classes of each picture (3, y, x), uint8 or in [0, 1]; None: all of them.

    Raises:
        ValueError: `top` is not positive, and what the processor and the model refuse.
    """
    if top is not None and top < 1:
        raise ValueError(f"top={top} is no number of classes to name; expected 1 or more")
    names, found = class_names(model.config), []
    for _, output in outputs(model, processor, pictures, batch_size, track):
        best = on_cpu(output.logits).softmax(-1).topk(min(top or len(names), len(names)))
        for shares, numbers in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            found.append(Ranking(tuple(names[number] for number in numbers), tuple(shares)))
    return found
