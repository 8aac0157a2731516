"""Wrong input to a language model is named, with its value and what was expected."""

import re

import pytest
import torch
from declaration import Declared
from declared_decoders import DECODERS
from torch import Tensor

from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.parts import Attention, kernels, use_kernels

IDS = torch.zeros(2, 5, dtype=torch.long)
CASES = {case.name: case for case in DECODERS}

FAMILIES = [CASES[name] for name in ("bigram", "gpt", "gpt2", "llama")]
models = pytest.mark.parametrize("case", FAMILIES, ids=lambda c: c.name)


def ids(*values: int) -> Tensor:
    return torch.tensor([values])


@models
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((ids(3, 61, 2),), ValueError, "input_ids holds 61 at (0, 1); the vocabulary has 61 ids, 0 to 60"),
        ((ids(3, -1),), ValueError, "input_ids holds -1 at (0, 1)"),
        ((torch.zeros(2, 0, dtype=torch.long),), ValueError, "input_ids has shape (2, 0); expected (batch, tokens)"),
        ((torch.zeros(5, dtype=torch.long),), ValueError, "input_ids has shape (5,)"),
        ((torch.zeros(2, 5),), TypeError, "input_ids has dtype torch.float32; expected torch.int64"),
        ((IDS, torch.ones(2, 4)), ValueError, "attention_mask has shape (2, 4); expected (2, 5)"),
        ((IDS, None, IDS[:, :3]), ValueError, "labels or targets have shape (2, 3); expected (2, 5)"),
        ((IDS, None, IDS + 61), ValueError, "labels or targets holds 61 at (0, 0)"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_input_is_named(case: Declared, arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        case.build()(*arguments)


@models
def test_labels_and_targets_together_are_refused(case: Declared) -> None:
    with pytest.raises(ValueError, match="labels and targets are both given"):
        case.build()(IDS, labels=IDS, targets=IDS)


@pytest.mark.parametrize("name", ["gpt", "gpt2"])
def test_more_tokens_than_positions_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="49 tokens do not fit into the model's 48 positions"):
        CASES[name].build()(torch.zeros(1, 49, dtype=torch.long))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_more_tokens_than_the_cache_holds_are_refused_and_the_cache_stays_as_it_was(name: str) -> None:
    model = CASES[name].build()
    cache = model.new_cache(2, 6)
    model(IDS, cache=cache)
    with pytest.raises(ValueError, match="the cache holds 5 tokens and 5 more were given; its capacity is 6"):
        model(IDS, cache=cache)
    assert cache.length == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GPT2(GPT2Config(dim=30, num_heads=4)), "num_heads=4 does not divide dim=30"),
        (lambda: Attention(32, 4, num_kv_heads=3), "num_kv_heads=3 does not divide num_heads=4"),
        (lambda: Attention(32, 4, num_kv_heads=0), "num_kv_heads=0 does not divide"),
        (lambda: Llama(LlamaConfig(dim=36, num_heads=12, head_dim=3)), "head_dim=3 is odd"),
    ],
)
def test_impossible_shapes_are_refused_when_the_model_is_built(make, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", ["attend", "linear", "cross_entropy"])
def test_unknown_kernel_is_named_with_the_nearest(kind: str) -> None:
    model = CASES["gpt2"].build()
    with pytest.raises(ValueError, match=f"unknown {kind} kernel 'referense'.*did you mean 'reference'"):
        use_kernels(model, **{kind: "referense"})


def test_kernels_come_back_even_after_an_error() -> None:
    model = CASES["gpt2"].build()
    before = [layer.kernel for layer in model.modules() if hasattr(layer, "kernel")]

    def fail() -> None:
        with kernels(model, attend="reference", linear="reference"):
            assert [layer.kernel for layer in model.modules() if hasattr(layer, "kernel")] != before
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert [layer.kernel for layer in model.modules() if hasattr(layer, "kernel")] == before


def test_a_model_without_attention_has_no_attention_kernel_to_set() -> None:
    with pytest.raises(ValueError, match="Bigram has no attention layer"):
        use_kernels(CASES["bigram"].build(), attend="sdpa")
