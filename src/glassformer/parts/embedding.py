"""Tokens to vectors: one learned row per id."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class Embedding(nn.Module):
    """y = W[ids], with W of shape (size, dim)."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W from N(0, 0.02²)."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, ids: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows d"]:
        return F.embedding(ids, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"
