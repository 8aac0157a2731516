"""Models are found by name, and a folder opens as what its config says it is."""

from pathlib import Path

import pytest
import torch
from declaration import Declared
from declared_decoders import DECODERS

import glassformer
from glassformer import models
from glassformer.models.catalog import (
    ARCHITECTURES,
    CLASSES,
    CONFIGS,
    MODELS,
    build,
    create_model,
    from_pretrained,
    model_config,
)


def test_a_name_gives_the_published_size() -> None:
    assert (CONFIGS["gpt2-medium"].dim, CONFIGS["gpt2-medium"].num_layers) == (1024, 24)
    with torch.device("meta"):
        assert create_model("gpt2-medium").num_parameters == 354_823_168


@pytest.mark.parametrize("family", MODELS)
def test_a_family_s_name_builds_its_class(family: str) -> None:
    with torch.device("meta"):
        small = {"num_layers": 2, "vocab_size": 11}
        changes = {name: value for name, value in small.items() if hasattr(CONFIGS[family], name)}
        assert type(create_model(family, **changes)) is MODELS[family]


def test_settings_are_changed_by_name() -> None:
    model = create_model("gpt2", num_layers=1, dim=8, num_heads=2, vocab_size=5, max_positions=4)
    assert model.config == model_config("gpt2", num_layers=1, dim=8, num_heads=2, vocab_size=5, max_positions=4)


def test_a_misspelt_name_raises_and_the_right_one_is_suggested() -> None:
    with pytest.raises(ValueError, match=r"there is no model 'gpt2-meduim' \(did you mean 'gpt2-medium'\?\)"):
        create_model("gpt2-meduim")
    with pytest.raises(TypeError, match=r"GPT2Config has no setting 'num_layer' \(did you mean 'num_layers'\?\)"):
        create_model("gpt2", num_layer=3)
    with pytest.raises(TypeError, match="dict is no model's config"):
        build({})


@pytest.mark.parametrize("case", DECODERS, ids=lambda case: case.name)
def test_every_declared_model_is_in_the_catalog_and_its_folder_opens_as_it(case: Declared, tmp_path: Path) -> None:
    assert case.model in CLASSES
    model = case.build()
    model.save_pretrained(tmp_path)
    opened = from_pretrained(tmp_path)
    assert type(opened) is case.model
    assert opened.config == case.config
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in opened.state_dict().items())


def test_each_architecture_has_one_class() -> None:
    named = [name for model in CLASSES for name in model.config_table.architectures]
    assert sorted(named) == sorted(ARCHITECTURES)


def test_every_name_that_the_package_exports_is_there() -> None:
    for package in (glassformer, models):
        for name in package.__all__:
            if name != "train":
                assert getattr(package, name) is not None
