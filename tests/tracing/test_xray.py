"""An x-ray shows what runs: each operator once, in its module, with right sizes, and changes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from declared import DECLARED, Declared
from properties import has_attention
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glassformer.models import GPT2, GPT2Config
from glassformer.ops import machine
from glassformer.ops.linear_switch import onednn_matmul_is_exact
from glassformer.parts import use_kernels
from glassformer.tracing import ModuleCall, Trace, attention_weights, xray

every_model = pytest.mark.parametrize("case", DECLARED, ids=lambda c: c.name)


def small_gpt2(**options: object) -> GPT2:
    config = {"vocab_size": 61, "dim": 32, "num_layers": 2, "num_heads": 4, "max_positions": 32} | options
    return GPT2(GPT2Config(**config))  # pyright: ignore


def ids(b: int = 2, t: int = 7) -> Tensor:
    return torch.randint(61, (b, t), generator=torch.Generator().manual_seed(3))


@every_model
def test_every_model_is_seen_forward_and_backward_and_left_as_it_was(case: Declared) -> None:
    model, inputs = case.build().eval(), case.inputs()
    torch.manual_seed(5)  # some losses draw the points at which they look
    plain = model(**inputs)
    plain.loss.backward()
    learned = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    trace = xray(model, **inputs, backward=True)
    assert trace.error is None
    assert torch.allclose(trace.output.loss, plain.loss, rtol=1e-4, atol=1e-5)
    called = {call.path for call in trace.root.calls() if not call.path.endswith(")")}  # "(Identity)": made on the way
    assert called <= {name for name, _ in model.named_modules()}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not torch.nn.modules.module._has_any_global_hook()
    assert trace.gradients.keys() == learned


@every_model
def test_attention_weights_are_those_of_the_reference_kernel(case: Declared) -> None:
    model, inputs = case.build().eval(), case.inputs()
    if not has_attention(model):
        with pytest.raises(ValueError, match="attention=True"):
            xray(model, **inputs, attention=True).attention(0)
        return
    with torch.no_grad():
        trace = xray(model, **inputs, attention=True)
    expected = attention_weights(model, **inputs)
    assert list(trace.weights) == list(expected)
    for name, weights in expected.items():  # convolutions that are listened to are not folded with their norms
        if case.kind.name == "detection":
            torch.testing.assert_close(trace.attention(name), weights)
        else:
            assert torch.equal(trace.attention(name), weights)


def test_what_the_kernels_measure_of_the_machine_is_no_part_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSFORMER_CACHE", str(tmp_path))  # nothing is known of this machine
    monkeypatch.setattr(machine, "_machine", None)
    onednn_matmul_is_exact.cache_clear()
    with torch.no_grad():
        first, second = (xray(small_gpt2().eval(), ids()) for _ in range(2))
    assert first.flops == second.flops


@pytest.mark.parametrize("training", [False, True])
def test_the_same_seed_draws_the_same_numbers_with_and_without_an_xray(training: bool) -> None:
    model = small_gpt2().train(training)
    torch.manual_seed(5)
    expected, after = model(ids(), labels=ids()), torch.rand(3)
    torch.manual_seed(5)
    trace = xray(model, ids(), labels=ids())
    assert torch.equal(trace.output.loss, expected.loss)
    assert torch.equal(torch.rand(3), after)


def test_every_operator_stands_in_the_module_that_ran_it_forward_and_backward() -> None:
    model = use_kernels(small_gpt2(), linear="reference", attend="reference").eval()
    trace = xray(model, ids(), labels=ids(), backward=True)
    up = trace.find("blocks.1.feed_forward.up")
    products = [operation for operation in up.operations() if operation.flops]
    assert [(operation.name, operation.is_backward) for operation in products] == [
        ("aten.addmm", False), ("aten.mm", True), ("aten.mm", True),
    ]  # fmt: skip
    forward, *_ = products
    assert forward.parameters == ("blocks.1.feed_forward.up.bias", "blocks.1.feed_forward.up.weight")
    assert [str(each) for each in forward.inputs] == ["f32(128)", "f32(14, 32)", "f32(32, 128)"]
    assert [str(each) for each in forward.outputs] == ["f32(14, 128)"]
    assert forward.flops == 2 * 14 * 32 * 128
    assert (forward.read, forward.written) == (4 * (128 + 14 * 32 + 32 * 128), 4 * 14 * 128)
    assert forward.source is not None
    assert forward.source.file.endswith("glassformer/ops/linear.py")
    assert forward.source.text.startswith("return F.linear")
    assert all(operation.backward_of == "AddmmBackward0" for operation in products[1:])
    assert all(operation.source == forward.source for operation in products[1:])
    drawn = [call for call in trace.root.calls() if call.path == "blocks.0.dropout"]
    assert [call.call for call in drawn] == [0, 1]


def test_a_gradient_belongs_to_the_module_whose_operator_it_differentiates_and_to_no_neighbour() -> None:
    trace = xray(nn.Sequential(nn.Tanh(), nn.Sigmoid(), nn.ReLU()), torch.ones(3, requires_grad=True), backward=True)
    found = [[each.name for each in call.backward if not each.is_view] for call in trace.root.children]
    assert found == [["aten.tanh_backward"], ["aten.sigmoid_backward"], ["aten.threshold_backward"]]


def test_statistics_are_those_of_the_values() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / x.new_tensor([0.0, 1.0, 2.0, 4.0])

    trace = xray(Odd(), torch.tensor([1.0, 0.0, 4.0, -8.0]))
    (divided,) = [operation for operation in trace.operations if operation.name == "aten.div"]
    assert divided.statistics is not None
    found = divided.statistics
    assert found.non_finite == 1  # 1 / 0; what is left is 0, 2, -2
    assert (found.mean, found.abs_max, found.zeros) == (0.0, 2.0, pytest.approx(1 / 3))
    assert found.std == pytest.approx((8 / 3) ** 0.5)


def test_memory_counts_storages_while_they_live() -> None:
    class Chain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a = x + 1  # 4000 bytes
            b = a * 2  # 8000 alive
            del a
            c = b.view(10, 100) * 3  # still 8000: b and c
            return c.add_(1)

    trace = xray(Chain(), torch.zeros(1000))
    assert [operation.live for operation in trace.operations] == [4000, 8000, 4000, 8000, 8000]
    assert trace.peak == 8000
    (view,) = [operation for operation in trace.operations if operation.is_view]
    assert (view.name, view.read, view.written) == ("aten.view", 0, 0)


def test_an_expanded_tensor_is_read_once_and_a_table_where_it_is_looked_up() -> None:
    class Reads(nn.Module):
        def forward(self, table: Tensor, rows: Tensor) -> Tensor:
            return nn.functional.embedding(rows, table) + table.new_zeros(1).expand(3, 8)

    trace = xray(Reads(), torch.zeros(1000, 8), torch.tensor([1, 2, 3]))
    found = {operation.name: operation for operation in trace.operations}
    assert found["aten.embedding"].read == 3 * 8 * 4 + 3 * 8
    assert found["aten.add"].read == 3 * 8 * 4 + 4


def test_parameters_are_known_through_views_copies_and_packing() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = use_kernels(small_gpt2(dim=64), linear="onednn").eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            for _ in range(2):  # packing, then packed
                trace = xray(model, ids())
                named = {name for operation in trace.operations if operation.flops for name in operation.parameters}
                assert {"blocks.0.attention.query.weight", "blocks.1.feed_forward.down.weight"} <= named


def test_nested_outputs_generators_and_other_inputs_are_taken() -> None:
    class Nest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, batch: dict[str, list[Tensor]], times: int, *, how: str) -> Iterator[dict[str, object]]:
            x = batch["x"][0]
            for i in range(times):
                x = self.layer(x)
                yield {"x": (x, i), "how": how}

    trace = xray(Nest(), {"x": [torch.zeros(2, 4)]}, 3, how="so", backward=True)
    assert [out["how"] for out in trace.output] == ["so"] * 3
    assert [call.call for call in trace.root.children if call.path == "layer"] == [0, 1, 2]
    assert str(trace.root.inputs[0]) == "f32(2, 4)"
    assert trace.objective == "the sum of the output"


def test_inputs_given_by_name_are_seen_at_every_level() -> None:
    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, *, x: Tensor) -> Tensor:
            return self.layer(input=x)

    trace = xray(ByName(), x=torch.zeros(2, 4), keep=["layer.input", "layer"])
    assert [str(call.inputs[0]) for call in trace.root.calls()] == ["f32(2, 4)"] * 2
    assert [tuple(trace.tensor(name).shape) for name in ("layer.input", "layer")] == [(2, 4), (2, 3)]


def test_gradients_of_what_was_computed_before_belong_to_the_model_itself() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.first = nn.Embedding(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            row = self.first(torch.arange(1)).detach()
            return (self.layer(x) + row.sum()).sum()

    before = torch.ones(2, 4, requires_grad=True).exp()  # its node has the number before the first of the run
    trace = xray(Looks(), before, backward=True)
    found = [operation for operation in trace.operations if operation.backward_of == "ExpBackward0"]
    assert found
    assert all(operation in trace.root.backward for operation in found)


def test_what_is_computed_again_for_the_backward_pass_stands_in_its_module() -> None:
    class Saves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            out = checkpoint(self.layer, x, use_reentrant=False)
            assert isinstance(out, Tensor)
            return out.square().sum()

    trace = xray(Saves(), torch.ones(2, 4), backward=True)
    assert trace.error is None
    products = [operation for operation in trace.operations if operation.name == "aten.addmm"]
    first = [operation.is_backward for operation in products if operation.module == "layer.0"]
    assert first == [False, True]


def test_models_of_others_are_seen_whole() -> None:
    model = nn.Transformer(16, 4, 2, 2, 32, batch_first=True).eval()
    source, target = torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    with torch.no_grad():
        trace = xray(model, source, target, attention=True)
        encoder = model.encoder.layers[0]
        _, expected = encoder.self_attn(source, source, source, average_attn_weights=False)
    assert len(trace.weights) == 6
    assert trace.attention("decoder.layers.1.multihead_attn").shape == (2, 4, 3, 5)
    torch.testing.assert_close(trace.attention("encoder.layers.0.self_attn"), expected)
    assert {call.kind for call in trace.root.calls()} >= {"TransformerEncoderLayer", "MultiheadAttention", "LayerNorm"}


def test_kept_activations_are_copies_by_name() -> None:
    model = small_gpt2().eval()
    with torch.no_grad():
        trace = xray(model, ids(), keep=["blocks.*", "blocks.1.input", "blocks.0.attention.weights"])
    assert list(trace.tensors) == ["blocks.0.attention.weights", "blocks.0", "blocks.1.input", "blocks.1"]
    assert torch.equal(trace.tensor("blocks.0"), trace.tensor("blocks.1.input"))
    with pytest.raises(KeyError, match="keep"):
        xray(model, ids()).tensor("blocks.0")
    with pytest.raises(ValueError, match=r"no activation is called 'blocks.0.atention'.*blocks.0.attention"):
        xray(model, ids(), keep=["blocks.0.atention"])


def test_json_and_page_hold_every_operator_and_nothing_from_the_network(tmp_path: object) -> None:
    trace = xray(small_gpt2(), ids(), labels=ids(), backward=True, attention=True)
    said = json.loads(trace.to_json())

    def count(call: dict[str, list]) -> int:
        return len(call["backward"]) + sum(count(item) if "items" in item else 1 for item in call["items"])

    assert count(said["root"]) == len(trace.operations)
    page = trace.to_html(f"{tmp_path}/x.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "__DATA__" not in page
    assert page.count('role="tree"') == 1


def test_the_printed_tree_folds_at_its_depth(capsys: pytest.CaptureFixture[str]) -> None:
    trace = xray(small_gpt2().eval(), ids())
    trace.show(1, operations=False)
    shallow = capsys.readouterr().out
    trace.show(None)
    deep = capsys.readouterr().out
    assert "blocks.0" in shallow
    assert "feed_forward" not in shallow
    assert "feed_forward" in deep
    assert "addmm" in deep


def test_the_sums_of_the_tree_are_those_of_its_operators() -> None:
    trace = xray(small_gpt2(), ids(), labels=ids(), backward=True)
    for by in ("operator", "module", "kind"):
        assert sum(found["flops"] for found in trace.totals(by).values()) == trace.flops
        assert sum(found["calls"] for found in trace.totals(by).values()) == len(trace.operations) == len(trace.rows())
    assert flops_of_tree(trace.root) == trace.flops
    assert trace.table("kind").row_count == len(trace.totals("kind"))
    with pytest.raises(ValueError, match="did you mean 'module'"):
        trace.totals("modul")


def flops_of_tree(call: ModuleCall) -> int:
    own = sum(operation.flops for operation in call.backward)
    return own + sum(flops_of_tree(item) if isinstance(item, ModuleCall) else item.flops for item in call.items)


def test_an_xray_refuses_what_is_no_module() -> None:
    with pytest.raises(TypeError, match=r"nn\.Module"):
        xray(len, [])  # pyright: ignore
    assert isinstance(xray(nn.Identity(), 3), Trace)
