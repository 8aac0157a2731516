import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from glassformer.models.llama import LlamaConfig
from glassformer.parts import Llama3Scaling
from glassformer.training import (
    WSD,
    AdamWConfig,
    Cosine,
    LionConfig,
    MuonConfig,
    Recipe,
    load_recipe,
    parse_overrides,
    recipe_names,
)

Tiny = Callable[..., Recipe]


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_load_and_survive_being_written_out(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    written = tmp_path / f"{name}.toml"
    written.write_text(recipe.to_toml())
    assert load_recipe(written) == recipe


def test_every_kind_of_setting_survives_being_written_out(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(
        name='quotes " and \\ and\nlines', optimizer__name="lion", optimizer__betas="0.8, 0.95", schedule__name="wsd",
        schedule__decay_fraction="0.3", training__clip_norm="none", training__micro_batch_size=2,
        training__compile="true", evaluation__batches=3,
    )  # fmt: skip
    assert recipe.optimizer == LionConfig(learning_rate=1e-2, betas=(0.8, 0.95))
    assert recipe.schedule == WSD(warmup_steps=2, decay_fraction=0.3)
    assert recipe.training.clip_norm is None
    assert recipe.training.compile is True
    written = tmp_path / "written.toml"
    written.write_text(recipe.to_toml())
    assert load_recipe(written) == recipe


def test_a_rotary_scaling_is_a_table_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "scaled.toml"
    path.write_text("""
[model]
name = "llama"
dim = 16
num_layers = 1
num_heads = 2
hidden_dim = 24
[model.rope_scaling]
name = "llama3"
factor = 8
low_frequency_factor = 1.0
high_frequency_factor = 4.0
original_max_positions = 32
""")
    recipe = load_recipe(path)
    assert isinstance(recipe.model, LlamaConfig)
    assert isinstance(recipe.model.rope_scaling, Llama3Scaling)
    assert recipe.model.rope_scaling.factor == 8.0
    path.write_text(recipe.to_toml())
    assert load_recipe(path) == recipe


def test_a_recipe_cannot_be_changed(tiny: Tiny) -> None:
    with pytest.raises(FrozenInstanceError):
        tiny().training.steps = 3  # type: ignore[misc]


def test_overrides_are_read_by_the_type_of_their_setting(tiny: Tiny) -> None:
    recipe = tiny(model__dim=32, optimizer__learning_rate="1e-3", data__tokenizer="bytes", schedule__name="cosine")
    assert recipe.model.dim == 32  # type: ignore[attr-defined]
    assert recipe.optimizer.learning_rate == 1e-3
    assert recipe.data.tokenizer == "bytes"
    assert recipe.schedule == Cosine(warmup_steps=2)


def test_the_optimizers_name_chooses_its_settings(tiny: Tiny) -> None:
    assert isinstance(tiny(optimizer__name="muon", optimizer__momentum="0.9").optimizer, MuonConfig)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"model.num_layer": "2"}, ValueError, "--model.num-layer: [model] has no key 'num_layer' (did you mean"),
        ({"trainign.steps": "2"}, ValueError, "a recipe has no key 'trainign' (did you mean 'training'?)"),
        ({"optimizer.momentum": "0.9"}, ValueError, "[optimizer] has no key 'momentum'"),
        ({"optimizer.name": "moun"}, ValueError, "--optimizer.name: [optimizer] name is 'moun' (did you mean 'muon'?)"),
        ({"model.name": "gtp2"}, ValueError, "did you mean 'gpt2'?"),
        ({"training.steps": "many"}, TypeError, "--training.steps: [training] steps is 'many'; expected an integer"),
        ({"training.steps": "2.5"}, TypeError, "expected an integer"),
        ({"training.seed": "-1"}, ValueError, "[training] seed=-1 must not be negative"),
        ({"training.linear": "int8"}, ValueError, "[training] linear is 'int8', a kernel for inference"),
        ({"training.compile": "yes"}, TypeError, "expected true or false"),
        ({"optimizer.betas": "0.9"}, TypeError, "expected 2 values"),
        ({"training.steps": "none"}, TypeError, "expected an integer"),
        ({"training": "3"}, TypeError, "expected a table"),
        ({"training.steps.more": "3"}, ValueError, "steps is a single setting"),
        ({"model.num_heads": "5"}, ValueError, "tiny.toml: [model] num_heads=5 does not divide dim=16"),
        ({"model.activation": "gelo"}, ValueError, "[model] activation is 'gelo'"),
        ({"model.residual_dropout": "1.0"}, ValueError, "[model] residual_dropout=1.0 must lie between 0 and 1"),
        ({"model.dim": "0"}, ValueError, "[model] dim=0 must be positive"),
        ({"model.vocab_size": "100"}, ValueError, "[model] vocab_size cannot be set"),
        ({"data.context": "17"}, ValueError, "[data] context=17 is more than the [model] max_positions=16"),
        ({"data.tokenizer": "bpe"}, ValueError, "needs a vocab_size"),
        ({"data.vocab_size": "300"}, ValueError, "vocab_size=300 has no meaning for the tokenizer 'characters'"),
        ({"data.batch_size": "-1"}, ValueError, "[data] batch_size=-1 must be positive"),
        ({"schedule.warmup_steps": "12"}, ValueError, "[schedule] warmup_steps=12 does not fit into training.steps=12"),
        ({"schedule.final_fraction": "1.5"}, ValueError, "[schedule] final_fraction=1.5 must lie between 0 and 1"),
        ({"optimizer.learning_rate": "-1"}, ValueError, "[optimizer] learning_rate=-1.0 must be positive"),
        ({"optimizer.learning_rate": "nan"}, ValueError, "[optimizer] learning_rate=nan must be positive"),
        ({"optimizer.betas": "0.9,1.0"}, ValueError, "[optimizer] betas=(0.9, 1.0) must lie between 0 and 1"),
        ({"training.precision": "float16"}, ValueError, "[training] precision is 'float16'"),
        ({"training.attend": "sdap"}, ValueError, "[training] attend is 'sdap' (did you mean 'sdpa'?)"),
        ({"training.linear": "refrence"}, ValueError, "[training] linear is 'refrence' (did you mean 'reference'?)"),
        ({"training.clip_norm": "0"}, ValueError, "[training] clip_norm=0.0 must be positive"),
        ({"evaluation.every": "0"}, ValueError, "[evaluation] every=0 must be positive"),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_any_work(
    recipe_file: Path, overrides: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        load_recipe(recipe_file, overrides)


def test_unknown_keys_in_a_file_are_fatal_and_the_file_is_named(recipe_file: Path) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("batch_size", "batchsize"))
    with pytest.raises(ValueError, match=r"tiny\.toml: \[data\] has no key 'batchsize' \(did you mean 'batch_size'"):
        load_recipe(recipe_file)


