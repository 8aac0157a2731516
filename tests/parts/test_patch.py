"""Patches are a convolution's, positions are interpolated, and branches are skipped at random."""

import pytest
import torch
import torch.nn.functional as F

from glassformer.parts import GridPosition, PatchEmbedding, StochasticDepth


def test_patches_equal_a_convolution_in_values_and_gradients() -> None:
    layer = PatchEmbedding(3, 4, 10).double()
    with torch.no_grad():
        layer.bias.normal_()
    image = torch.randn(2, 3, 8, 20, dtype=torch.float64, requires_grad=True)
    ours = layer(image)
    expected = F.conv2d(image, layer.weight, layer.bias, stride=4).permute(0, 2, 3, 1)
    assert (ours - expected).abs().max() < 1e-14
    leaves, weight = [image, *layer.parameters()], torch.randn_like(ours)
    found, wanted = torch.autograd.grad(ours, leaves, weight), torch.autograd.grad(expected, leaves, weight)
    assert all((a - b).abs().max() < 1e-13 for a, b in zip(found, wanted, strict=True))


def test_patches_that_do_not_divide_a_picture_are_said() -> None:
    with pytest.raises(ValueError, match=r"8 × 22 pixels is no whole number of patches; .* multiples of 4"):
        PatchEmbedding(3, 4, 10)(torch.zeros(1, 3, 8, 22))


def test_positions_of_the_own_grid_are_the_parameter_itself() -> None:
    layer = GridPosition(3, 4, before=1)
    assert layer(3, 3) is layer.weight
    assert torch.equal(layer(5, 2)[:, :1], layer.weight[:, :1]), "what stands in front stands nowhere in the grid"
    assert layer(5, 2).shape == (1, 11, 4)


def test_positions_are_interpolated_along_each_side() -> None:
    layer = GridPosition(8, 2)
    place = torch.arange(8.0)
    ramp = torch.stack([place[:, None].expand(8, 8), place[None].expand(8, 8)], -1)  # row in one number, column in two
    with torch.no_grad():
        layer.weight.copy_(ramp.reshape(1, 64, 2))
    there = layer(16, 4).view(16, 4, 2)
    inside = there[4:-4, 1:-1]  # away from the edges the ramp goes on, but for 3/64 that cubic interpolation adds
    assert ((torch.arange(4, 12)[:, None] + 0.5) / 2 - 0.5 - inside[:, :, 0]).abs().max() < 0.05
    assert ((torch.arange(1, 3)[None] + 0.5) * 2 - 0.5 - inside[:, :, 1]).abs().max() < 0.05


def test_positions_in_half_precision_keep_their_dtype() -> None:
    assert GridPosition(3, 4).to(torch.bfloat16)(5, 2).dtype == torch.bfloat16


def test_stochastic_depth_skips_whole_rows_and_keeps_the_mean() -> None:
    layer, x = StochasticDepth(0.25).train(), torch.ones(20_000, 2, 3)
    out = layer(x)
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(out, out[:, :1, :1].expand_as(out)), "a row is kept or skipped whole"
    assert abs(out.mean() - 1) < 0.02  # four standard deviations
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(StochasticDepth(0.0).train()(x), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="is no share of examples to skip"):
        StochasticDepth(rate)
