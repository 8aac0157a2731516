"""LayerScale: a learned gain for each channel of what a block adds."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LayerScale(nn.Module):
    """x · weight, with one weight per channel, small or 1 at first (Touvron et al. 2021, "CaiT", equation 4)."""

    def __init__(self, dim: int, initial: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        return x * self.weight

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}"
