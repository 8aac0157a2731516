"""Every model by name: families, published sizes, and the class that opens a folder."""

import os
from dataclasses import fields, replace
from typing import Any

import torch

from glassformer.checkpoints.pretrained import load_folder
from glassformer.foundation.suggest import did_you_mean
from glassformer.models import deepseek, gemma3, gpt, gpt2, llama, mistral, mixtral, mpt, qwen3
from glassformer.models.bigram import Bigram, BigramConfig
from glassformer.models.language_model import LanguageModel

MODELS: dict[str, type[LanguageModel]] = {
    "bigram": Bigram,
    "gpt": gpt.GPT,
    "gpt2": gpt2.GPT2,
    "llama": llama.Llama,
    "mistral": mistral.Mistral,
    "qwen3": qwen3.Qwen3,
    "mpt": mpt.MPT,
    "gemma3": gemma3.Gemma3,
    "mixtral": mixtral.Mixtral,
    "deepseek": deepseek.DeepSeek,
}
"""Family -> class."""

CONFIGS: dict[str, Any] = {
    "bigram": BigramConfig(),
    **gpt.SIZES,
    **gpt2.SIZES,
    "llama": llama.LlamaConfig(),
    **llama.SIZES,
    "mistral": mistral.MistralConfig(),
    **mistral.SIZES,
    "qwen3": qwen3.Qwen3Config(),
    **qwen3.SIZES,
    "mpt": mpt.MPTConfig(),
    **mpt.SIZES,
    "gemma3": gemma3.Gemma3Config(),
    **gemma3.SIZES,
    "mixtral": mixtral.MixtralConfig(),
    **mixtral.SIZES,
    "deepseek": deepseek.DeepSeekConfig(),
    **deepseek.SIZES,
}
"""Name of a size, or of a family for its default -> config."""

ARCHITECTURES = {name: model for model in MODELS.values() for name in model.config_table.architectures}
"""What a folder's `config.json` calls its `architectures` -> the class that opens it."""

_CLASSES = {model.config_table.config: model for model in MODELS.values()}


def model_config(name: str, **changes: Any) -> Any:
    """The config of a published size, with `changes` made to it.

    Raises:
        ValueError: no such size. TypeError: no such setting; each with the nearest that there is.
    """
    if name not in CONFIGS:
        raise ValueError(f"there is no model {name!r}{did_you_mean(name, CONFIGS)}")
    config = CONFIGS[name]
    known = [field.name for field in fields(config)]
    for setting in changes:
        if setting not in known:
            raise TypeError(f"{type(config).__name__} has no setting {setting!r}{did_you_mean(setting, known)}")
    return replace(config, **changes)


def create_model(name: str, **changes: Any) -> LanguageModel:
    """A model of a published size, its weights drawn anew; `changes` are settings of its config.

    >>> create_model("gpt2-medium", max_positions=2048).num_parameters
    """
    return build(model_config(name, **changes))


def build(config: Any) -> LanguageModel:
    """The model whose config this is. Raises TypeError for what is no model's config."""
    if type(config) not in _CLASSES:
        known = ", ".join(kind.__name__ for kind in _CLASSES)
        raise TypeError(f"{type(config).__name__} is no model's config; expected one of {known}")
    make: Any = _CLASSES[type(config)]
    return make(config)


def from_pretrained(
    path_or_id: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    allow_nonfinite: bool = False,
) -> LanguageModel:
    """The model of a Hugging Face folder or hub id, its class picked by the folder's `architectures`.

    Arguments and errors are those of `Pretrained.from_pretrained`.
    """
    return load_folder(path_or_id, ARCHITECTURES, dtype=dtype, device=device, allow_nonfinite=allow_nonfinite)
