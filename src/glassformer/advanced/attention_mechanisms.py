"""Kinds of attention by name. Several are one class, `glassformer.parts.Attention`, set up differently.

    self-attention           Attention(dim, num_heads)(x)
    CrossAttention           the same, keys and values from a context of another width: attention(x, context)
    MultiQueryAttention      one key head for all query heads (Shazeer 2019)
    GroupedQueryAttention    a key head for each group of query heads (Ainslie et al. 2023)
    SlidingWindowAttention   each place sees a window around it, in O(n · w)
    LinearAttention          a kernel instead of the softmax, in O(n)

Each takes `mask=` (`glassformer.Mask.causal()`, `.padding(present)`, ...), combined with `&`.
"""

from glassformer.parts import (
    CrossAttention,
    GroupedQueryAttention,
    LinearAttention,
    MultiQueryAttention,
    RotaryPositionalEmbedding,
    SlidingWindowAttention,
    apply_rotary_pos_emb,
)

__all__ = [
    "CrossAttention",
    "GroupedQueryAttention",
    "LinearAttention",
    "MultiQueryAttention",
    "RotaryPositionalEmbedding",
    "SlidingWindowAttention",
    "apply_rotary_pos_emb",
]
