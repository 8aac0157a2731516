"""What encoders of clips share: pictures with one axis more, time."""

from abc import ABC

import torch
from torch import Tensor, nn

from glassformer.models.outputs import EncoderOutput
from glassformer.models.vision import ImageClassification, ImageEncoder
from glassformer.parts import Linear, PatchEmbedding, TubeletEmbedding

PLACE_STD = 0.5
"""Of learned positions: about that of a patch's vector, so that what moves can be told from what stays at once."""


@torch.no_grad()
def draw_by_width(model: nn.Module) -> None:
    """Draw the patches' and the blocks' weights from N(0, 1 / inputs) (LeCun et al. 1998, section 4.6).

    A class of motion depends on products of what is seen at two times: they vanish where small layers begin with the
    usual N(0, 0.02²), which is made for wide ones.
    """
    for part in model.modules():
        if isinstance(part, Linear | PatchEmbedding | TubeletEmbedding):
            part.weight.normal_(std=part.weight[0].numel() ** -0.5)


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
