"""Whole models and attention mechanisms under plain names, each with one call that says what it does.

    from glassformer.advanced import vit_base_patch16_224, bert_base, gpt2_small, t5_small

    logits = vit_base_patch16_224(num_classes=10)(images)
    sequence_output, pooled_output, attention = bert_base()(input_ids)

Everything here is made of `glassformer.models` and `glassformer.parts`, which the course and the documentation speak
of; what differs is how it is called. The library's own model stands in `.model` where it is wrapped. Names load on
first use (PEP 562).
"""

from glassformer.foundation.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
