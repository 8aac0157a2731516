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


@pytest.mark.parametrize("frozen", [(), (1,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["reference", "measured", "onednn"])
def test_layers_together_learn_what_each_learns(name: str, autocast: bool, frozen: tuple[int, ...]) -> None:
    layers = [Linear(64, out, bias=out != 32, kernel=linear_kernel(name)) for out in (64, 32, 48)]
    for layer in layers:
        torch.nn.init.normal_(layer.weight)
    for i in frozen:
        layers[i].requires_grad_(False)
    x = torch.randn(3, 5, 64, requires_grad=True)
    wanted = [x, *(p for layer in layers for p in layer.parameters() if p.requires_grad)]
    d_outs = [torch.randn(3, 5, layer.weight.shape[0]) for layer in layers]
    results = []
    for call in (lambda: together(layers, x), lambda: [layer(x) for layer in layers]):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outs = call()
        d_same = [dy.to(out.dtype) for dy, out in zip(d_outs, outs, strict=True)]
        results.append([*outs, *torch.autograd.grad(outs, wanted, d_same)])
    bound = 2**-6 if autocast else 1e-6
    for joint, each in zip(*results, strict=True):
        assert joint.dtype == each.dtype
        torch.testing.assert_close(joint, each, rtol=0, atol=bound * float(each.detach().abs().max()))


def test_layers_together_are_called_one_by_one_where_somebody_listens() -> None:
    layers = [Linear(16, 16) for _ in range(3)]
    heard = []
    layers[1].register_forward_hook(lambda *_: heard.append(1))
    together(layers, torch.randn(2, 16))
    assert heard == [1]


def test_a_replaced_layer_is_called_as_it_is() -> None:
    layers = [Linear(16, 16), torch.nn.Identity(), Linear(16, 16)]
    x = torch.randn(2, 16)
    with torch.no_grad():
        assert together(layers, x)[1] is x
