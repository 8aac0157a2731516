"""Small parameters are moved as one, and as PyTorch moves each by itself."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from glassformer.ops.linear import linear_kernel
from glassformer.parts import Linear
from glassformer.training import AdamWConfig, ModelOptimizer, adamw
from glassformer.training.adamw import AdamW

SHAPES = [(6, 10), (10,), (8, 8), (), (7, 3), (40, 5)]
Missing = Callable[[int], set[int]]
PATTERNS: dict[str, Missing] = {
    "none": lambda step: set(),
    "one at first": lambda step: {1} if step < 2 else set(),
    "one always": lambda step: {4},
    "now and then": lambda step: {step % 6} if step % 3 == 2 else set(),
    "all but one": lambda step: {0, 1, 3, 4, 5} if step == 3 else set(),
}


@pytest.fixture(autouse=True)
def the_last_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adamw, "SMALL", 100)


def made() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def ours(parameters: list[nn.Parameter]) -> AdamW:
    groups = [{"params": parameters[:3], "weight_decay": 0.3}, {"params": parameters[3:], "weight_decay": 0.0}]
    return AdamW(groups, lr=1e-2, betas=(0.8, 0.95), eps=1e-6)


def move(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: range, missing: Missing) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        for i, parameter in enumerate(parameters):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.grad = None if i in missing(step) else 0.3 * parameter.detach() + noise
        optimizer.step()


def same(found: list[nn.Parameter], expected: list[nn.Parameter], rtol: float, atol: float) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("missing", PATTERNS.values(), ids=PATTERNS)
def test_it_moves_as_pytorchs_does_whatever_gradients_are_missing(missing: Missing) -> None:
    found, expected = made(), made()
    optimizer = ours(found)
    groups = [group | {"params": [expected[i] for i in part]} for group, part in
              zip(optimizer.param_groups, [range(3), range(3, 6)], strict=True)]  # fmt: skip
    theirs = torch.optim.AdamW(groups)
    move(found, optimizer, range(12), missing)
    move(expected, theirs, range(12), missing)
    same(found, expected, rtol=1e-5, atol=1e-6)
    for a, b in zip(found, expected, strict=True):
        assert (a in optimizer.state) == (b in theirs.state)
        for key in theirs.state.get(b, ()):
            torch.testing.assert_close(optimizer.state[a][key], theirs.state[b][key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("missing", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("stop", [1, 4, 6])
def test_it_goes_on_to_the_bit_whatever_gradients_are_missing(missing: Missing, stop: int) -> None:
    whole, parts = made(), made()
    move(whole, ours(whole), range(10), missing)
    first = ours(parts)
    move(parts, first, range(stop), missing)
    again = [nn.Parameter(parameter.detach().clone()) for parameter in parts]
    second = ours(again)
    for old, new in zip(parts, again, strict=True):
        if old in first.state:
            second.state[new] = {key: value.clone() for key, value in first.state[old].items()}
    move(again, second, range(stop, 10), missing)
    same(again, whole, rtol=0, atol=0)


def test_the_small_ones_lie_in_one_tensor_and_have_one_gradient() -> None:
    parameters = made()
    optimizer = ours(parameters)
    move(parameters, optimizer, range(2), PATTERNS["none"])
    assert len({parameter.untyped_storage().data_ptr() for parameter in parameters}) == 3
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    gradients = optimizer.gradients()
    assert sorted(gradient.numel() for gradient in gradients) == [22, 134, 200]
    assert [parameter.grad is None for parameter in parameters] == [True] * 5 + [False]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 2.0)  # of a further backward pass
    assert all(gradient.eq(3).all() for gradient in optimizer.gradients() if gradient.numel() < 200)
    optimizer.zero_grad()
    assert optimizer.gradients() == []


def test_parameters_that_were_moved_elsewhere_are_bundled_anew() -> None:
    found, expected = made(), made()
    optimizer, other = ours(found), ours(expected)
    for steps in (range(3), range(3, 6)):
        move(found, optimizer, steps, PATTERNS["none"])
        move(expected, other, steps, PATTERNS["none"])
        found[0].data = found[0].data.clone()
    same(found, expected, rtol=0, atol=0)


def test_a_state_that_is_loaded_is_used() -> None:
    model = nn.Linear(3, 2)
    optimizer = ModelOptimizer(model, AdamWConfig(learning_rate=0.1))

    def step() -> dict[str, Tensor]:
        model(torch.ones(3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        return {name: tensor.clone() for name, tensor in (optimizer.state_dict() | model.state_dict()).items()}

    step()
    before = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = step()
    step()
    model.load_state_dict(weights)
    optimizer.load_state_dict(before)
    again = step()
    assert all(again[name].equal(after[name]) for name in after)


def test_a_kernel_that_packed_a_weight_sees_that_it_was_moved() -> None:
    layer, x = Linear(8, 8, kernel=linear_kernel("onednn")), torch.randn(4, 8)
    layer.weight.data[:2] = 0  # the beginning does not tell
    assert layer.bias is not None
    optimizer = ours([layer.weight, layer.bias, *made()[2:]])
    for _ in range(3):
        layer.weight.grad, layer.bias.grad = torch.ones_like(layer.weight), torch.ones_like(layer.bias)
        layer.weight.grad[:2] = 0
        optimizer.step()
        with torch.no_grad():
            expected = nn.functional.linear(x, layer.weight, layer.bias)
            torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    assert optimizer.bundles


def test_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"AdamW\.step takes no closure"):
        ours(made()).step(lambda: 0.0)
