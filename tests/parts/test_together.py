"""Several linear layers on one x: one product where that changes nothing but the time."""

import pytest
import torch

from glassformer.ops.linear import linear_kernel
from glassformer.parts.linear import Linear, together


@pytest.mark.parametrize("name", ["reference", "measured", "onednn", "bfloat16", "int8", "int4"])
def test_layers_together_give_what_each_gives(name: str) -> None:
    layers = [Linear(64, out, bias=out != 32, kernel=linear_kernel(name)) for out in (64, 32, 32)]
    x = torch.randn(3, 5, 64)
    with torch.no_grad():
        joint, each = together(layers, x), [layer(x) for layer in layers]
    for ours, expected in zip(joint, each, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_layers_together_are_called_one_by_one_where_somebody_listens_or_learns() -> None:
    layers = [Linear(16, 16) for _ in range(3)]
    heard = []
    layers[1].register_forward_hook(lambda *_: heard.append(1))
    with torch.no_grad():
        together(layers, torch.randn(2, 16))
    assert heard == [1]
    sum(y.sum() for y in together(layers, torch.randn(2, 16))).backward()
    assert all(layer.weight.grad is not None for layer in layers)


def test_a_replaced_layer_is_called_as_it_is() -> None:
    layers = [Linear(16, 16), torch.nn.Identity(), Linear(16, 16)]
    x = torch.randn(2, 16)
    with torch.no_grad():
        assert together(layers, x)[1] is x
