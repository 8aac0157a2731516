"""Clips, prepared as the model's makers did: each frame as a picture is, by `glassformer.image.processor`.

processor = load_clip_processor("MCG-NJU/videomae-base")
inputs = processor([evenly(read_clip("dog.mp4"), 16)])              # {"pixel_values": (1, 16, 3, 224, 224)}
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.image.processor import ImageProcessor, load_image_processor


@dataclass(frozen=True)
class ClipProcessor:
    """Frames go through `frames`, an image processor without padding: all frames of a batch end up of one size."""

    frames: ImageProcessor

    def __post_init__(self) -> None:
        if self.frames.pad:
            raise ValueError("clips are not padded: give an ImageProcessor with pad=False, which resizes or crops")

    def __call__(self, clips: Sequence[Tensor] | Tensor) -> dict[str, Float[Tensor, "b t 3 y x"]]:
        """`pixel_values` of clips (t, 3, y, x), uint8 or floats in [0, 1].

        ValueError where clips are not of one length, and for what `ImageProcessor` refuses, naming the clip.
        """
        clips = list(clips)
        lengths = [clip.shape[0] if clip.ndim == 4 else None for clip in clips]
        if not clips or None in lengths or 0 in lengths or len(set(lengths)) > 1:
            found = ", ".join(str(tuple(clip.shape)) for clip in clips) or "none"
            raise ValueError(f"a batch is clips (t, 3, y, x) of one length t; these are {found}")
        prepared = []
        for number, clip in enumerate(clips):
            try:
                prepared.append(self.frames(clip)["pixel_values"])
            except ValueError as error:
                raise ValueError(f"clip {number}: {error}") from error
        if len({one.shape for one in prepared}) > 1:
            sizes = sorted({tuple(one.shape[-2:]) for one in prepared})
            raise ValueError(f"clips of the sizes {sizes} make no batch; resize to rows and columns, or crop")
        return {"pixel_values": torch.stack(prepared)}

    def normalised(self, clips: Tensor) -> Float[Tensor, "*b t 3 y x"]:
        """Pixels as the model reads them, for clips that need no resizing; see `ImageProcessor.normalised`."""
        return self.frames.normalised(clips)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `preprocessor_config.json`, which Hugging Face's processor of the family opens."""
        return self.frames.save(folder)


def load_clip_processor(folder: str | os.PathLike[str]) -> ClipProcessor:
    """The processor of a folder or hub id of a VideoMAE, ViViT or TimeSformer; raises as `load_image_processor`."""
    return ClipProcessor(load_image_processor(folder))


def evenly(clip: Tensor, num_frames: int) -> Tensor:
    """`num_frames` frames of a clip (t, ...): the middles of as many equal parts; some twice where it is shorter."""
    if num_frames < 1 or not len(clip):
        raise ValueError(f"{num_frames} frames of a clip of {len(clip)}: expected 1 or more of each")
    return clip[(torch.arange(num_frames) * 2 + 1) * len(clip) // (2 * num_frames)]
