"""Attention of conditional DETR (Meng et al. 2021): what is there and where it is have projections of their own."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.ops.attend import AttendKernel, auto
from glassformer.ops.mask import Mask
from glassformer.parts.linear import Linear


class ConditionalAttention(nn.Module):
    """softmax(scale · (Q Kᵀ + P Rᵀ)) V per head, then an output projection (section 3.3, equation 3).

    Q and K are made of contents, P and R of places: each head's scores are the sum of two products, as those of
    [Q; P] and [K; R] side by side, with scale = 1/√(2k). With `joined` the places are also added to the contents:
    Q + S, K + R, S made of the query's own place by a projection of its own; so the first decoder layer has it, whose
    contents say nothing yet.
    """

    def __init__(
        self, dim: int, num_heads: int, *, joined: bool = False, dropout: float = 0.0, kernel: AttendKernel = auto
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}")
        self.num_heads, self.dropout, self.kernel = num_heads, dropout, kernel
        self.head_dim = dim // num_heads
        self.scale = (2 * self.head_dim) ** -0.5
        self.query, self.key, self.value = Linear(dim, dim), Linear(dim, dim), Linear(dim, dim)
        self.query_place, self.key_place = Linear(dim, dim), Linear(dim, dim)
        self.query_joined = Linear(dim, dim) if joined else None
        self.output = Linear(dim, dim)
        self.weights = nn.Identity()  # a tap: hook it to see the attention pattern

    def forward(
        self,
        query: Float[Tensor, "b t d"],
        context: Float[Tensor, "b s d"],
        *,
        query_place: Float[Tensor, "#b t d"],
        key_place: Float[Tensor, "#b s d"],
        joined: Float[Tensor, "#b t d"] | None = None,
        mask: Mask = Mask(),
    ) -> Float[Tensor, "b t d"]:
        """From `query` at `query_place` to `context` at `key_place`; `joined` is what a query itself stands for.

        Raises ValueError where `joined` is given to a layer without it, or the other way round.
        """
        if (joined is None) != (self.query_joined is None):
            raise ValueError("a layer made with joined=True wants `joined`, and no other takes it")
        q, k, r = self.query(query), self.key(context), self.key_place(key_place)
        if self.query_joined is not None:
            q, k = q + self.query_joined(joined), k + r
        q, k = self._split(q, self.query_place(query_place)), self._split(k, r)
        v = rearrange(self.value(context), "b s (h k) -> b h s k", h=self.num_heads)
        v = nn.functional.pad(v, (0, self.head_dim))  # kernels take values as wide as keys
        dropout = self.dropout if self.training else 0.0
        out, weights = self.kernel(q, k, v, mask=mask, score_bias=None, scale=self.scale, dropout=dropout)
        if weights is not None:
            self.weights(weights)
        return self.output(rearrange(out[..., : self.head_dim], "b h t k -> b t (h k)"))

    def _split(self, content: Float[Tensor, "b t d"], place: Float[Tensor, "#b t d"]) -> Float[Tensor, "b h t w"]:
        heads = (*content.shape[:-1], self.num_heads, self.head_dim)
        both = torch.cat([content.view(heads), place.expand_as(content).reshape(heads)], dim=-1)
        return both.transpose(1, 2)


class PlacedAttention(nn.Module):
    """Attention within a set, q = Q x + P p, k = K x + R p, v = V x: places p join by projections of their own."""

    def __init__(self, dim: int, num_heads: int, *, dropout: float = 0.0, kernel: AttendKernel = auto) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}")
        self.num_heads, self.dropout, self.kernel = num_heads, dropout, kernel
        self.scale = (dim // num_heads) ** -0.5
        self.query, self.key, self.value = Linear(dim, dim), Linear(dim, dim), Linear(dim, dim)
        self.query_place, self.key_place = Linear(dim, dim), Linear(dim, dim)
        self.output = Linear(dim, dim)
        self.weights = nn.Identity()  # a tap: hook it to see the attention pattern

    def forward(
        self, x: Float[Tensor, "b t d"], place: Float[Tensor, "#b t d"], *, mask: Mask = Mask()
    ) -> Float[Tensor, "b t d"]:
        """From `x` to itself."""
        q, k, v = self.query(x) + self.query_place(place), self.key(x) + self.key_place(place), self.value(x)
        q, k, v = (rearrange(each, "b t (h k) -> b h t k", h=self.num_heads) for each in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        out, weights = self.kernel(q, k, v, mask=mask, score_bias=None, scale=self.scale, dropout=dropout)
        if weights is not None:
            self.weights(weights)
        return self.output(rearrange(out, "b h t k -> b t (h k)"))
