"""Kinds of attention by name. Several are one class, `glassformer.parts.Attention`, set up differently.

    self-attention           Attention(dim, num_heads)(x)
    CrossAttention           the same, keys and values from a context of another width: attention(x, context)
    MultiQueryAttention      one key head for all query heads (Shazeer 2019)
    GroupedQueryAttention    a key head for each group of query heads (Ainslie et al. 2023)
    SlidingWindowAttention   each place sees a window around it, in O(n · w)
    LinearAttention          a kernel instead of the softmax, in O(n)

Each takes `mask=` (`glassformer.Mask.causal()`, `.padding(present)`, ...), combined with `&`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.parts import Attention, LinearAttention, Rotary, Rotation, SlidingWindowAttention

__all__ = [
    "CrossAttention",
    "GroupedQueryAttention",
    "LinearAttention",
    "MultiQueryAttention",
    "RotaryPositionalEmbedding",
    "SlidingWindowAttention",
    "apply_rotary_pos_emb",
]


def CrossAttention(dim: int, context_dim: int, num_heads: int, **options: Any) -> Attention:
    """An `Attention` whose keys and values come from a context `context_dim` wide: `attention(x, context)`.

    The options, and the errors, are those of `glassformer.parts.Attention`.
    """
    return Attention(dim, num_heads, context_dim=context_dim, **options)


def MultiQueryAttention(dim: int, num_heads: int, **options: Any) -> Attention:
    """An `Attention` with one key head, which all query heads share (Shazeer 2019)."""
    return GroupedQueryAttention(dim, num_heads, 1, **options)


def GroupedQueryAttention(dim: int, num_heads: int, num_kv_heads: int, **options: Any) -> Attention:
    """An `Attention` whose query heads share `num_kv_heads` key heads, in groups (Ainslie et al. 2023)."""
    return Attention(dim, num_heads, num_kv_heads=num_kv_heads, **options)


class RotaryPositionalEmbedding(nn.Module):
    """The cosines and sines of `glassformer.parts.Rotary` for positions 0 … seq_len − 1 (Su et al. 2021, equation 15).

    `dim` is the width of a head. Raises ValueError where it is odd, and for more positions than `max_seq_len`.
    """

    def __init__(self, dim: int, max_seq_len: int = 2048, *, base: float = 10_000.0) -> None:
        super().__init__()
        if max_seq_len < 1:
            raise ValueError(f"max_seq_len={max_seq_len} leaves no position; expected 1 or more")
        self.max_seq_len = max_seq_len
        self.rotary = Rotary(dim, base=base)

    def forward(
        self, x: Float[Tensor, "*rows"], seq_len: int | None = None
    ) -> tuple[Float[Tensor, "t k"], Float[Tensor, "t k"]]:
        """cos and sin, (seq_len, dim) each, in the dtype and on the device of x; `seq_len` is x's last size but one.

        Each angle stands twice, at i and at i + dim/2, for `apply_rotary_pos_emb`.
        """
        seq_len = x.shape[-2] if seq_len is None else seq_len
        if not 1 <= seq_len <= self.max_seq_len:
            raise ValueError(f"seq_len={seq_len} is outside 1 to max_seq_len={self.max_seq_len}")
        rotation = self.rotary(torch.arange(seq_len, device=x.device))
        return rotation.cos.to(x.dtype), rotation.sin.to(x.dtype)


def apply_rotary_pos_emb(
    q: Float[Tensor, "b h t k"], k: Float[Tensor, "b g t k"], cos: Float[Tensor, "t k"], sin: Float[Tensor, "t k"]
) -> tuple[Float[Tensor, "b h t k"], Float[Tensor, "b g t k"]]:
    """Queries and keys, turned by their positions' angles; `glassformer.parts.Rotation` turns each.

    Raises ValueError where the angles are not those of as many positions, or of another width.
    """
    rotate = Rotation(cos, sin)
    for name, x in (("q", q), ("k", k)):
        if x.shape[-2:] != cos.shape[-2:]:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)} and cos {tuple(cos.shape)}; the last two sizes must agree"
            )
    return rotate(q), rotate(k)
