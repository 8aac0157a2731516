"""Folders that transformers writes, and config tables held to its own defaults."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from declaration import Declared
from declared_decoders import DECODERS
from properties import redraw
from properties_decoders import ids
from safetensors.torch import load_file, save_file

from glassformer.checkpoints.config import ConfigTable, special_tokens
from glassformer.checkpoints.files import TensorFile
from glassformer.models.gpt2 import GPT2
from glassformer.models.llama import Llama

transformers = pytest.importorskip("transformers")

PUBLIC = [case for case in DECODERS if case.theirs]
TABLES = list({case.model.config_table.model_type: case.model.config_table for case in PUBLIC}.values())
each_model = pytest.mark.parametrize("case", PUBLIC, ids=lambda case: case.name)
each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.model_type)


def theirs(case: Declared) -> Any:
    assert case.theirs is not None
    return redraw(case.theirs()).eval()


def default_attributes(table: ConfigTable) -> dict[str, Any]:
    """What their config class says when nothing is asked of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return json.loads(transformers.AutoConfig.for_model(table.model_type).to_json_string(use_diff=False))


@each_model
def test_their_shards_give_the_same_model_as_their_one_file(case: Declared, tmp_path: Path):
    model = theirs(case)
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    one, many = (case.model.from_pretrained(tmp_path / name) for name in ("one", "many"))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, many.state_dict()[name]), name


@each_model
def test_what_we_save_of_theirs_has_their_tensors_and_their_config(case: Declared, tmp_path: Path):
    model = theirs(case)
    model.save_pretrained(tmp_path / "theirs")
    attributes = json.loads((tmp_path / "theirs" / "config.json").read_text())
    ours = case.model.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours", special_tokens=special_tokens(attributes))
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]), name
    again = type(model).from_pretrained(tmp_path / "ours")
    found, wanted = again.config.to_dict(), model.config.to_dict()
    rope = wanted.pop("rope_parameters", {})  # here ours may spell out what theirs leaves to defaults
    assert rope.items() <= found.pop("rope_parameters", {}).items()
    assert found == wanted | {"_name_or_path": str(tmp_path / "ours")}


@each_model
def test_a_cast_model_is_opened_there_in_its_dtype_with_equal_logits(case: Declared, tmp_path: Path):
    ours = redraw(case.build()).to(torch.bfloat16).eval()
    ours.save_pretrained(tmp_path, max_shard_bytes=20_000)
    model = type(theirs(case)).from_pretrained(tmp_path).eval()
    assert model.dtype == torch.bfloat16
    x = ids(case)
    assert torch.equal(model.float()(x).logits.argmax(-1), ours.float()(x).logits.argmax(-1))


@each_table
def test_defaults_and_fixed_values_are_those_of_their_class(table: ConfigTable):
    """An attribute that a file leaves out has their default: the table must say the same."""
    attributes = default_attributes(table)
    for name, value in {**table.defaults, **table.fixed}.items():
        if name in attributes:
            assert attributes[name] == value or name in ("head_dim", "num_key_value_heads"), name
    assert not [name for name in {**table.defaults, **table.fixed} if name not in attributes]


@each_table
def test_every_attribute_of_their_class_is_understood(table: ConfigTable):
    table.load(default_attributes(table))


@each_table
def test_a_misspelt_attribute_is_refused_with_the_right_name(table: ConfigTable):
    attributes = default_attributes(table)
    for name in table.names:
        with pytest.raises(ValueError, match=f"did you mean {name!r}"):
            table.load(attributes | {f"{name}_": 1})


@pytest.mark.parametrize(("model", "size"), [(GPT2, "gpt2"), (Llama, "llama-multi-query-tied")])
def test_a_base_model_without_its_head_opens_when_tied(model: Any, size: str, tmp_path: Path):
    """GPT-2's own file on the hub is one: its names lack the prefix."""
    (case,) = (case for case in PUBLIC if case.name == size)
    full = theirs(case)
    full.base_model.save_pretrained(tmp_path)
    assert not any(name.startswith(("transformer.", "model.")) for name in TensorFile(tmp_path / "model.safetensors"))
    x = ids(case)
    assert torch.allclose(model.from_pretrained(tmp_path)(x).logits, full(x).logits, rtol=0, atol=1e-4)


def test_an_untied_base_model_lacks_its_head(tmp_path: Path):
    (case,) = (case for case in PUBLIC if case.name == "llama")
    theirs(case).base_model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks lm_head\.weight \(ours: head\.weight\)"):
        Llama.from_pretrained(tmp_path)


def test_old_gpt2_files_with_mask_buffers_and_a_repeated_head_open(tmp_path: Path):
    (case,) = (case for case in PUBLIC if case.name == "gpt2")
    model = theirs(case)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    head = state["transformer.wte.weight"].clone()
    masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 48, 48).tril().bool() for i in range(3)}
    save_file(state | masks | {"lm_head.weight": head}, path, metadata={"format": "pt"})
    x = ids(case)
    assert torch.allclose(GPT2.from_pretrained(tmp_path)(x).logits, model(x).logits, rtol=0, atol=1e-4)


def test_their_other_classes_of_a_family_are_refused(tmp_path: Path):
    config = transformers.GPT2Config(vocab_size=11, n_embd=8, n_head=2, n_layer=1, n_positions=8, bos_token_id=0,
                                     eos_token_id=0)  # fmt: skip
    transformers.GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="architecture 'GPT2ForSequenceClassification'"):
        GPT2.from_pretrained(tmp_path)
