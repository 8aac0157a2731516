"""What happens in a clip: its most probable classes."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from glassformer.image.processor import ImageProcessor
from glassformer.prediction.batches import Track, predicting
from glassformer.prediction.image_classes import Ranking
from glassformer.prediction.pictures import class_names, on_cpu
from glassformer.video.processor import ClipProcessor, evenly


def predict_clip_classes(
    model: Any,
    processor: ImageProcessor,
    clips: Sequence[Tensor],
    *,
    top: int | None = 5,
    track: Track = iter,
) -> list[Ranking]:
    """The `top` most probable classes of each clip (t, 3, y, x), uint8 or in [0, 1]; None: all of them.

    As many frames as the model was trained on are taken, evenly over the whole.

    Raises:
        ValueError: `top` is not positive, what is given is a picture, and what the processor and the model refuse.
    """
    if top is not None and top < 1:
        raise ValueError(f"top={top} is no number of classes to name; expected 1 or more")
    for clip in clips:
        if clip.ndim != 4:
            raise ValueError(f"{type(model).__name__} reads clips (t, 3, y, x); this has the shape {tuple(clip.shape)}")
    names, found, prepare = class_names(model.config), [], ClipProcessor(processor)
    with predicting(model) as device:
        for clip in track(clips):
            pixels = prepare([evenly(clip, model.config.num_frames)])["pixel_values"]
            shares = on_cpu(model(pixels.to(device)).logits)[0].softmax(-1)
            best = shares.topk(min(top or len(names), len(names)))
            labels = tuple(names[number] for number in best.indices.tolist())
            found.append(Ranking(labels, tuple(best.values.tolist())))
    return found
