"""Two models held against each other: how they are paired, what differs, what is said of it, what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from declared import DECLARED
from properties import LEFT, both, redraw, without_labels
from torch import Tensor, nn

from glassformer.cli import main
from glassformer.models import GPT2, GPT2Config, Llama, LlamaConfig
from glassformer.parts import use_kernels
from glassformer.tracing import compare

BY_NAME = {case.name: case for case in DECLARED}
IDS = torch.randint(61, (2, 11), generator=torch.Generator().manual_seed(0))


def gpt2(seed: int = 0) -> Any:
    config = GPT2Config(vocab_size=61, max_positions=32, dim=32, num_layers=2, num_heads=4)
    return redraw(GPT2(config), seed).eval()


def llama() -> Any:
    config = LlamaConfig(vocab_size=61, max_positions=32, dim=32, num_layers=2, num_heads=4, hidden_dim=56)
    return redraw(Llama(config)).eval()


class Plain(nn.Module):
    """Two layers and an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(torch.cat([self.first(x), self.second(x)], -1).relu())


class Fused(nn.Module):
    """The same with two layers in one, under other names."""

    def __init__(self, plain: Plain) -> None:
        super().__init__()
        self.both, self.out = nn.Linear(6, 16), nn.Linear(16, 5)
        self.both.weight.data = torch.cat([plain.first.weight, plain.second.weight]).detach()
        self.both.bias.data = torch.cat([plain.first.bias, plain.second.bias]).detach()
        self.out.load_state_dict(plain.third.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.both(x).relu())


# -- what agrees -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_two_dtypes_agree_as_far_as_they_allow(dtype: torch.dtype) -> None:
    model = gpt2()
    found = compare(model, copy.deepcopy(model).to(dtype), IDS)
    assert not found, found.sentence
    assert found.aligned == "by equal names"
    assert len(found.points) > 40
    assert found.output is not None


@pytest.mark.parametrize("kernel", ["sdpa", "products", "online"])
def test_kernels_agree(kernel: str) -> None:
    model = llama()
    assert not compare(use_kernels(copy.deepcopy(model), attend=kernel), use_kernels(model, attend="reference"), IDS)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "gemma3", "mpt", "bert", "distilbert", "bart", "t5", "vit"])
def test_hugging_faces_and_ours_agree_either_way_round(name: str, tmp_path: Path) -> None:
    """Through the checkpoint table; gemma3 scales within its embedding, mpt adds within its feed-forward."""
    case = BY_NAME[name]
    theirs, ours = both(case, str(tmp_path))
    inputs = without_labels(case, case.inputs())
    for found in (
        compare(ours, theirs, [inputs, case.kind.theirs(inputs)]),
        compare(theirs, ours, [case.kind.theirs(inputs), inputs]),
    ):
        assert not found, found.sentence
        by_file_names = name != "vit"  # its modules are not named as its files name them
        assert found.aligned == ("by the checkpoint table" if by_file_names else "by values, shapes and order")
        assert len(found.points) > 40


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "bert"])
def test_padding_is_not_compared(name: str, tmp_path: Path) -> None:
    case = BY_NAME[name]
    assert case.kind.pad is not None
    theirs, ours = both(case, str(tmp_path))
    inputs = without_labels(case, case.kind.pad(case.inputs(), LEFT))
    found = compare(ours, theirs, [inputs, case.kind.theirs(inputs)])
    assert not found, found.sentence


def test_what_is_computed_in_another_place_is_no_difference(tmp_path: Path) -> None:
    case = BY_NAME["gemma3"]
    theirs, ours = both(case, str(tmp_path))
    found = compare(ours, theirs, without_labels(case, case.inputs()))
    assert not found
    assert [point.a for point in found.settled] == ["embed"]
    assert "agree" in found.sentence


def test_quantized_layers_differ_and_agree_within_a_tolerance() -> None:
    model = gpt2()
    quantized = use_kernels(copy.deepcopy(model), linear="int8")
    found = compare(quantized, model, IDS)
    assert found
    assert found.parameters_agree
    assert found.module == "blocks.0.attention.query"
    assert not compare(quantized, model, IDS, tolerance=0.5)


# -- how they are paired -----------------------------------------------------------------------------------------------


def test_layers_are_paired_by_their_values_and_fused_ones_in_parts() -> None:
    plain = Plain()
    found = compare(plain, Fused(plain), torch.randn(3, 6))
    assert not found
    assert found.aligned == "by values, shapes and order"
    assert {"first", "second", "third"} <= {point.a for point in found.points}


def test_a_fused_layer_that_differs_is_found_by_order() -> None:
    plain = Plain()
    other = copy.deepcopy(plain)
    fused = Fused(plain)
    other.third.weight.data[2] += 0.3
    found = compare(other, fused, torch.randn(3, 6))
    assert found.module == "third"
    assert found.parameters_agree is False
    assert found.inputs_agree
    assert found.finding is not None
    assert found.finding.key == "weight"
    assert found.difference is not None
    assert ("channel", (2,)) in found.difference.where