def test_wrong_types_in_a_file_are_refused(recipe_file: Path) -> None:
    text = recipe_file.read_text()
    for wrong in ('steps = "12"', "steps = 12.0", "steps = true", "steps = [12]"):
        recipe_file.write_text(text.replace("steps = 12", wrong))
        with pytest.raises(TypeError, match=r"tiny\.toml: \[training\] steps is .*; expected an integer"):
            load_recipe(recipe_file)


def test_text_that_is_no_toml_is_named(recipe_file: Path) -> None:
    recipe_file.write_text("[model\nname=")
    with pytest.raises(ValueError, match=r"tiny\.toml is not valid TOML: .*line 1"):
        load_recipe(recipe_file)


def test_a_recipe_without_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    with pytest.raises(ValueError, match="lacks model"):
        load_recipe(path)


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(FileNotFoundError, match="did you mean 'demo'"):
        load_recipe("dmeo")
    with pytest.raises(FileNotFoundError, match=r"no recipe 'missing\.toml'"):
        load_recipe("missing.toml")


def test_command_line_settings_are_read_in_both_spellings() -> None:
    assert parse_overrides(["--model.num-layers", "6", "--training.seed=-1", "--data.corpus", "a=b"]) == {
        "model.num_layers": "6",
        "training.seed": "-1",
        "data.corpus": "a=b",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.dim", "3"], "'model.dim' is not a setting"),
        (["--model.dim"], "--model.dim has no value"),
        (["--model.dim", "--data.context", "3"], "--model.dim has no value"),
        (["--model.dim", "3", "--model.dim=4"], "--model.dim is given twice"),
    ],
)
def test_malformed_command_line_settings_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_overrides(arguments)


def test_a_section_that_picks_nothing_is_of_the_default_kind(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text('[model]\nname = "gpt2"\ndim = 16\nnum_heads = 2\nnum_layers = 1\nmax_positions = 256\n')
    recipe = load_recipe(path, {"optimizer.learning_rate": "0.5", "schedule.warmup_steps": "7"})
    assert recipe.optimizer == AdamWConfig(learning_rate=0.5)
    assert recipe.schedule == Cosine(warmup_steps=7)
    with pytest.raises(ValueError, match=r"--optimizer\.momentum: \[optimizer\] has no key 'momentum'"):
        load_recipe(path, {"optimizer.momentum": "0.5"})


def test_a_recipe_file_may_begin_with_a_mark_and_must_be_utf_8(recipe_file: Path) -> None:
    content = recipe_file.read_bytes()
    recipe_file.write_bytes(b"\xef\xbb\xbf" + content)
    assert load_recipe(recipe_file).training.steps == 12
    recipe_file.write_bytes(content + b"# Gr\xfc\xdfe")
    with pytest.raises(ValueError, match=r"tiny\.toml is not UTF-8 text: byte \d+ is 0xfc"):
        load_recipe(recipe_file)
