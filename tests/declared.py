"""The models that declare themselves: add one to its list, and every property and mutation test runs over it."""

from declaration import Declared
from declared_decoders import DECODERS
from declared_detection import DETECTION_MODELS
from declared_encoder_decoders import ENCODER_DECODERS
from declared_encoders import ENCODERS
from declared_segmentation import SEGMENTATION
from declared_video import VIDEO_MODELS
from declared_vision import VISION_MODELS
from declared_vision_descendants import DESCENDANTS

DECLARED: list[Declared] = [
    *DECODERS, *ENCODERS, *ENCODER_DECODERS, *VISION_MODELS, *DESCENDANTS, *SEGMENTATION, *DETECTION_MODELS,
    *VIDEO_MODELS,
]  # fmt: skip
