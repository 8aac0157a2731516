"""The mirror: the same models in NumPy, every forward pass with its gradient written beside it.

It needs NumPy and nothing else. `python -m glassformer.by_hand` trains a small GPT with it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassformer.by_hand.checkpoints import read_safetensors
    from glassformer.by_hand.generation import generate, stream
    from glassformer.by_hand.models.bert import BERT, BERTConfig
    from glassformer.by_hand.models.bert_heads import BERTForMaskedLM, BERTForSequenceClassification
    from glassformer.by_hand.models.gpt2 import GPT2, GPT2Config
    from glassformer.by_hand.models.llama import Llama, LlamaConfig
    from glassformer.by_hand.models.t5 import T5, T5Config
    from glassformer.by_hand.models.transformer import TokenTransformer, TransformerConfig
    from glassformer.by_hand.models.vit import ViT, ViTConfig, ViTForImageClassification
    from glassformer.by_hand.ops.cross_entropy import cross_entropy
    from glassformer.by_hand.ops.mask import Mask
    from glassformer.by_hand.optimizers import AdamW, clip_gradients, cosine_schedule

__all__ = [
    "BERT",
    "GPT2",
    "T5",
    "AdamW",
    "BERTConfig",
    "BERTForMaskedLM",
    "BERTForSequenceClassification",
    "GPT2Config",
    "Llama",
    "LlamaConfig",
    "Mask",
    "T5Config",
    "TokenTransformer",
    "TransformerConfig",
    "ViT",
    "ViTConfig",
    "ViTForImageClassification",
    "clip_gradients",
    "cosine_schedule",
    "cross_entropy",
    "generate",
    "read_safetensors",
    "stream",
]

_HOME = {
    "checkpoints": ["read_safetensors"],
    "models.bert": ["BERT", "BERTConfig"],
    "models.bert_heads": ["BERTForMaskedLM", "BERTForSequenceClassification"],
    "models.gpt2": ["GPT2", "GPT2Config"],
    "models.llama": ["Llama", "LlamaConfig"],
    "models.t5": ["T5", "T5Config"],
    "models.transformer": ["TokenTransformer", "TransformerConfig"],
    "models.vit": ["ViT", "ViTConfig", "ViTForImageClassification"],
    "ops.cross_entropy": ["cross_entropy"],
    "ops.mask": ["Mask"],
    "generation": ["generate", "stream"],
    "optimizers": ["AdamW", "clip_gradients", "cosine_schedule"],
}


def __getattr__(name: str) -> Any:
    """Names load when first used: `--help` needs no NumPy, and it must not load before its kernels are chosen."""
    from importlib import import_module

    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
