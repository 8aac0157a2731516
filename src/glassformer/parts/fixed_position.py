"""Vectors for places that do not learn, and are computed once."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.parts.position import SinusoidalPosition


class FixedPosition(nn.Module):
    """The sinusoids of a sequence's places (Vaswani et al. 2017, section 3.5), kept beside the weights; in no file."""

    weight: Tensor

    def __init__(self, num_places: int, dim: int) -> None:
        super().__init__()
        self.waves = SinusoidalPosition(num_places, dim)
        self.register_buffer("weight", torch.empty(0), persistent=False)
        self.reset_buffers(None)

    def reset_buffers(self, device: torch.device | None) -> None:
        """Compute them."""
        self.weight = self.waves(torch.arange(self.waves.max_positions, device=device))

    def forward(self) -> Float[Tensor, "t d"]:
        return self.weight
