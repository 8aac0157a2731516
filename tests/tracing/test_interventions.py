"""Activations by name: reading, replacing, and what each layer would say already."""

import re

import pytest
import torch
from declared import DECLARED, Declared
from torch import Tensor, nn

from glassformer.models import BERT, GPT2, BERTConfig, GPT2Config
from glassformer.models.language_model import LanguageModel
from glassformer.tracing import CANONICAL, activation_names, attention_weights, logit_lens, patch, record

every_model = pytest.mark.parametrize("case", DECLARED, ids=lambda c: c.name)
IDS = torch.arange(14).view(2, 7)


@pytest.fixture
def model() -> GPT2:
    torch.manual_seed(1)
    return GPT2(GPT2Config(vocab_size=61, dim=32, num_layers=3, num_heads=4, max_positions=32)).eval()


@every_model
def test_every_family_has_the_canonical_names_and_gives_them(case: Declared) -> None:
    model, inputs = case.build().eval(), case.inputs()
    names = activation_names(model)
    if case.name == "bigram" or "pixel_values" in inputs or case.name.startswith("deepseek"):
        return  # no blocks; pictures; latent attention, whose parts have names of its own
    with torch.no_grad():
        for word in ("blocks.*", "blocks.*.attention", "blocks.*.attention.weights", "blocks.*.attention.query",
                     "blocks.*.attention.output.input", "blocks.*.feed_forward", "blocks.*.input"):  # fmt: skip
            assert word in CANONICAL
            found = record(model, f"**.{word}" if not any(n.startswith("blocks.") for n in names) else word, **inputs)
            assert len(found) >= 2
            assert all(isinstance(value, Tensor) and value.ndim == (4 if "weights" in word else 3)
                       for value in found.values())  # fmt: skip


def test_every_canonical_name_is_that_of_a_family() -> None:
    names = {re.sub(r"\.\d+", ".*", name) for case in DECLARED for name in activation_names(case.build())}
    assert not [word for word in CANONICAL if not any(f".{name}".endswith(f".{word}") for name in names)]


def test_what_is_recorded_is_what_flows(model: GPT2) -> None:
    found = record(model, ["blocks.*", "blocks.*.input", "norm.input", "head", "blocks.1.attention.weights"], IDS)
    assert torch.equal(found["blocks.0"], found["blocks.1.input"])
    assert torch.equal(found["blocks.2"], found["norm.input"])
    torch.testing.assert_close(found["head"], model(IDS).logits)
    weights = attention_weights(model, IDS)["blocks.1.attention"]
    torch.testing.assert_close(found["blocks.1.attention.weights"], weights)
    assert not any(value.requires_grad for value in found.values())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_names_that_match_nothing_raise_with_the_nearest(model: GPT2) -> None:
    with pytest.raises(ValueError, match=r"'blocks.0.atention.weights'.*blocks.0.attention.weights"):
        record(model, "blocks.0.atention.weights", IDS)
    with pytest.raises(ValueError, match=r"'blocks.\*.mlp'"), patch(model, {"blocks.*.mlp": torch.zeros(1)}):
        pass
    dropped = BERT(BERTConfig(vocab_size=61, dim=32, num_layers=1, num_heads=4, hidden_dim=64), pooled=False)
    dropped.add_module("unused", nn.Linear(2, 2))
    with pytest.raises(ValueError, match="'unused' recorded nothing"):
        record(dropped, "unused", IDS)
    with pytest.raises(ValueError, match="'unused' was never reached"), patch(dropped, {"unused": torch.zeros(2)}):
        dropped(IDS)


def test_an_activation_of_another_run_carries_its_answer_over(model: GPT2) -> None:
    other = IDS.flip(1)
    wanted = model(other).logits
    for name in ("blocks.2", "blocks.1.input", "norm.input"):
        with patch(model, record(model, name, other)):
            torch.testing.assert_close(model(IDS).logits, wanted)
    assert not torch.allclose(model(IDS).logits, wanted)


def test_functions_change_what_was_there_and_let_gradients_through(model: GPT2) -> None:
    direction = torch.zeros(32, requires_grad=True)
    with patch(model, {"blocks.1": lambda x: x + direction}):
        model(IDS, labels=IDS).loss.backward()
    assert direction.grad is not None
    assert direction.grad.abs().sum() > 0
    plain = record(model, "blocks.2.input", IDS)["blocks.2.input"]
    with patch(model, {"blocks.*.attention": torch.zeros_like, "blocks.*.feed_forward": torch.zeros_like}):
        assert torch.equal(
            record(model, "blocks.2", IDS)["blocks.2"], record(model, "blocks.0.input", IDS)["blocks.0.input"]
        )
    torch.testing.assert_close(record(model, "blocks.2.input", IDS)["blocks.2.input"], plain)


def test_patched_attention_weights_meet_the_values(model: GPT2) -> None:
    weights = attention_weights(model, IDS)["blocks.1.attention"]
    expected = model(IDS).logits
    with patch(model, {"blocks.1.attention.weights": weights}):
        torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)
    itself = torch.eye(7).expand_as(weights)
    name = "blocks.1.attention.output.input"
    with patch(model, {"blocks.1.attention.weights": itself}):
        mixed = record(model, name, IDS)[name]
        seen = record(model, "blocks.1.attention.weights", IDS)["blocks.1.attention.weights"]
    assert torch.equal(seen, itself)
    torch.testing.assert_close(mixed, record(model, "blocks.1.attention.value", IDS)["blocks.1.attention.value"])


def test_a_replacement_of_another_shape_is_refused(model: GPT2) -> None:
    refused = pytest.raises(
        ValueError, match=r"'blocks.1' has shape \(2, 6, 32\); expected a tensor of shape \(2, 7, 32\)"
    )
    with refused, patch(model, {"blocks.1": torch.zeros(2, 6, 32)}):
        model(IDS)
    with pytest.raises(ValueError, match="is a float"), patch(model, {"blocks.1": lambda x: 3.0}):  # pyright: ignore
        model(IDS)
    assert not any(module._forward_hooks for module in model.modules())


@every_model
def test_the_last_layer_of_the_lens_is_the_model(case: Declared) -> None:
    model = case.build().eval()
    if not isinstance(model, LanguageModel) or not hasattr(model, "blocks"):
        with pytest.raises(TypeError, match="logit_lens"):
            logit_lens(model, IDS)  # pyright: ignore
        return
    ids = case.inputs()["input_ids"]
    lens = logit_lens(model, ids)
    assert lens.shape[0] == len(model.blocks)  # pyright: ignore
    with torch.no_grad():
        torch.testing.assert_close(lens[-1], model(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_that_was_looked_into_compiles_whole(model: GPT2) -> None:
    from glassformer.tracing import xray

    xray(model, IDS, backward=True, attention=True)
    record(model, "blocks.*.attention.weights", IDS)
    with patch(model, {"blocks.1.attention.weights": lambda w: w}):
        model(IDS)
    expected = model(IDS).logits
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(IDS).logits, expected)
