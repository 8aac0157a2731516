"""Batch norm, frozen and thawed: the same map as torch's in evaluation, folded or not; thawed, it learns as torch's."""

import torch
from torch import nn

from glassformer.parts.batch_norm import BatchNorm, FrozenBatchNorm, NormedConvolution, thaw_batch_norm


def seen(norm: FrozenBatchNorm) -> FrozenBatchNorm:
    generator = torch.Generator().manual_seed(0)
    for name, buffer in norm.named_buffers():
        buffer.copy_(torch.rand(buffer.shape, generator=generator) + (0.5 if "var" in name else -0.5))
    return norm


def of_torch(norm: FrozenBatchNorm) -> nn.BatchNorm2d:
    theirs = nn.BatchNorm2d(len(norm.weight))
    theirs.load_state_dict(norm.state_dict(), strict=False)
    return theirs


def test_frozen_it_is_torchs_in_evaluation_and_stays_so_in_training() -> None:
    norm, x = seen(FrozenBatchNorm(5)), torch.randn(2, 5, 4, 3)
    expected = of_torch(norm).eval()(x)
    torch.testing.assert_close(norm.train()(x), expected)
    assert not list(norm.parameters())


def test_folded_into_the_convolution_it_gives_the_same_and_gradients_reach_the_weights() -> None:
    torch.manual_seed(0)
    layer, x = NormedConvolution(3, 5, 3, stride=2, norm=FrozenBatchNorm), torch.randn(2, 3, 9, 8)
    seen(layer.norm)  # type: ignore[arg-type]
    expected = layer.norm(layer.convolution(x))
    torch.testing.assert_close(layer(x), expected)
    (whole,) = torch.autograd.grad(expected.square().sum(), layer.convolution.weight)
    (folded,) = torch.autograd.grad(layer(x).square().sum(), layer.convolution.weight)
    torch.testing.assert_close(folded, whole, rtol=1e-4, atol=1e-4)


def test_thawed_it_learns_as_torchs_and_what_is_saved_has_the_same_names() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(NormedConvolution(3, 5, 1, norm=FrozenBatchNorm), NormedConvolution(5, 4, 1))
    seen(model[0].norm)  # type: ignore[arg-type]
    theirs, names, x = of_torch(model[0].norm), list(model.state_dict()), torch.randn(6, 3, 4, 4)  # type: ignore
    before = model.eval()(x)
    assert thaw_batch_norm(model) == 1
    assert sorted(model.state_dict()) == sorted(names)
    thawed = model[0].norm
    assert isinstance(thawed, BatchNorm)
    torch.testing.assert_close(model(x), before)
    given = model[0].convolution(x)
    for _ in range(3):
        torch.testing.assert_close(thawed.train()(given), theirs.train()(given))
    torch.testing.assert_close(thawed.running_var, theirs.running_var)
    assert {name for name, _ in thawed.named_parameters()} == {"weight", "bias"}
    assert thaw_batch_norm(model) == 0
