"""A feed-forward layer computes its activation while the product is written, and gives what it gives in two steps."""

import pytest
import torch
from torch import nn

from glassformer.ops.linear_onednn import missing
from glassformer.parts import ACTIVATIONS, FeedForward, GatedFeedForward, Linear, use_kernels
from glassformer.parts.linear import activated

needs_onednn = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", [FeedForward, GatedFeedForward])
@pytest.mark.parametrize("rows", [1, 33])
def test_it_equals_the_reference(kind: type, name: str, dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    layer = kind(24, 80, activation=ACTIVATIONS[name]).to(dtype)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, rows, 24).to(dtype)
    with torch.no_grad():
        wanted = use_kernels(layer, linear="reference")(x)
        found = use_kernels(layer, linear="onednn")(x)
    tolerance = 2e-6 if dtype is torch.float32 else 2e-2
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


@needs_onednn
def test_it_is_one_operation_where_no_gradient_is_asked_for_and_two_where_one_is() -> None:
    calls: list[str] = []

    def relu(x: torch.Tensor) -> torch.Tensor:
        calls.append("relu")
        return x.relu()

    layer, x = Linear(8, 16), torch.randn(3, 8)
    use_kernels(layer, linear="onednn")
    with torch.no_grad():
        activated(layer, relu, x)  # a function that nobody knows by name
        assert calls == ["relu"]
        from glassformer.parts.activation import relu as known

        product = layer.kernel.activated(x, layer.weight, layer.bias, "relu")
        assert torch.equal(activated(layer, known, x), product)
    assert layer.kernel.activated(x, layer.weight, layer.bias, "relu") is None
    activated(layer, known, x).sum().backward()
    assert layer.weight.grad is not None


@needs_onednn
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_layer_that_somebody_listens_to_is_called(everywhere: bool) -> None:
    layer, seen = FeedForward(8, 16), []
    use_kernels(layer, linear="onednn")
    register = nn.modules.module.register_module_forward_hook if everywhere else layer.up.register_forward_hook
    handle = register(lambda module, _, out: seen.append(module))
    with torch.no_grad():
        layer(torch.randn(2, 8))
    handle.remove()
    assert layer.up in seen
