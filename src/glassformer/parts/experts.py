"""Experts: several feed-forward layers, of which a router picks a few for each token (Shazeer et al. 2017).

y = Σ_e w_e · expert_e(x), over the chosen experts e

Shape letters here: n tokens, e experts, c chosen experts per token.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Routing(NamedTuple):
    """Which experts each token goes to, with what weights, and how probable each expert was."""

    chosen: Int[Tensor, "n c"]
    weights: Float[Tensor, "n c"]
    probabilities: Float[Tensor, "n e"]


class TopKRouter(nn.Module):
    """softmax(x Wᵀ), its `num_chosen` largest values renormalised to sum 1, in float32 at least.

    Jiang et al. 2024 ("Mixtral"), section 2.1: the softmax of the top logits is the same.
    """

    def __init__(self, dim: int, num_experts: int, num_chosen: int) -> None:
        super().__init__()
        if not 1 <= num_chosen <= num_experts:
            raise ValueError(f"num_chosen={num_chosen} of num_experts={num_experts} cannot be chosen")
        self.num_chosen = num_chosen
        self.weight = nn.Parameter(torch.empty(num_experts, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Float[Tensor, "n d"]) -> Routing:
        logits = F.linear(x, self.weight)
        probabilities = logits.to(torch.promote_types(x.dtype, torch.float32)).softmax(-1)
        weights, chosen = probabilities.topk(self.num_chosen, dim=-1)
        return Routing(chosen, weights / weights.sum(-1, keepdim=True), probabilities)

    def extra_repr(self) -> str:
        num_experts, dim = self.weight.shape
        return f"{dim}, {num_experts}, num_chosen={self.num_chosen}"


def every_expert(
    x: Float[Tensor, "n d"], routing: Routing, experts: Sequence[Callable[[Tensor], Tensor]]
) -> Float[Tensor, "n d"]:
    """The equation: every expert sees every token, weighted 0 where it was not chosen. The reference."""
    weights = torch.zeros_like(routing.probabilities).scatter(1, routing.chosen, routing.weights)
    return sum(expert(x) * weights[:, i : i + 1] for i, expert in enumerate(experts)).to(x.dtype)  # type: ignore


def grouped(
    x: Float[Tensor, "n d"], routing: Routing, experts: Sequence[Callable[[Tensor], Tensor]]
) -> Float[Tensor, "n d"]:
    """The same, each expert computing its own tokens only: they are sorted by expert, computed, and put back.

    A compiled graph cannot hold sizes that depend on values, as those of the groups do: there it is `every_expert`.
    """
    if torch.compiler.is_compiling():
        return every_expert(x, routing, experts)
    chosen = routing.chosen.flatten()
    order = chosen.argsort(stable=True)
    tokens = order // routing.chosen.shape[1]
    groups = x[tokens].split(torch.bincount(chosen, minlength=len(experts)).tolist())
    computed = torch.cat([expert(group) for expert, group in zip(experts, groups, strict=True) if len(group)])
    weighted = computed * routing.weights.flatten()[order, None]
    return torch.zeros_like(x).index_add(0, tokens, weighted.to(x.dtype))


class MixtureOfExperts(nn.Module):
    """Σ_e w_e · expert_e(x) over the experts that the router chooses; gives the routing too."""

    def __init__(
        self,
        router: nn.Module,
        experts: Iterable[nn.Module],
        *,
        dispatch: Callable[..., Tensor] = grouped,
    ) -> None:
        super().__init__()
        self.router, self.experts, self.dispatch = router, nn.ModuleList(experts), dispatch

    def forward(self, x: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t d"], Routing]:
        flat = x.flatten(0, 1)
        routing: Routing = self.router(flat)
        return self.dispatch(flat, routing, list(self.experts)).view_as(x), routing


def load_balancing_loss(routings: Sequence[Routing], present: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, ""]:
    """e · Σ_i f_i P_i, f_i how often a token chooses expert i, P_i its mean probability (Fedus et al. 2021, (4)).

    Over the tokens of all layers together, as Mixtral's public implementation has it; those not `present` are left out.
    It is num_chosen where all experts are chosen equally often, and larger where they are not.
    """
    probabilities = torch.stack([routing.probabilities for routing in routings])
    chosen = F.one_hot(torch.stack([routing.chosen for routing in routings]), probabilities.shape[-1]).sum(-2)
    counted = torch.ones_like(probabilities[:, :, :1])
    if present is not None:
        counted = counted * present.flatten()[:, None]
    total = counted.sum().clamp(min=1)
    share = (chosen * counted).sum((0, 1)) / total
    mean = (probabilities * counted).sum((0, 1)) / total
    return probabilities.shape[-1] * (share * mean).sum()
