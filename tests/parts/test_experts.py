"""The router's weights, choices and ties; the load-balancing loss."""

from functools import partial

import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from glassformer.parts import GatedFeedForward, MixtureOfExperts, Routing, TopKRouter, load_balancing_loss
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
