"""A convolution folded with what follows it equals the parts one after the other, whatever changes in between."""

import copy

import pytest
import torch
from torch import nn

from glassformer.parts.activation import relu
from glassformer.parts.batch_norm import FrozenBatchNorm, NormedConvolution


def layer(norm: type = nn.BatchNorm2d, size: int = 3, stride: int = 1, activation=relu, channels: int = 6) -> nn.Module:
    torch.manual_seed(0)
    made = NormedConvolution(channels, 8, size, stride=stride, norm=norm, activation=activation).eval()
    for tensor in made.norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return made


def plain(made: nn.Module, x: torch.Tensor, added: torch.Tensor | None = None) -> torch.Tensor:
    y = made.norm(made.convolution(x))
    y = y if added is None else y + added
    return y if made.activation is None else made.activation(y)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, FrozenBatchNorm])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("activation", [relu, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_operation_equals_its_parts(norm, size, stride, activation, dtype) -> None:
    made = layer(norm, size, stride, activation).to(dtype)
    x = torch.randn(2, 6, 13, 10, dtype=dtype)
    with torch.no_grad():
        assert made._is_one(x, None)
        expected = plain(made, x)
        tolerance = dict(rtol=1e-5, atol=1e-5) if dtype == torch.float32 else dict(rtol=0.05, atol=0.05)
        torch.testing.assert_close(made(x), expected, **tolerance)
        added = torch.randn_like(expected)
        torch.testing.assert_close(made(x, added), plain(made, x, added), **tolerance)
        assert torch.equal(made(x, added), made(x, added))


@pytest.mark.parametrize(
    "name", ["convolution.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]
)
def test_whatever_changes_is_folded_anew(name: str) -> None:
    made, x = layer(), torch.randn(1, 6, 7, 7)
    with torch.no_grad():
        before = made(x)
        made.state_dict()[name].mul_(1.5).add_(0.1)
        torch.testing.assert_close(made(x), plain(made, x))
        assert not torch.allclose(made(x), before)


def test_gradients_measures_and_listeners_get_the_parts() -> None:
    made, x = layer(), torch.randn(2, 6, 7, 7)
    assert made(x).requires_grad
    torch.testing.assert_close(made(x), plain(made, x))
    with torch.no_grad():
        assert not made._is_one(x.double(), None)
        seen = []
        handle = made.norm.register_forward_hook(lambda *call: seen.append(call[2]))
        made(x)
        handle.remove()
        made(x)
        assert len(seen) == 1
        mean = made.norm.running_mean.clone()
        made.train()(x)
        assert not torch.equal(made.norm.running_mean, mean)


def test_a_frozen_norm_stays_folded_in_training() -> None:
    made, x = layer(FrozenBatchNorm).train(), torch.randn(2, 6, 7, 7)
    with torch.no_grad():
        assert made._is_one(x, None)
        torch.testing.assert_close(made(x), plain(made, x))


def test_a_convolution_whose_stride_or_eps_is_set_anew_is_folded_anew() -> None:
    made, x = layer(), torch.randn(1, 6, 8, 8)
    with torch.no_grad():
        made(x)
        made.convolution.stride = (2, 2)
        torch.testing.assert_close(made(x), plain(made, x))
        made.norm.eps = 0.5
        torch.testing.assert_close(made(x), plain(made, x))


def test_copies_fold_their_own_weights() -> None:
    made, x = layer(), torch.randn(1, 6, 7, 7)
    with torch.no_grad():
        first = made(x)
        other = copy.deepcopy(made)
        other.convolution.weight.zero_()
        torch.testing.assert_close(other(x), plain(other, x))
        assert torch.equal(made(x), first)


def test_a_pytorch_without_the_operators_goes_on_with_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = layer(), torch.randn(1, 6, 7, 7)
    monkeypatch.setattr("glassformer.ops.convolution._packet", None)
    with torch.no_grad():
        assert not made._is_one(x, None)
        torch.testing.assert_close(made(x), plain(made, x))
