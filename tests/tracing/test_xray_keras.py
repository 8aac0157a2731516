"""Keras 3 on its torch backend is open too: its layers by their names, forward and backward, its attention."""

import os
from types import ModuleType

import pytest
import torch
from torch import nn

from glassformer.tracing import activation_names, patch, record, xray

pytestmark = pytest.mark.slow  # Keras takes seconds to load


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ["KERAS_HOME"] = str(tmp_path_factory.mktemp("keras"))
    found = pytest.importorskip("keras")
    assert found.backend.backend() == "torch"
    return found


def encoder(keras: ModuleType) -> nn.Module:
    layers = keras.layers
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 8, name="embed")(ids)
    x = layers.LayerNormalization(name="norm")(
        layers.Add()([x, layers.MultiHeadAttention(2, 4, name="attention")(x, x)])
    )
    x = layers.Dense(8, activation="relu", name="feed_forward")(x)
    return keras.Model(ids, layers.Dense(3, name="head")(layers.GlobalAveragePooling1D(name="mean")(x)))


def ids() -> torch.Tensor:
    return torch.randint(11, (2, 5), generator=torch.Generator().manual_seed(3))


def test_a_functional_model_is_seen_layer_by_layer_forward_and_backward(keras: ModuleType) -> None:
    model = encoder(keras)
    with torch.no_grad():
        expected = model(ids())
    before = [variable.value.detach().clone() for variable in model.weights]
    trace = xray(model, ids(), backward=True)
    assert trace.error is None
    torch.testing.assert_close(trace.output, expected)
    assert trace.root.num_parameters == model.count_params()
    assert [call.path for call in trace.root.children] == [
        "embed", "attention", "add", "norm", "feed_forward", "mean", "head",
    ]  # fmt: skip
    assert [call.name for call in trace.find("attention").children] == ["query", "key", "value", "attention_output"]
    query = trace.find("attention.query")
    assert query.num_parameters == 8 * 8 + 8
    forward, to_weight, to_input = (operation for operation in query.operations() if operation.flops)
    assert forward.flops == to_weight.flops == to_input.flops == 2 * (2 * 5) * 8 * 8
    assert (forward.is_backward, to_weight.is_backward, to_input.is_backward) == (False, True, True)
    assert len(trace.gradients) == len(model.trainable_weights)
    assert all(torch.equal(variable.value, old) for variable, old in zip(model.weights, before, strict=True))


def test_gradients_are_those_that_keras_hands_to_its_optimizer(keras: ModuleType) -> None:
    model = encoder(keras)
    model(ids()).sum().backward()
    expected = {variable.path: variable.value.grad for variable in model.trainable_weights}
    model.zero_grad()
    trace = xray(model, ids(), backward=True)
    for name, found in trace.gradients.items():
        grad = expected[name.removeprefix("_torch_params.")]
        assert grad is not None
        assert found.abs_max == pytest.approx(float(grad.abs().max()), rel=1e-5), name


def test_the_weights_of_its_fused_attention_are_those_it_gives_when_asked(keras: ModuleType) -> None:
    layer = keras.layers.MultiHeadAttention(num_heads=4, key_dim=2)
    x, context = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    with torch.no_grad():
        _, expected = layer(x, context, return_attention_scores=True)
        trace = xray(layer, x, context, attention=True)
    assert any("scaled_dot_product" in operation.name for operation in trace.operations)
    assert trace.attention(0).shape == (2, 4, 3, 5)
    torch.testing.assert_close(trace.attention(0), expected)


def test_activations_are_named_recorded_kept_and_patched_by_the_names_keras_has(keras: ModuleType) -> None:
    model = encoder(keras)
    assert {"attention.query", "attention.attention_output.input", "head"} <= set(activation_names(model))
    found = record(model, ["attention.*", "mean"], ids())
    assert found["attention.query"].shape == (2, 5, 2, 4)
    trace = xray(model, ids(), keep=["mean"])
    assert torch.equal(trace.tensor("mean"), found["mean"])
    with torch.no_grad(), patch(model, {"mean": lambda x: x * 0}):
        changed = model(ids())
    torch.testing.assert_close(changed, torch.zeros(2, 3))  # a fresh head's bias is 0
    with pytest.raises(ValueError, match=r"no activation is called 'attention\.querry'.*attention\.query"):
        record(model, "attention.querry", ids())


@pytest.mark.parametrize("given", ["tensor", "array"])
def test_a_model_that_is_built_by_its_first_call_is_still_one_call(keras: ModuleType, given: str) -> None:
    class Two(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = keras.layers.Dense(6, activation="gelu")
            self.rest = [keras.layers.Dense(3, name="last")]

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.rest[0](self.first(x))

    x = torch.randn(2, 4)
    trace = xray(Two(), x if given == "tensor" else x.numpy(), backward=True)
    assert trace.error is None
    assert (str(trace.root.inputs[0]), str(trace.root.outputs[0])) == ("f32(2, 4)", "f32(2, 3)")
    assert [call.kind for call in trace.root.calls()].count("Two") == 1
    backward = {operation.module for operation in trace.operations if operation.is_backward and operation.flops}
    assert backward == {"first", "last"}
    assert len(trace.gradients) == 4


def test_what_keras_refuses_is_told_without_the_colours_of_its_message(keras: ModuleType) -> None:
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, name="only")])
    trace = xray(model, torch.randn(2, 5))
    assert trace.error is not None
    assert "(2, 5)" in trace.error.why
    assert "\x1b" not in str(trace.error)
