"""The router's weights, choices and ties; the load-balancing loss."""

from functools import partial

import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from glassformer.parts import (
    GatedFeedForward,
    GroupedRouter,
    MixtureOfExperts,
    Routing,
    TopKRouter,
    load_balancing_loss,
)
from glassformer.parts.experts import every_expert, grouped


def router(num_experts: int, num_chosen: int, dim: int = 8) -> TopKRouter:
    router = TopKRouter(dim, num_experts, num_chosen)
    torch.nn.init.normal_(router.weight)
    return router


def test_weights_are_the_softmax_of_the_largest_logits() -> None:
    route, x = router(6, 2), torch.randn(50, 8)
    chosen, weights, probabilities = route(x)
    logits, places = (x @ route.weight.T).topk(2)
    assert torch.equal(chosen, places)
    torch.testing.assert_close(weights, logits.softmax(-1))
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(50))


def test_tied_experts_are_each_chosen_once_with_equal_weights() -> None:
    route = router(5, 3)
    torch.nn.init.zeros_(route.weight)
    chosen, weights, _ = route(torch.randn(20, 8))
    assert all(len(set(row)) == 3 for row in chosen.tolist())
    torch.testing.assert_close(weights, torch.full((20, 3), 1 / 3))


@pytest.mark.parametrize("num_chosen", [0, 6])
def test_an_impossible_number_of_choices_is_refused(num_chosen: int) -> None:
    with pytest.raises(ValueError, match=f"num_chosen={num_chosen} of num_experts=5 cannot be chosen"):
        TopKRouter(8, 5, num_chosen)


def test_each_expert_computes_its_own_tokens_only() -> None:
    seen = {}

    def times(i: int, x: torch.Tensor) -> torch.Tensor:
        seen[i] = x[:, 0].tolist()
        return x * (i + 1)

    experts = [partial(times, i) for i in range(4)]
    x = torch.arange(3.0)[:, None]
    routing = Routing(torch.tensor([[2, 0], [3, 2], [2, 3]]), torch.tensor([[0.25, 0.75]] * 3), torch.zeros(3, 4))
    out = grouped(x, routing, experts)
    assert seen == {0: [0], 2: [0, 1, 2], 3: [1, 2]}
    assert out[:, 0].tolist() == [0.0, 0.25 * 4 + 0.75 * 3, 2 * (0.25 * 3 + 0.75 * 4)]
    assert torch.equal(out, every_expert(x, routing, experts))


def test_experts_that_nobody_chose_are_not_called_and_get_no_gradient() -> None:
    layer = MixtureOfExperts(router(3, 1), (GatedFeedForward(8, 12) for _ in range(3)))
    with torch.no_grad():
        layer.router.weight.copy_(torch.tensor([[1.0], [0.0], [-1.0]]).expand(3, 8))
    y, routing = layer(torch.ones(2, 5, 8))
    y.sum().backward()
    assert (routing.chosen == 0).all()
    assert [any(p.grad is not None for p in expert.parameters()) for expert in layer.experts] == [True, False, False]


@pytest.mark.parametrize("padded", [False, True])
def test_load_balancing_loss_equals_transformers(padded: bool) -> None:
    routes, x = [router(5, 2) for _ in range(3)], torch.randn(12, 8)
    present = torch.arange(6)[None] >= torch.tensor([[0], [2]])
    expected = load_balancing_loss_func(
        tuple(x @ route.weight.T for route in routes), 5, 2, present.long() if padded else None
    )
    got = load_balancing_loss([route(x) for route in routes], present if padded else None)
    torch.testing.assert_close(got, expected)


def test_load_balancing_loss_is_the_number_chosen_when_even_and_grows_with_the_imbalance() -> None:
    weights = torch.full((2, 2), 0.5)
    even = Routing(torch.tensor([[0, 1], [2, 3]]), weights, torch.full((2, 4), 0.25))
    uneven = Routing(torch.tensor([[0, 1], [0, 1]]), weights, torch.tensor([[0.7, 0.3, 0.0, 0.0]] * 2))
    assert load_balancing_loss([even]) == 2
    assert load_balancing_loss([uneven]) == 4


def grouped_router(bias: torch.Tensor) -> GroupedRouter:
    router = GroupedRouter(8, 12, 3, num_groups=4, num_chosen_groups=2, scale=2.5)
    torch.nn.init.normal_(router.weight)
    router.choice_bias.copy_(bias)
    return router


def test_grouped_router_equals_transformers() -> None:
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

    shape = dict(hidden_size=8, n_routed_experts=12, num_experts_per_tok=3, n_group=4, topk_group=2)
    theirs = DeepseekV3TopkRouter(DeepseekV3Config(**shape, routed_scaling_factor=2.5))
    ours, x = grouped_router(torch.randn(12) * 0.3), torch.randn(40, 8)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
        theirs.e_score_correction_bias.copy_(ours.choice_bias)
        _, weights, chosen = theirs(x)
        routing = ours(x)
    places = torch.zeros(40, 12)
    torch.testing.assert_close(
        places.scatter(1, routing.chosen, routing.weights), places.scatter(1, chosen, weights), rtol=1e-6, atol=0
    )


def test_the_choice_bias_moves_the_choice_and_never_the_weights() -> None:
    x, bias = torch.randn(30, 8), torch.zeros(12)
    plain = grouped_router(bias)
    bias[7] = 5.0
    moved = grouped_router(bias)
    moved.load_state_dict(plain.state_dict() | {"choice_bias": bias})
    routing = moved(x)
    assert (routing.chosen == 7).any(-1).all()
    assert not (plain(x).chosen == 7).any(-1).all()
    scores = (x @ moved.weight.T).sigmoid().gather(1, routing.chosen)
    torch.testing.assert_close(routing.weights, 2.5 * scores / scores.sum(-1, keepdim=True))


def test_experts_outside_the_chosen_groups_are_out_of_reach() -> None:
    groups = grouped_router(torch.zeros(12))(torch.randn(50, 8)).chosen // 3
    assert max(len(set(row)) for row in groups.tolist()) == 2


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((12, 3, 5, 1), "num_groups=5 cannot"), ((12, 3, 4, 5), "num_chosen_groups=5 of"), ((12, 7, 4, 2), "of the 6")],
)
def test_impossible_groups_are_refused(sizes: tuple[int, int, int, int], message: str) -> None:
    experts, chosen, groups, chosen_groups = sizes
    with pytest.raises(ValueError, match=message):
        GroupedRouter(8, experts, chosen, num_groups=groups, num_chosen_groups=chosen_groups, scale=1.0)