def test_names_that_are_given_come_first() -> None:
    plain = Plain()
    other = copy.deepcopy(plain)
    other.first, other.second = other.second, other.first
    other.forward = lambda x: other.third(torch.cat([other.second(x), other.first(x)], -1).relu())  # type: ignore[method-assign]
    inputs = torch.randn(3, 6)
    told = compare(plain, other, inputs, names={"first": "second", "second": "first"})
    assert not told
    assert not told.settled
    assert "2 as told" in told.aligned
    assert [point.b for point in told.points if point.a == "first"] == ["second"]
    alone = compare(plain, other, inputs)
    assert not alone, "what follows is the same"
    assert {"first", "second"} <= {point.a for point in alone.settled}


# -- what is said ------------------------------------------------------------------------------------------------------


def test_a_divergence_prints_its_points_and_says_what_it_is() -> None:
    model = gpt2()
    wrong = copy.deepcopy(model)
    wrong.blocks[1].attention.query.weight.data = wrong.blocks[1].attention.query.weight.data.T.contiguous()
    found = compare(wrong, model, IDS)
    printed = str(found)
    assert "← first" in printed
    assert "blocks.1.attention.query: its weight is transposed; transposed back, the two agree to" in " ".join(
        printed.split()
    )
    data = json.loads(found.to_json())
    assert data["module"] == "blocks.1.attention.query"
    assert data["findings"][0]["key"] == "transposed weight"
    assert data["findings"][0]["error"] < 1e-6
    assert data["points"][data["first"]]["agrees"] is False
    assert all(point["agrees"] for point in data["points"][: data["first"]])


def test_where_values_differ_is_said() -> None:
    model = gpt2()
    wrong = copy.deepcopy(model)
    wrong.blocks[0].feed_forward.up.bias.data[5] += 1.0
    found = compare(wrong, model, IDS)
    assert found.difference is not None
    assert found.difference.where == (("channel", (5,)),)
    assert found.difference.share == pytest.approx(1 / 128)


def test_what_no_hypothesis_explains_is_said_with_what_was_tried() -> None:
    model = llama()
    wrong = copy.deepcopy(model)
    layer = wrong.blocks[1].feed_forward
    layer.forward = lambda x: layer.down((layer.gate(x) * layer.up(x)).sin())
    found = compare(wrong, model, IDS)
    assert found.module == "blocks.1.feed_forward"
    assert found.finding is None or found.finding.key == "activation"
    assert "none of what was tried" in found.sentence or "no hypothesis was confirmed" in found.sentence


def test_nothing_is_left_on_the_models() -> None:
    model = gpt2()
    compare(model, copy.deepcopy(model), IDS)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_names_that_match_nothing_name_the_nearest() -> None:
    plain = Plain()
    with pytest.raises(ValueError, match=r"b has no module 'secnd' \(nearest: second"):
        compare(plain, copy.deepcopy(plain), torch.randn(3, 6), names={"first": "secnd"})


def test_inputs_that_a_model_refuses_are_refused_in_one_sentence() -> None:
    model = gpt2()
    with pytest.raises(ValueError, match=r"a, GPT2, refuses the inputs: input_ids holds 99"):
        compare(model, copy.deepcopy(model), torch.tensor([[99]]))
    plain = Plain()
    with pytest.raises(ValueError, match=r"b, Plain, refuses the inputs in first: "):
        compare(plain, copy.deepcopy(plain), [torch.randn(3, 6), torch.randn(3, 7)])
    with pytest.raises(ValueError, match="2 inputs are given, and Plain takes x"):
        compare(plain, plain, (torch.randn(3, 6), torch.randn(3, 6)))


def test_models_that_have_nothing_in_common_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the outputs of a, .*, and of b, .*, do not correspond"):
        compare(nn.Sequential(nn.Linear(6, 8)), nn.Sequential(nn.Linear(6, 7)), torch.randn(3, 6))
    with pytest.raises(ValueError, match="no layer of a, Plain, has the shape of one of b, Bilinear"):
        compare(Plain(), nn.Bilinear(6, 6, 5), [torch.randn(3, 6), (torch.randn(3, 6), torch.randn(3, 6))])


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_exits_with_1_where_models_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = gpt2()
    model.save_pretrained(tmp_path / "right")
    model.blocks[1].feed_forward.up.bias.data.zero_()
    model.save_pretrained(tmp_path / "wrong")
    right, wrong = str(tmp_path / "right"), str(tmp_path / "wrong")
    assert main(["compare", right, f"transformers:{right}"]) == 0
    assert "They agree at" in capsys.readouterr().out
    assert main(["compare", wrong, f"transformers:{right}", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["key"] == "missing bias"
    assert main(["compare", right, str(tmp_path / "nowhere")]) == 2


def test_a_cast_within_a_float64_model_is_found(tmp_path: Path) -> None:
    """Hugging Face's RMSNorm computes in float32 whatever the model's dtype."""
    theirs, ours = both(BY_NAME["llama"], str(tmp_path))
    found = compare(ours.double(), theirs.double(), IDS)
    assert found.module == "blocks.0.attention_norm"
    assert found.finding is not None
    assert (found.finding.key, found.finding.who) == ("precision", "b")
    assert found.finding.error < 1e-14
