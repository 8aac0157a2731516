"""A sub-layer that learns as one step of autograd gives the numbers and gradients of its parts."""

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glassformer.ops.linear_onednn import missing
from glassformer.ops.mask import Mask
from glassformer.parts import ACTIVATIONS, Attention, FeedForward, use_kernels

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

PADDED = Mask.padding(torch.tensor([[True] * 5 + [False] * 2, [False] * 7]))  # in the second row nothing is seen
MASKS = {"all": Mask(), "causal": Mask.causal(), "padded": PADDED, "both": Mask.causal() & PADDED}
NODE = {Attention: "_SelfAttention", FeedForward: "_FeedForward"}


def learned(layer: nn.Module, x: Tensor, **options: Any) -> list[Tensor]:
    """The output and the gradients of x and of all parameters that learn, for a gradient drawn once."""
    torch.manual_seed(3)
    x = x.detach().requires_grad_()
    out = layer(x, **options)
    d_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out, *torch.autograd.grad(out, [x, *(p for p in layer.parameters() if p.requires_grad)], d_out)]


def held_equal(layer: nn.Module, dtype: torch.dtype, autocast: bool = False, **options: Any) -> None:
    """As one, and by the reference in steps."""
    x = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(2)).to(dtype)
    with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        wanted = learned(use_kernels(layer, linear="reference"), x, **options)
        found = learned(use_kernels(layer, linear="onednn"), x, **options)
        node = layer(x.requires_grad_(), **options).grad_fn.name()
    assert node == NODE[type(layer)] + "Backward"
    tolerance = 2e-6 if dtype is torch.float32 and not autocast else 2e-2
    least = max(parts.abs().max() for parts in wanted) / 10  # a key's bias moves no softmax: its gradient is rounding
    for one, parts in zip(found, wanted, strict=True):
        assert one.dtype is parts.dtype
        assert (one - parts).abs().max() <= tolerance * max(parts.abs().max(), least)


def drawn(layer: nn.Module, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", MASKS)
def test_self_attention_equals_its_parts(mask: str, dtype: torch.dtype) -> None:
    held_equal(drawn(Attention(24, 3), dtype), dtype, mask=MASKS[mask])


@pytest.mark.parametrize("biased", ["", "qv", "o"])
def test_projections_may_lack_a_bias(biased: str) -> None:
    held_equal(drawn(Attention(24, 3, biased=biased, head_dim=4)), torch.float32)


def test_a_fixed_score_bias_and_dropout_are_those_of_the_parts() -> None:
    bias = torch.randn(1, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    held_equal(drawn(Attention(24, 3, dropout=0.3)), torch.float32, mask=Mask.causal(), score_bias=bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_feed_forward_equals_its_parts(name: str, dtype: torch.dtype) -> None:
    held_equal(drawn(FeedForward(24, 80, activation=ACTIVATIONS[name]), dtype), dtype)


@pytest.mark.parametrize("layer", [Attention(24, 3), FeedForward(24, 80, bias=False)])
def test_autocast_is_honoured(layer: nn.Module) -> None:
    held_equal(drawn(layer), torch.float32, autocast=True)


@pytest.mark.parametrize("layer", [Attention(24, 3), FeedForward(24, 80)])
@pytest.mark.parametrize("which", [0, 2, 3, -1])
def test_what_does_not_learn_is_left_out(layer: nn.Module, which: int) -> None:
    layer = deepcopy(layer).requires_grad_(False)
    list(layer.parameters())[which].requires_grad_()
    held_equal(drawn(layer), torch.float32)
    x = torch.randn(2, 7, 24)
    layer(x).sum().backward()  # nor does x
    assert [p.grad is not None for p in layer.parameters()] == [p.requires_grad for p in layer.parameters()]


@pytest.mark.parametrize(("layer", "place"), [
    (Attention(24, 3), "value"), (Attention(24, 3), "key_norm"), (FeedForward(24, 80), "dropout"),
])  # fmt: skip
@pytest.mark.parametrize("backwards", [False, True])
def test_a_part_that_somebody_listens_to_is_called(layer: nn.Module, place: str, backwards: bool) -> None:
    part, heard = use_kernels(layer, linear="onednn").get_submodule(place), []
    register = part.register_full_backward_hook if backwards else part.register_forward_hook
    with register(lambda *given: heard.append(given)):
        layer(torch.randn(2, 7, 24, requires_grad=True)).sum().backward()
    assert heard


@pytest.mark.parametrize("layer", [
    Attention(24, 4, num_kv_heads=2), Attention(24, 3, query_norm=nn.LayerNorm(8)), FeedForward(24, 80, dropout=0.5),
])  # fmt: skip
def test_what_stands_between_the_products_is_not_passed_over(layer: nn.Module) -> None:
    out = use_kernels(layer, linear="onednn")(torch.randn(2, 7, 24, requires_grad=True))
    assert out.grad_fn.name() != NODE[type(layer)] + "Backward"


@pytest.mark.parametrize("layer", [Attention(24, 3, dropout=0.5), FeedForward(24, 80)])
def test_it_is_computed_again_under_gradient_checkpointing(layer: nn.Module) -> None:
    x = torch.randn(2, 7, 24)
    use_kernels(layer, linear="onednn")
    again = learned(layer, x)

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Any:
            return checkpoint(self.layer, x, use_reentrant=False)

    for one, two in zip(learned(Checkpointed(), x), again, strict=True):
        assert torch.equal(one, two)
