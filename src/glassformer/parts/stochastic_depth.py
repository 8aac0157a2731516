"""Stochastic depth: while learning, some examples skip a residual branch."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """x · keep / (1 − rate), with keep 0 for a random share `rate` of a batch's rows, else 1 (Huang et al. 2016).

    Only in training; else x. Raises ValueError for a rate outside [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"rate={rate} is no share of examples to skip; expected 0 or more, and below 1")
        self.rate = rate

    def forward(self, x: Float[Tensor, "b *rows d"]) -> Float[Tensor, "b *rows d"]:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), *(1,) * (x.ndim - 1), device=x.device) >= self.rate
        return x * (kept / (1 - self.rate)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.rate}"
