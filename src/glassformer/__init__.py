"""Glassformer: transformers you can see through.

The names below load on first use (PEP 562), so that `import glassformer` costs next to nothing and the NumPy half,
`glassformer.by_hand`, works where torch is not installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassformer.generation import generate, stream
    from glassformer.models.bigram import Bigram, BigramConfig
    from glassformer.models.catalog import MODELS, create_model, from_pretrained
    from glassformer.models.gpt import GPT, GPTConfig
    from glassformer.models.gpt2 import GPT2, GPT2Config
    from glassformer.models.llama import Llama, LlamaConfig
    from glassformer.ops.mask import Mask
    from glassformer.parts.kernels import kernels, use_kernels
    from glassformer.text import load_corpus, load_tokenizer
    from glassformer.training import train

__version__ = "0.1.0"

__all__ = [
    "GPT",
    "GPT2",
    "MODELS",
    "Bigram",
    "BigramConfig",
    "GPT2Config",
    "GPTConfig",
    "Llama",
    "LlamaConfig",
    "Mask",
    "create_model",
    "from_pretrained",
    "generate",
    "kernels",
    "load_corpus",
    "load_tokenizer",
    "stream",
    "train",
    "use_kernels",
]

_HOMES = {
    "GPT": "models.gpt",
    "GPT2": "models.gpt2",
    "MODELS": "models.catalog",
    "Bigram": "models.bigram",
    "BigramConfig": "models.bigram",
    "GPT2Config": "models.gpt2",
    "GPTConfig": "models.gpt",
    "Llama": "models.llama",
    "LlamaConfig": "models.llama",
    "Mask": "ops.mask",
    "create_model": "models.catalog",
    "from_pretrained": "models.catalog",
    "generate": "generation",
    "kernels": "parts.kernels",
    "load_corpus": "text",
    "load_tokenizer": "text",
    "stream": "generation",
    "train": "training",
    "use_kernels": "parts.kernels",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
