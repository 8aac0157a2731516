"""Dropout is PyTorch's layer with other draws: what is kept, its gradient, its seeds, and where it steps aside."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from glassformer.parts import Dropout
from glassformer.tracing.sites_whole import NoDropout


def seeded(layer: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(3)
    return layer(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_its_share_is_dropped_the_rest_scaled_and_the_gradient_passes_where_the_value_did(dtype: torch.dtype) -> None:
    x = torch.full((100, 1000), 3.0, dtype=dtype, requires_grad=True)
    y = seeded(Dropout(0.25), x)
    assert y.dtype == dtype
    assert set(y.unique().tolist()) == {0.0, 4.0}
    assert abs((y != 0).double().mean() - 0.75) <= 4 * (0.25 * 0.75 / x.numel()) ** 0.5
    y.backward(torch.full_like(y, 1.5))
    assert x.grad is not None
    assert torch.equal(x.grad, y / 2)


def test_rows_and_columns_and_calls_are_dropped_apart() -> None:
    layer, ones = Dropout(0.5), torch.ones(512, 512)
    first, second = seeded(layer, ones) - 1, layer(ones) - 1  # 1 or -1
    for one, other in [(first[1:], first[:-1]), (first[:, 1:], first[:, :-1]), (first, second)]:
        assert abs((one * other).mean().item()) <= 4 / one.numel() ** 0.5


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_in_evaluation_and_at_the_ends_it_is_pytorchs(p: float) -> None:
    x, layer = torch.randn(1000, 1000), Dropout(p)
    assert layer.eval()(x) is x
    assert repr(layer) == repr(nn.Dropout(p))
    assert isinstance(layer, nn.Dropout)
    if p != 0.4:
        assert torch.equal(layer.train()(x), x * (1 - p))


def test_a_probability_is_between_0_and_1() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, but got 1\.5"):
        Dropout(1.5)


def test_a_seed_repeats_it_and_a_generator_set_back_continues_it() -> None:
    layer, x = Dropout(0.3), torch.ones(5, 7)
    first, state = seeded(layer, x), torch.get_rng_state()
    following = layer(x)
    assert torch.equal(first, seeded(layer, x))
    assert not torch.equal(first, following)
    torch.set_rng_state(state)
    assert torch.equal(layer(x), following)
    torch.set_rng_state(state)
    assert torch.equal(copy.deepcopy(layer)(x.mT.contiguous().mT), following), "wherever the numbers lie in memory"


def test_what_is_recomputed_is_dropped_again() -> None:
    layers, x = nn.Sequential(nn.Linear(6, 6), Dropout(0.5), nn.Linear(6, 6), Dropout(0.5)), torch.randn(3, 6)
    gradients = []
    for again in (False, True):
        layers.zero_grad()
        torch.manual_seed(3)
        (checkpoint(layers, x, use_reentrant=False) if again else layers(x)).square().sum().backward()  # pyright: ignore
        gradients.append([parameter.grad for parameter in layers.parameters()])
    assert all(map(torch.equal, *gradients))


def test_it_keeps_no_more_for_the_backward_pass_than_pytorchs() -> None:
    def kept(layer: nn.Module) -> int:
        sizes = []
        with saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x):
            layer(torch.ones(64, 64, requires_grad=True))
        return sum(sizes)

    assert kept(Dropout(0.1)) <= kept(nn.Dropout(0.1))


def test_gradients_of_gradients_pass_where_the_value_did() -> None:
    x = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: seeded(Dropout(0.5), x.sin()), x)


def test_under_autocast_and_on_the_meta_device_it_keeps_dtype_and_shape() -> None:
    layer, x = Dropout(0.5), torch.ones(3, 5, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    found = layer(x.to("meta"))
    assert (found.device.type, found.shape, found.dtype) == ("meta", x.shape, x.dtype)


@pytest.mark.parametrize("shape", [(0, 4), (), (3, 5, 7)])
def test_any_shape_will_do(shape: tuple[int, ...]) -> None:
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_it_compiles_whole_and_is_seen_through_by_transforms() -> None:
    layer, x = Dropout(0.5), torch.ones(64, 64)
    dropped = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    each = torch.func.vmap(layer, randomness="different")(x)
    assert not torch.equal(each[0], each[1])


def test_nothing_is_dropped_where_dropout_is_looked_for() -> None:
    x = torch.randn(4, 9)
    with NoDropout():
        assert torch.equal(Dropout(0.5)(x), x)
