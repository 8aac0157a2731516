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


class GroupedRouter(nn.Module):
    """σ(x Wᵀ), of which the `num_chosen` largest within the `num_chosen_groups` best groups are chosen.

    A bias joins the scores for the choice only: moved up and down while training, it balances the experts without a
    loss. A group is as good as its two best experts together. Weights are renormalised to sum `scale`.
    DeepSeek-V3 (2024), section 2.1.2, equations (13) to (16).
    """

    choice_bias: Tensor

    def __init__(
        self, dim: int, num_experts: int, num_chosen: int, *, num_groups: int, num_chosen_groups: int, scale: float
    ) -> None:
        super().__init__()
        in_reach = num_experts // max(num_groups, 1) * num_chosen_groups
        if num_groups < 1 or num_experts % num_groups or not 1 <= num_chosen_groups <= num_groups:
            raise ValueError(f"num_chosen_groups={num_chosen_groups} of num_groups={num_groups} cannot be chosen among "
                             f"num_experts={num_experts}")  # fmt: skip
        if not 1 <= num_chosen <= in_reach:
            raise ValueError(f"num_chosen={num_chosen} of the {in_reach} experts in the chosen groups cannot be chosen")
        self.num_chosen, self.num_groups, self.num_chosen_groups = num_chosen, num_groups, num_chosen_groups
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_experts, dim))
        nn.init.normal_(self.weight, std=0.02)
        self.register_buffer("choice_bias", torch.zeros(num_experts))

    def forward(self, x: Float[Tensor, "n d"]) -> Routing:
        wide = torch.promote_types(x.dtype, torch.float32)
        scores = F.linear(x.to(wide), self.weight.to(wide)).sigmoid()
        biased = (scores + self.choice_bias.to(wide)).unflatten(1, (self.num_groups, -1))
        two_best = biased.topk(min(2, biased.shape[-1]), dim=-1).values.sum(-1)
        groups = two_best.topk(self.num_chosen_groups, dim=-1).indices
        reached = torch.zeros_like(biased[..., 0], dtype=torch.bool).scatter(1, groups, True)
        chosen = biased.masked_fill(~reached[..., None], -torch.inf).flatten(1).topk(self.num_chosen, dim=-1).indices
        weights = scores.gather(1, chosen)
        total = weights.sum(-1, keepdim=True) + 1e-20  # sigmoids can all be 0; the released code adds the same
        return Routing(chosen, self.scale * weights / total, scores)

    def extra_repr(self) -> str:
        num_experts, dim = self.weight.shape
        return f"{dim}, {num_experts}, num_chosen={self.num_chosen}, groups={self.num_chosen_groups}/{self.num_groups}"


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
    counts = torch.bincount(chosen, minlength=len(experts))
    sizes = rounded(counts) if x.device.type == "cpu" else counts
    # Where each sorted token stands, when every group has the rounded size. What fills it up is token 0, weighted 0.
    gaps = (sizes.cumsum(0) - sizes) - (counts.cumsum(0) - counts)
    slots = torch.arange(len(order), device=x.device) + gaps.repeat_interleave(counts)
    tokens = order.new_zeros(int(sizes.sum())).index_copy(0, slots, order // routing.chosen.shape[1])
    weights = routing.weights.new_zeros(len(tokens)).index_copy(0, slots, routing.weights.flatten()[order])
    groups = x[tokens].split(sizes.tolist())
    computed = torch.cat([expert(group) for expert, group in zip(experts, groups, strict=True) if len(group)])
    weighted = computed * weights[:, None]
    return torch.zeros_like(x).index_add(0, tokens, weighted.to(x.dtype))


def rounded(counts: Int[Tensor, "e"]) -> Int[Tensor, "e"]:
    """Sizes of groups, above 16 the next multiple of 32.

    oneDNN makes a program for each shape that it meets, in half a millisecond, and keeps it: of groups of any size
    nearly every one would be new.
    """
    return torch.where(counts <= 16, counts, (counts + 31) // 32 * 32)


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
