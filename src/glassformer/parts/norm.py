"""Normalisation of each vector over its width.

LayerNorm(x) = (x − mean) / √(var + ε) · weight + bias        (Ba et al. 2016)
RMSNorm(x)   = x / √(mean(x²) + ε) · weight                   (Zhang & Sennrich 2019)
ZeroCenteredRMSNorm(x) = x / √(mean(x²) + ε) · (1 + weight)   (Gemma's released code)
UnitNorm(x)  = x / ‖x‖                                        (cosine attention: Liu et al. 2022, "Swin V2")
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """(x − mean) / √(var + ε) · weight + bias."""

    def __init__(self, dim: int, eps: float = 1e-5, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None
        self.eps = eps

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(nn.Module):
    """x / √(mean(x²) + ε) · weight, the division in float32 at least.

    Halves are rounded before the weight multiplies them, as in Llama's released code: PyTorch's fused kernel does not.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        if x.dtype == self.weight.dtype and x.dtype in (torch.float32, torch.float64):
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        normal = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return normal.to(x.dtype) * self.weight

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class ZeroCenteredRMSNorm(nn.Module):
    """x / √(mean(x²) + ε) · (1 + weight), all in float32 at least: weight decay draws the gain to 1, not to 0."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        weight = 1.0 + self.weight.to(wide.dtype)
        return F.rms_norm(wide, weight.shape, weight, self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class UnitNorm(nn.Module):
    """x / ‖x‖; of zeros, zeros. The product of two such vectors is their cosine."""

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        return F.normalize(x, dim=-1)


class ScaledUnitNorm(nn.Module):
    """x / ‖x‖ times a learned number per head, exp(log_scale), at most 100: 1/τ of Liu et al. 2022, equation 2."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10.0)))

    def forward(self, x: Float[Tensor, "b h t k"]) -> Float[Tensor, "b h t k"]:
        return F.normalize(x, dim=-1) * self.log_scale.clamp(max=math.log(100.0)).exp()

    def extra_repr(self) -> str:
        return f"num_heads={len(self.log_scale)}"
