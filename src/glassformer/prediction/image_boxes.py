"""What stands in a picture, and where: boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from glassformer.image.draw import draw_boxes, titled
from glassformer.image.postprocess import Detections, sigmoid_detections, softmax_detections
from glassformer.image.processor import ImageProcessor
from glassformer.prediction.batches import Track
from glassformer.prediction.pictures import Picture, PicturePrediction, class_names, on_cpu, outputs, sizes_of


@dataclass(frozen=True)
class Boxes(PicturePrediction):
    """Objects with their boxes, `x0 y0 x1 y1` in the picture's pixels."""

    found: Detections
    names: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        order = self.found.scores.argsort(descending=True).tolist()
        return [
            {
                "class": self.names[int(self.found.classes[i])],
                "score": self.found.scores[i].item(),
                "box": [round(edge, 1) for edge in self.found.boxes[i].tolist()],
            }
            for i in order
        ]

    def draw(self, picture: Tensor, *, title: str = "") -> Picture:
        found = self.found
        drawn = draw_boxes(picture, found.boxes, found.classes, labels=self.names, scores=found.scores)
        return titled(drawn, title) if title else drawn


def predict_boxes(
    model: Any,
    processor: ImageProcessor,
    pictures: Sequence[Tensor],
    *,
    threshold: float = 0.5,
    batch_size: int = 8,
    track: Track = iter,
) -> list[Boxes]:
    """The objects of each picture (3, y, x) that the model is surer of than `threshold`.

    A model with one logit more than classes has "no object" as its last (DETR); another scores each class by itself.
    """
    names, found = class_names(model.config), []
    for some, output in outputs(model, processor, pictures, batch_size, track):
        logits, boxes = on_cpu(output.logits), on_cpu(output.pred_boxes)
        detect = softmax_detections if logits.shape[-1] == len(names) + 1 else sigmoid_detections
        found += [Boxes(each, names) for each in detect(logits, boxes, sizes_of(some), threshold=threshold)]
    return found
