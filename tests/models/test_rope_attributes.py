"""What a `config.json` may say of rotary positions, and what it may not say at once."""

from typing import Any

import pytest

from glassformer.checkpoints.config import ConfigTable
from glassformer.models import deepseek, llama, mistral, mixtral, qwen3
from glassformer.parts import LinearScaling

TABLES = {
    "llama": llama.CONFIG_TABLE, "mistral": mistral.CONFIG_TABLE, "mixtral": mixtral.CONFIG_TABLE,
    "qwen3": qwen3.CONFIG_TABLE, "deepseek": deepseek.CONFIG_TABLE,
}  # fmt: skip
each_table = pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))

DEFAULT = {"rope_type": "default", "rope_theta": 500.0}
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}


def attributes(table: ConfigTable, **changes: Any) -> dict[str, Any]:
    """A config of the family's own defaults, with these instead of its rotation."""
    said = table.save(table.config())
    del said["rope_parameters"]
    return said | changes


@each_table
@pytest.mark.parametrize("old", [{"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 4.0}])
def test_a_scaling_added_beside_another_rotation_is_refused_not_overlooked(table: ConfigTable, old: Any) -> None:
    with pytest.raises(ValueError, match=r"rope_scaling=.* beside rope_parameters="):
        table.load(attributes(table, rope_parameters=DEFAULT, rope_scaling=old))


@each_table
def test_the_same_rotation_by_both_names_is_read(table: ConfigTable) -> None:
    for old in ({"type": "linear", "factor": 2.0}, LINEAR, {}, None):
        config = table.load(attributes(table, rope_parameters=LINEAR, rope_scaling=old))
        assert (config.rope_base, config.rope_scaling) == (500.0, LinearScaling(factor=2.0))


@each_table
def test_the_old_name_alone_is_read(table: ConfigTable) -> None:
    config = table.load(attributes(table, rope_theta=500.0, rope_scaling={"type": "linear", "factor": 2.0}))
    assert (config.rope_base, config.rope_scaling) == (500.0, LinearScaling(factor=2.0))


@each_table
def test_a_base_by_which_nothing_turns_is_refused(table: ConfigTable) -> None:
    for said in ({"rope_theta": 0.0}, {"rope_parameters": {"rope_type": "default", "rope_theta": -5.0}}):
        with pytest.raises(ValueError, match=r"rope_theta=(0|-5)\.0; expected a number above 0"):
            table.load(attributes(table, **said))


def test_latent_attention_turns_as_many_coordinates_as_it_says_twice() -> None:
    said = deepseek.CONFIG_TABLE.save(deepseek.DeepSeekConfig(rotary_dim=64))
    assert deepseek.CONFIG_TABLE.load(said | {"head_dim": 64}).rotary_dim == 64
    with pytest.raises(ValueError, match="head_dim=32; only 64"):
        deepseek.CONFIG_TABLE.load(said | {"head_dim": 32})
