"""Whole models and attention mechanisms under plain names, each with one call that says what it does.

    from glassformer.advanced import vit_base_patch16_224, bert_base, gpt2_small, t5_small

    logits = vit_base_patch16_224(num_classes=10)(images)
    sequence_output, pooled_output, attention = bert_base()(input_ids)

Everything here is made of `glassformer.models` and `glassformer.parts`, which the course and the documentation speak
of; what differs is how it is called. The library's own model stands in `.model` where it is wrapped. Names load on
first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassformer.advanced.attention_mechanisms import (
        CrossAttention,
        GroupedQueryAttention,
        LinearAttention,
        MultiQueryAttention,
        RotaryPositionalEmbedding,
        SlidingWindowAttention,
        apply_rotary_pos_emb,
    )
    from glassformer.advanced.language import (
        BERTForMaskedLM,
        BERTForSequenceClassification,
        BERTModel,
        GPTModel,
        T5Model,
        bert_base,
        bert_large,
        gpt2_large,
        gpt2_medium,
        gpt2_small,
        gpt2_xl,
        gpt_small,
        t5_base,
        t5_large,
        t5_small,
        t5_xl,
    )
    from glassformer.advanced.vision import (
        SwinTransformer,
        VisionTransformer,
        swin_base_patch4_window7_224,
        swin_large_patch4_window7_224,
        swin_small_patch4_window7_224,
        swin_tiny_patch4_window7_224,
        vit_base_patch16_224,
        vit_base_patch32_224,
        vit_huge_patch14_224,
        vit_large_patch16_224,
        vit_small_patch16_224,
        vit_tiny_patch16_224,
    )

__all__ = [
    "BERTForMaskedLM",
    "BERTForSequenceClassification",
    "BERTModel",
    "CrossAttention",
    "GPTModel",
    "GroupedQueryAttention",
    "LinearAttention",
    "MultiQueryAttention",
    "RotaryPositionalEmbedding",
    "SlidingWindowAttention",
    "SwinTransformer",
    "T5Model",
    "VisionTransformer",
    "apply_rotary_pos_emb",
    "bert_base",
    "bert_large",
    "gpt2_large",
    "gpt2_medium",
    "gpt2_small",
    "gpt2_xl",
    "gpt_small",
    "swin_base_patch4_window7_224",
    "swin_large_patch4_window7_224",
    "swin_small_patch4_window7_224",
    "swin_tiny_patch4_window7_224",
    "t5_base",
    "t5_large",
    "t5_small",
    "t5_xl",
    "vit_base_patch16_224",
    "vit_base_patch32_224",
    "vit_huge_patch14_224",
    "vit_large_patch16_224",
    "vit_small_patch16_224",
    "vit_tiny_patch16_224",
]


def _home(name: str) -> str:
    if name.lower().startswith(("vit_", "swin", "vision")):
        return "vision"
    return "language" if name.lower().startswith(("bert", "gpt", "t5")) else "attention_mechanisms"


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_home(name)}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
