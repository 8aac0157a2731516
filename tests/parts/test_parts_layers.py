"""Norms, linear layers, embeddings and feed-forward layers against their equations."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.parts import (
    ACTIVATIONS,
    Embedding,
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    Linear,
    RMSNorm,
    TiedLinear,
    gelu,
    relu,
    silu,
)


def some(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def redrawn(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module.double()


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_its_equation(bias: bool) -> None:
    norm, x = redrawn(LayerNorm(7, 0.3, bias=bias)), some(2, 3, 7)
    normal = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 0.3).sqrt()
    close(norm(x), normal * norm.weight + (norm.bias if bias else 0.0))
    assert set(norm.state_dict()) == ({"weight", "bias"} if bias else {"weight"})


def test_rms_norm_is_its_equation() -> None:
    norm, x = redrawn(RMSNorm(7, 0.3)), some(2, 3, 7)
    close(norm(x), x / (x.square().mean(-1, keepdim=True) + 0.3).sqrt() * norm.weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rms_norm_survives_squares_beyond_the_dtype(dtype: torch.dtype) -> None:
    x = torch.full((1, 8), 3e4, dtype=dtype)
    assert torch.equal(RMSNorm(8).to(dtype)(x), torch.ones(1, 8, dtype=dtype))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_its_equation(bias: bool) -> None:
    linear, x = redrawn(Linear(5, 3, bias=bias)), some(2, 4, 5)
    close(linear(x), torch.einsum("bti,oi->bto", x, linear.weight) + (linear.bias if bias else 0.0))
    assert set(linear.state_dict()) == ({"weight", "bias"} if bias else {"weight"})


def test_linear_and_embedding_are_drawn_as_gpt_draws_them() -> None:
    linear, embedding = Linear(300, 300), Embedding(300, 300)
    for weight in (linear.weight, embedding.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert linear.bias is not None
    assert (linear.bias == 0).all()


def test_a_tied_linear_has_the_embeddings_weight_through_copies_casts_and_loads() -> None:
    model = nn.ModuleDict({"embed": Embedding(9, 4)})
    model["head"] = TiedLinear(model["embed"])
    assert list(model.state_dict()) == ["embed.weight"]
    assert len(list(model.parameters())) == 1
    other = copy.deepcopy(model).double()
    assert other["head"].weight is other["embed"].weight
    assert other["head"].weight is not model["embed"].weight
    other.load_state_dict({"embed.weight": some(9, 4)})
    x = some(2, 4)
    close(other["head"](x), x @ other["embed"].weight.mT)
    ids = torch.tensor([1, 1, 8])
    other["head"](other["embed"](ids)).sum().backward()
    lookup, product = some(9, 4), None
    table = other["embed"].weight.detach().requires_grad_()
    (F.embedding(ids, table) @ table.mT).sum().backward()
    assert product is None
    assert lookup.shape == table.shape
    close(other["embed"].weight.grad, table.grad)


def test_an_embedding_looks_rows_up() -> None:
    embedding, ids = Embedding(9, 4), torch.tensor([[3, 3, 0]])
    assert torch.equal(embedding(ids), embedding.weight[ids])


@pytest.mark.parametrize("activation", [gelu, relu])
def test_feed_forward_is_its_equation(activation: Callable[[Tensor], Tensor]) -> None:
    layer, x = redrawn(FeedForward(4, 10, activation=activation)), some(2, 3, 4)
    inner = activation(x @ layer.up.weight.mT + layer.up.bias)
    close(layer(x), inner @ layer.down.weight.mT + layer.down.bias)


@pytest.mark.parametrize("activation", [silu, gelu])
def test_gated_feed_forward_is_its_equation(activation: Callable[[Tensor], Tensor]) -> None:
    layer, x = redrawn(GatedFeedForward(4, 10, activation=activation)), some(2, 3, 4)
    inner = activation(x @ layer.gate.weight.mT) * (x @ layer.up.weight.mT)
    close(layer(x), inner @ layer.down.weight.mT)
    assert set(layer.state_dict()) == {"gate.weight", "up.weight", "down.weight"}


def test_activations_are_their_equations() -> None:
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)
    phi = 0.5 * (1 + torch.erf(x / 2**0.5))
    cubic = (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)
    expected = {"gelu": x * phi, "gelu_tanh": x / 2 * (1 + cubic.tanh()), "silu": x / (1 + (-x).exp())}
    expected["relu"] = torch.where(x > 0, x, 0.0)
    assert set(expected) == set(ACTIVATIONS)
    for name, values in expected.items():
        close(ACTIVATIONS[name](x), values)
