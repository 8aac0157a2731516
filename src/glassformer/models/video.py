"""What encoders of clips share: pictures with one axis more, time."""

from abc import ABC

from torch import Tensor

from glassformer.models.outputs import EncoderOutput
from glassformer.models.vision import ImageClassification, ImageEncoder


class VideoEncoder(ImageEncoder, ABC):
    """From a clip (b, t, c, y, x) to vectors; otherwise as an `ImageEncoder`.

    A model writes `__init__` (setting `config`, which has `channels`, `patches` and `blocks`), `hidden` and `pooled`.
    """

    axes = ("batch", "frames", "channels", "height", "width")

    def check_frames(self, frames: int) -> None:
        """Raise ValueError for clips of a length that the model cannot read."""

    def check(self, pixels: Tensor) -> None:
        super().check(pixels)
        self.check_frames(pixels.shape[1])


class VideoClassification(ImageClassification, ABC):
    """Which of `config.num_classes` classes a clip shows; what it reads is the first token, the class token."""

    def features(self, encoded: EncoderOutput) -> Tensor:
        return encoded.last_hidden_state[:, 0]
