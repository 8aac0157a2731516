"""What several commands need: a model with its tokenizer, from a run folder, a Hugging Face folder or a hub id."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glassformer.checkpoints.folders import read_json
from glassformer.checkpoints.hub import resolve
from glassformer.foundation.suggest import did_you_mean
from glassformer.image.processor import ImageProcessor, load_image_processor
from glassformer.models.catalog import from_pretrained
from glassformer.parts import use_kernels
from glassformer.text import Tokenizer, load_tokenizer
from glassformer.training import Run, is_run, load_run
from glassformer.training.run import device_named

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Opened:
    """A model and what belongs to it; `run` where it comes from a run folder."""

    model: Any  # a LanguageModel, an encoder with or without a head, an encoder-decoder
    folder: Path
    run: Run | None

    def tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises FileNotFoundError where the folder has none."""
        return load_tokenizer(self.folder) if self.run is None else self.run.tokenizer

    def processor(self) -> ImageProcessor:
        """The image processor. Raises FileNotFoundError where the folder has none."""
        return load_image_processor(self.folder) if self.run is None else self.run.processor

    def eos_token_ids(self) -> tuple[int, ...] | None:
        """What the folder says ends a text; None where it says nothing."""
        for name in ("generation_config.json", "config.json") if self.run is None else ():
            if (self.folder / name).is_file() and (
                found := read_json(self.folder / name).get("eos_token_id")
            ) is not None:
                return tuple(found) if isinstance(found, list) else (found,)
        return None


def open_model(name: str, *, dtype: str | None = None, device: str = "auto", linear: str | None = None) -> Opened:
    """The model in a folder, in eval mode, converted and moved as asked for.

    Raises OSError where there is none; ValueError for an unknown dtype, device or kernel, and for a damaged folder.
    """
    kind = None if dtype is None else named_dtype(dtype)
    place = device_named(device)
    if is_run(name):
        run = load_run(name)
        opened = Opened(run.model.to(place, kind), Path(name), run)
    else:
        folder = resolve(name)
        opened = Opened(from_pretrained(folder, dtype=kind, device=place), folder, None)
    if linear is not None:
        use_kernels(opened.model, linear=linear)
    return opened


def named_dtype(name: str) -> torch.dtype:
    """The dtype of a name. Raises ValueError for one that models are not stored in."""
    if name not in DTYPES:
        raise ValueError(f"there is no dtype {name!r}{did_you_mean(name, DTYPES)}")
    return DTYPES[name]
