"""A linear kernel never computes from an old weight, keeps none alive, and copies and pickles with its layer."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.ops import machine
from glassformer.ops.linear import LINEAR, linear_kernel
from glassformer.parts.linear import Linear


@pytest.fixture(autouse=True)
def _pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """`measured` takes oneDNN for every size here."""
    monkeypatch.setattr(machine, "onednn_pays_from", lambda dtype, case: 0.0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape)


CHANGES = {
    "in place": lambda layer: layer.weight.detach().mul_(-1.5),
    "one entry": lambda layer: layer.weight.detach()[-1, -1].add_(100),
    "through data": lambda layer: layer.weight.data.neg_(),
    "through numpy": lambda layer: layer.weight.detach().numpy().__imul__(-2),
    "data assigned": lambda layer: setattr(layer.weight, "data", torch.randn_like(layer.weight)),
    "optimizer": lambda layer: _step(layer),
    "load_state_dict": lambda layer: layer.load_state_dict({k: v * -2 for k, v in layer.state_dict().items()}),
    "load assign": lambda layer: layer.load_state_dict({k: v * -2 for k, v in layer.state_dict().items()}, assign=True),
    "another": lambda layer: setattr(layer, "weight", nn.Parameter(torch.randn_like(layer.weight))),
    "init": lambda layer: nn.init.normal_(layer.weight),
    "dtype and back": lambda layer: layer.bfloat16().float(),
}


def _step(layer: nn.Module) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    with torch.enable_grad():
        sum(p.sum() for p in layer.parameters()).backward()  # pyright: ignore
    optimizer.step()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", LINEAR)
@torch.no_grad()
def test_a_changed_weight_is_never_served_from_the_old_copy(name: str, change: str) -> None:
    layer, x = Linear(32, 16, kernel=linear_kernel(name)), drawn(2, 32)
    before = layer(x)
    CHANGES[change](layer)
    after, fresh = layer(x), linear_kernel(name)(x, layer.weight, layer.bias)
    assert torch.equal(after, fresh)
    assert change == "dtype and back" or not torch.equal(after, before)


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_of_decoding_that_repeats_the_last_sees_a_changed_weight(change: str) -> None:
    layer, x = Linear(32, 16, kernel=linear_kernel("measured")), drawn(1, 1, 32)

    def step() -> Tensor:
        with torch.inference_mode():
            return layer(x)

    before = step()
    assert torch.equal(step(), before)
    with torch.no_grad():
        CHANGES[change](layer)
        fresh = linear_kernel("measured")(x, layer.weight, layer.bias)
    for _ in range(2):
        assert torch.equal(step(), fresh)


def test_a_step_that_differs_from_the_last_in_more_than_numbers_is_no_repetition() -> None:
    kernel, weight, other, bias = linear_kernel("measured"), drawn(16, 32), drawn(16, 32), drawn(16)
    x, rows = drawn(1, 32), drawn(3, 32)
    calls = [
        lambda: kernel(x, weight, None),
        lambda: kernel(x, weight, bias),
        lambda: kernel(rows, weight, bias),
        lambda: kernel(x.bfloat16(), weight.bfloat16(), bias.bfloat16()),
        lambda: kernel.together(x, [weight, other], [None, bias])[1],
        lambda: kernel(x, other, None),
        lambda: kernel.activated(x, other, None, "relu"),  # pyright: ignore
        lambda: kernel.activated(x, other, None, "gelu"),  # pyright: ignore
    ]
    truth = [
        F.linear(x, weight), F.linear(x, weight, bias), F.linear(rows, weight, bias),
        F.linear(x.bfloat16(), weight.bfloat16(), bias.bfloat16()), F.linear(x, other, bias), F.linear(x, other),
        F.linear(x, other).relu(), F.gelu(F.linear(x, other)),
    ]  # fmt: skip
    with torch.inference_mode():
        for call, right in zip(calls * 2, truth * 2, strict=True):
            for _ in range(2):
                torch.testing.assert_close(call(), right, atol=1e-5 if right.dtype is torch.float32 else 0.1, rtol=1e-5)


def test_the_packed_copy_is_made_once_while_the_weight_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, weight, packs = linear_kernel("int8"), drawn(16, 32), []
    pack = kernel.pack  # pyright: ignore
    kernel._packed._pack = lambda *args: packs.append(1) or pack(*args)  # pyright: ignore
    for rows in (1, 3, 20):
        kernel(drawn(rows, 32), weight, None)
    assert len(packs) == 1
    kernel.forget()
    kernel(drawn(1, 32), weight, None)
    assert len(packs) == 2


@pytest.mark.parametrize("name", LINEAR)
def test_weights_made_in_inference_mode_are_packed_at_each_call(name: str) -> None:
    with torch.inference_mode():
        kernel, x, weight = linear_kernel(name), drawn(2, 32), drawn(16, 32)
        kernel(x, weight, None)
        weight[-1, -1] = 50.0  # changes no version counter, and not the beginning
        assert torch.equal(kernel(x, weight, None), linear_kernel(name)(x, weight, None))


@pytest.mark.parametrize("name", LINEAR)
def test_a_kernel_keeps_no_weight_alive(name: str) -> None:
    kernel, weight = linear_kernel(name), drawn(16, 32)
    kernel(drawn(1, 32), weight, None)
    seen = weakref.ref(weight)
    del weight
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("name", LINEAR)
@torch.no_grad()
def test_layers_copy_and_pickle_without_their_packed_copies(name: str) -> None:
    layer, x = Linear(32, 16, kernel=linear_kernel(name)), drawn(2, 32)
    y = layer(x)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        assert torch.equal(twin(x), y)
        twin.weight.zero_()
        twin.bias.zero_()
        assert not twin(x).any()
        assert torch.equal(layer(x), y)
    assert sorted(layer.state_dict()) == ["bias", "weight"]
