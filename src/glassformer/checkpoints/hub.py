"""From a path or a hub id to a model's folder on this machine."""

import os
from pathlib import Path

from glassformer.foundation import hub
from glassformer.text.tokenizer import TOKENIZER_FILES

FILES = (  # nothing else is downloaded: no pickles, no programs
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    *TOKENIZER_FILES,
)


def resolve(path_or_id: str | os.PathLike[str]) -> Path:
    """The model's folder that is meant; the errors are those of `foundation.hub.resolve`."""
    return hub.resolve(path_or_id, FILES)
