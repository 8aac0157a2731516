"""Linear attention: a kernel in the place of the softmax, so that time and memory grow with n, not with n²."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.ops.mask import Causal, Mask, Padding
from glassformer.parts.linear import Linear

CHUNK = 64  # queries that meet one another directly, in the causal form


@dataclass(frozen=True)
class LinearState:
    """What a causal layer remembers of all keys so far, of one size whatever their number: Σ φ(k) vᵀ and Σ φ(k)."""

    total: Float[Tensor, "b h k w"]
    norm: Float[Tensor, "b h k"]


class LinearAttention(nn.Module):
    """out_i = φ(q_i)ᵀ Σ_j φ(k_j) v_jᵀ / φ(q_i)ᵀ Σ_j φ(k_j), with φ(x) = elu(x) + 1   (Katharopoulos et al. 2020, 5).

    The sums run over all visible keys: without an order they are formed once for all queries; under a causal mask
    (their equation 9) chunk by chunk, each query meeting the sum over the chunks before its own, and its own chunk's
    keys one by one. Sums are in float32 at least. A query that sees no key gives 0.

    Raises ValueError for a `num_heads` that does not divide `dim`, or letters outside "qkvo" in `biased`.
    """

    def __init__(self, dim: int, num_heads: int, *, context_dim: int | None = None, biased: str = "qkvo") -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}; choose a divisor")
        if not set(biased) <= set("qkvo"):
            raise ValueError(f"biased={biased!r} names no projection; its letters are those of 'qkvo'")
        context_dim = dim if context_dim is None else context_dim
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.query = Linear(dim, dim, bias="q" in biased)
        self.key = Linear(context_dim, dim, bias="k" in biased)
        self.value = Linear(context_dim, dim, bias="v" in biased)
        self.output = Linear(dim, dim, bias="o" in biased)

    def forward(
        self,
        query: Float[Tensor, "b t d"],
        context: Float[Tensor, "b s c"] | None = None,
        *,
        mask: Mask = Mask(),
    ) -> Float[Tensor, "b t d"]:
        """Attend from `query` to `context` (default: itself).

        Raises ValueError for a mask with other terms than causal and padding, or a causal one with another context.
        """
        causal = any(isinstance(term, Causal) for term in mask.terms)
        if causal and context is not None:
            raise ValueError("a causal mask orders one sequence, and another context is given; leave one of them out")
        if causal:
            return self.extend(query, mask=mask)[0]
        q, k, v = self._features(query, query if context is None else context, mask)
        total, norm = einsum(k, v, "b h s k, b h s w -> b h k w"), k.sum(2)
        return self._out(einsum(q, total, "b h t k, b h k w -> b h t w"), einsum(q, norm, "b h t k, b h k -> b h t"))

    def extend(
        self, x: Float[Tensor, "b t d"], state: LinearState | None = None, *, mask: Mask = Mask.causal()
    ) -> tuple[Float[Tensor, "b t d"], LinearState]:
        """The causal form, going on from `state` (None: from nothing); with it, the state to go on from.

        Token by token, in chunks, or whole: the outputs are the same. A padding mask speaks of the new tokens alone.
        """
        t = x.shape[1]
        q, k, v = (self._chunked(part) for part in self._features(x, x, mask))
        state = self.new_state(len(x)) if state is None else state
        sums, norms = einsum(k, v, "b h m c k, b h m c w -> b h m k w"), reduce(k, "b h m c k -> b h m k", "sum")
        sums = torch.cat([state.total[:, :, None], sums], dim=2).cumsum(2)  # entry m: before chunk m
        norms = torch.cat([state.norm[:, :, None], norms], dim=2).cumsum(2)
        scores = einsum(q, k, "b h m i k, b h m j k -> b h m i j").tril()  # within a chunk
        held = einsum(q, sums[:, :, :-1], "b h m i k, b h m k w -> b h m i w") + scores @ v
        norm = einsum(q, norms[:, :, :-1], "b h m i k, b h m k -> b h m i") + scores.sum(-1)
        held, norm = rearrange(held, "b h m i w -> b h (m i) w"), rearrange(norm, "b h m i -> b h (m i)")
        return self._out(held[:, :, :t], norm[:, :, :t]), LinearState(sums[:, :, -1], norms[:, :, -1])

    def new_state(self, batch_size: int) -> LinearState:
        """The state before the first token: all sums 0."""
        weight = self.key.weight
        shape = (batch_size, self.num_heads, self.head_dim, self.head_dim)
        total = torch.zeros(shape, dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device)
        return LinearState(total, total[..., 0])

    def _features(
        self, x: Float[Tensor, "b t d"], context: Float[Tensor, "b s c"], mask: Mask
    ) -> tuple[Float[Tensor, "b h t k"], Float[Tensor, "b h s k"], Float[Tensor, "b h s k"]]:
        """φ(q), φ(k) and v of each head; keys that are hidden have φ(k) = 0, which no sum sees."""
        if odd := [type(term).__name__.lower() for term in mask.terms if not isinstance(term, Causal | Padding)]:
            raise ValueError(f"a {odd[0]} mask is none that linear attention has sums for; it takes causal and padding")
        mask.check(x.shape[0], x.shape[1], context.shape[1])
        q, k, v = (self._split(y) for y in (self.query(x), self.key(context), self.value(context)))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        for term in mask.terms:
            if isinstance(term, Padding):
                k = k.masked_fill(~term.present[:, None, :, None], 0.0)
        return q, k, v

    def _out(self, held: Float[Tensor, "b h t w"], norm: Float[Tensor, "b h t"]) -> Float[Tensor, "b t d"]:
        held = held / norm.masked_fill(norm == 0, 1.0)[..., None]  # norm 0: no key is seen, and held is 0
        return self.output(rearrange(held, "b h t w -> b t (h w)").to(self.output.weight.dtype))

    def _split(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b h t k"]:
        wide = torch.promote_types(x.dtype, torch.float32)
        return rearrange(x.to(wide), "b t (h k) -> b h t k", h=self.num_heads)

    def _chunked(self, x: Float[Tensor, "b h t k"]) -> Float[Tensor, "b h m c k"]:
        """In chunks of `CHUNK` places, the last filled up with 0, which adds nothing to a sum."""
        t = x.shape[2]
        size = min(CHUNK, t)
        return rearrange(F.pad(x, (0, 0, 0, -t % size)), "b h (m c) k -> b h m c k", c=size)
