"""Choosing kernels from outside: every layer gets its own, a refusal changes nothing, a context puts things back."""

import pytest
import torch
from torch import nn

from glassformer.ops.attend import ATTEND
from glassformer.ops.cross_entropy import CROSS_ENTROPY, reference
from glassformer.ops.linear import linear_kernel
from glassformer.parts import Attention, Embedding, Linear, TiedLinear, kernels, use_kernels
from glassformer.parts.kernels import check_learning


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = Embedding(9, 8)
        self.attention = Attention(8, 2)
        self.head = TiedLinear(self.embed)
        self.cross_entropy = reference


def held(model: Model) -> list[object]:
    linear = [layer.kernel for layer in model.modules() if isinstance(layer, Linear | TiedLinear)]
    return [model.attention.kernel, *linear, model.cross_entropy]


def test_every_layer_gets_the_named_kernel_and_a_linear_one_of_its_own() -> None:
    model = use_kernels(Model(), attend="online", linear="reference", cross_entropy="chunked")
    assert model.attention.kernel is ATTEND["online"]
    assert model.cross_entropy is CROSS_ENTROPY["chunked"]
    linear = held(model)[1:-1]
    assert len(linear) == 5
    assert all(type(kernel) is type(linear_kernel("reference")) for kernel in linear)
    assert len({id(kernel) for kernel in linear}) == 5


def test_what_is_not_named_stays() -> None:
    model = Model()
    before = held(model)
    use_kernels(model)
    assert held(model) == before
    use_kernels(model, attend="sdpa")
    assert held(model)[1:] == before[1:]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"attend": "online", "linear": "onednm"}, r"unknown linear kernel 'onednm' \(did you mean 'onednn'\?\)"),
        ({"linear": "reference", "attend": "sdp"}, r"unknown attend kernel 'sdp' \(did you mean 'sdpa'\?\)"),
        ({"attend": "sdpa", "cross_entropy": "chunk"}, r"unknown cross_entropy kernel 'chunk'"),
    ],
)
def test_an_unknown_name_is_refused_and_nothing_is_changed(names: dict[str, str], message: str) -> None:
    model = Model()
    before = held(model)
    with pytest.raises(ValueError, match=message):
        use_kernels(model, **names)
    assert held(model) == before


def test_a_kernel_without_a_layer_to_hold_it_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear has no attention layer"):
        use_kernels(Linear(2, 2), attend="sdpa")
    with pytest.raises(ValueError, match="Embedding has no linear layer"):
        use_kernels(Embedding(2, 2), linear="reference")
    with pytest.raises(ValueError, match="Linear computes no cross-entropy"):
        use_kernels(Linear(2, 2), cross_entropy="chunked")


def test_a_context_puts_back_what_was_there_also_after_an_error() -> None:
    model = Model()
    before = held(model)

    def fail() -> None:
        with kernels(model, attend="reference", linear="reference"):
            assert model.attention.kernel is ATTEND["reference"]
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert held(model) == before


def test_a_kernel_without_gradients_is_refused_for_what_learns_and_taken_for_what_is_frozen() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    model = use_kernels(Model(), attend="flex")
    with pytest.raises(ValueError, match="attention: the flex kernel has no gradients on a CPU"):
        check_learning(model, cpu)
    check_learning(model, cuda)
    model.attention.requires_grad_(False)  # the embedding before it learns
    with pytest.raises(ValueError, match="attention: the flex kernel has no gradients on a CPU"):
        check_learning(model, cpu)
    model.embed.requires_grad_(False)
    model.last = nn.Linear(9, 2)  # what comes after it alone learns
    check_learning(model, cpu)
    model.attention.dropout = 0.1
    with pytest.raises(ValueError, match=r"attention: the flex kernel has no dropout, and dropout=0\.1"):
        check_learning(model, cuda)
