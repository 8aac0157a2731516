"""Multi-head latent attention (DeepSeek-V2, 2024, section 2.1): keys and values kept as one small vector a token."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.ops.attend import AttendKernel, sdpa
from glassformer.ops.mask import Mask
from glassformer.parts.cache import LayerCache
from glassformer.parts.linear import Linear
from glassformer.parts.norm import RMSNorm


class LatentAttention(nn.Module):
    """softmax(scale · Q Kᵀ) V per head, where K and V are linear in a latent c, and one part of K carries position.

    c = norm(D x);   k = [K c; rotate(R x)], the second part shared by all heads;   v = V c
    q = [q'; rotate(q'')] = U norm(Q x), split alike

    With a cache only c and rotate(R x) are kept, and keys and values are never formed: q'ᵀ K c = (Kᵀ q')ᵀ c, so the
    latents themselves are attended to, and V is applied to what comes out (the paper, section 2.1.2).

    Args:
        query_latent_dim, latent_dim: widths of the latents of queries, and of keys and values.
        head_dim, rotary_dim, value_dim: of each head: the part of q and k without position, the part with, and v.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        query_latent_dim: int,
        latent_dim: int,
        head_dim: int,
        rotary_dim: int,
        value_dim: int,
        scale: float | None = None,
        dropout: float = 0.0,
        kernel: AttendKernel = sdpa,
    ) -> None:
        super().__init__()
        if value_dim > head_dim + rotary_dim:
            raise ValueError(f"value_dim={value_dim} is more than head_dim + rotary_dim = {head_dim + rotary_dim}; "
                             "kernels take values as wide as keys")  # fmt: skip
        self.num_heads, self.latent_dim = num_heads, latent_dim
        self.head_dim, self.rotary_dim, self.value_dim = head_dim, rotary_dim, value_dim
        self.scale = (head_dim + rotary_dim) ** -0.5 if scale is None else scale
        self.dropout, self.kernel = dropout, kernel
        self.query_down = Linear(dim, query_latent_dim, bias=False)
        self.query_norm = RMSNorm(query_latent_dim)
        self.query_up = Linear(query_latent_dim, num_heads * (head_dim + rotary_dim), bias=False)
        self.key_value_down = Linear(dim, latent_dim + rotary_dim, bias=False)
        self.key_value_norm = RMSNorm(latent_dim)
        self.key_value_up = Linear(latent_dim, num_heads * (head_dim + value_dim), bias=False)
        self.output = Linear(num_heads * value_dim, dim, bias=False)
        self.weights = nn.Identity()  # a tap: hook it to see the attention pattern

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        *,
        mask: Mask = Mask(),
        rotate: Callable[[Tensor], Tensor],
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Attend from `x` to itself, and to what the cache holds. `rotate` turns vectors of width `rotary_dim`."""
        q = self._split(self.query_up(self.query_norm(self.query_down(x))))
        q, q_turned = q.split([self.head_dim, self.rotary_dim], dim=-1)
        latent, k_turned = self.key_value_down(x)[:, None].split([self.latent_dim, self.rotary_dim], dim=-1)
        latent = self.key_value_norm(latent)
        q_turned, k_turned = rotate(_halves(q_turned)), rotate(_halves(k_turned))
        if cache is None:
            out = self._expanded(q, q_turned, latent, k_turned, mask)
        else:
            latent, k_turned = cache.append(latent, k_turned)
            out = self._absorbed(q, q_turned, latent, k_turned, mask)
        return self.output(out.transpose(1, 2).flatten(-2))

    def _expanded(
        self, q: Tensor, q_turned: Tensor, latent: Tensor, k_turned: Tensor, mask: Mask
    ) -> Float[Tensor, "b h t w"]:
        """Keys and values of each head formed: fewer products where all tokens are queries."""
        k, v = self._split(self.key_value_up(latent[:, 0])).split([self.head_dim, self.value_dim], dim=-1)
        k = torch.cat([k, k_turned.expand(-1, self.num_heads, -1, -1)], dim=-1)
        v = F.pad(v, (0, k.shape[-1] - self.value_dim))
        return self._attend(torch.cat([q, q_turned], dim=-1), k, v, mask)[..., : self.value_dim]

    def _absorbed(
        self, q: Tensor, q_turned: Tensor, latent: Tensor, k_turned: Tensor, mask: Mask
    ) -> Float[Tensor, "b h t w"]:
        """All heads attend to the latents: as many reads as one head, however many heads."""
        up = self.key_value_up.weight.unflatten(0, (self.num_heads, -1))
        key_up, value_up = up.split([self.head_dim, self.value_dim], dim=1)
        q = torch.cat([einsum(q, key_up, "b h t k, h k l -> b h t l"), q_turned], dim=-1)
        k = torch.cat([latent, k_turned], dim=-1)
        out = self._attend(q, k, k, mask)[..., : self.latent_dim]
        return einsum(out, value_up, "b h t l, h w l -> b h t w")

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Float[Tensor, "b h t k"]:
        dropout = self.dropout if self.training else 0.0
        out, weights = self.kernel(q, k, v, mask=mask, score_bias=None, scale=self.scale, dropout=dropout)
        if weights is not None:
            self.weights(weights)
        return out

    def _split(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b h t k"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _halves(x: Float[Tensor, "b h t k"]) -> Float[Tensor, "b h t k"]:
    """DeepSeek turns neighbours, x_2i with x_2i+1; `Rotation` turns x_i with x_i+k/2. A product sees no order."""
    return x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
