"""Rotary positions as tables of cosines and sines, for those who turn queries and keys themselves."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.parts.position import Rotary, Rotation


class RotaryPositionalEmbedding(nn.Module):
    """The cosines and sines of `Rotary` for positions 0 … seq_len − 1 (Su et al. 2021, equation 15).

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
    """Queries and keys, turned by their positions' angles; `Rotation` turns each.

    Raises ValueError where the angles are not those of as many positions, or of another width.
    """
    rotate = Rotation(cos, sin)
    for name, x in (("q", q), ("k", k)):
        if x.shape[-2:] != cos.shape[-2:]:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)} and cos {tuple(cos.shape)}; the last two sizes must agree"
            )
    return rotate(q), rotate(k)
