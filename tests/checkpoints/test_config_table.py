"""Config tables: what a config.json says is understood, fixed, known not to matter, or refused."""

import json
import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import TOY_CONFIG, ToyConfig

from glassformer.checkpoints.config import FIXED, IGNORED, Compound, ConfigTable, own_table, special_tokens

THEIRS = {
    "model_type": "toy", "architectures": ["ToyLMHead"], "vocab_size": 7, "n_embd": 8, "n_layer": 3, "act": "gelu_new",
    "eps": 1e-6, "head_dim": 2, "tie_word_embeddings": False, "rope": {"base": 5.0, "scaling": 2.0}, "scale_attn": True,
}  # fmt: skip
OURS = ToyConfig(
    vocab_size=7, dim=8, num_layers=3, norm_eps=1e-6, head_dim=2, base=5.0, scaling=2.0, tied=False
)  # fmt: skip


def without(name: str) -> dict:
    return {key: value for key, value in THEIRS.items() if key != name}


def test_every_named_attribute_arrives():
    assert TOY_CONFIG.load(THEIRS) == OURS


def test_what_is_written_says_the_same():
    written = TOY_CONFIG.save(OURS, dtype="bfloat16")
    assert {name: written[name] for name in THEIRS} == THEIRS
    assert written["dtype"] == "bfloat16"


@given(
    st.builds(
        ToyConfig,
        vocab_size=st.integers(1, 10**6),
        norm_eps=st.floats(1e-12, 1e-3),
        activation=st.sampled_from(["gelu", "gelu_tanh", "relu", "silu"]),
        head_dim=st.none() | st.integers(1, 128),
        scaling=st.none() | st.floats(1, 64),
        tied=st.booleans(),
    )
)
def test_any_config_survives_the_way_through_json(config: ToyConfig):
    assert TOY_CONFIG.load(json.loads(json.dumps(TOY_CONFIG.save(config)))) == config


def test_names_that_mean_the_same_are_read_alike():
    for name in ("gelu_new", "gelu_pytorch_tanh"):
        assert TOY_CONFIG.load(THEIRS | {"act": name}).activation == "gelu_tanh"
    assert TOY_CONFIG.save(OURS)["act"] == "gelu_new"
    with pytest.raises(ValueError, match=r"act='gelu_neww' is not implemented \(did you mean 'gelu_new'\?\)"):
        TOY_CONFIG.load(THEIRS | {"act": "gelu_neww"})
    with pytest.raises(ValueError, match="activation='tanh' has no name in their config"):
        TOY_CONFIG.save(replace(OURS, activation="tanh"))


def test_an_absent_attribute_takes_their_default_or_is_refused():
    assert TOY_CONFIG.load(without("tie_word_embeddings")).tied is True
    assert TOY_CONFIG.load(without("head_dim")).head_dim is None
    assert TOY_CONFIG.load(without("rope")).base == 10.0
    with pytest.raises(ValueError, match="must have 'n_embd', which is missing"):
        TOY_CONFIG.load(without("n_embd"))


@pytest.mark.parametrize(
    ("attributes", "fault"),
    [
        ({"scale_attn": False}, "scale_attn=False; only True is implemented"),
        ({"add_cross_attention": True}, "add_cross_attention=True; only False is implemented"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads="),
        ({"quantization_config": {"bits": 4}}, "quantization_config="),
        ({"n_embed": 3}, r"n_embed=3, which is not implemented for a 'toy' model \(did you mean 'n_embd'\?\)"),
        ({"sliding_window": 128}, "sliding_window=128, which is not implemented"),
        ({"auto_map": {}}, "auto_map="),
        ({"rope": {"base": 1.0, "kind": "yarn"}}, r"rope has \['kind'\]"),
        ({"model_type": "bert"}, "model_type='bert'; ToyConfig reads 'toy'"),
        ({"model_type": None}, "model_type=None"),
        ({"architectures": ["ToyForTokenClassification"]}, "architecture 'ToyForTokenClassification'"),
        ({"act": ["gelu"]}, r"act=\['gelu'\] is not implemented"),
        ({"n_embd": "8"}, "n_embd='8'; expected int"),
        ({"n_embd": 8.0}, r"n_embd=8\.0; expected int"),
        ({"n_embd": -8}, "n_embd=-8; expected int from 0 to 2,147,483,647"),
        ({"n_embd": 10**12}, "n_embd=1000000000000; expected int from 0 to 2,147,483,647"),
        ({"eps": math.nan}, "eps=nan; expected float"),
        ({"rope": {"base": math.inf}}, "rope=inf; expected float"),
        ({"n_embd": True}, "n_embd=True; expected int"),
        ({"n_embd": None}, "n_embd=None; expected int"),
        ({"eps": "1e-5"}, "eps='1e-5'; expected float"),
        ({"head_dim": [2]}, r"head_dim=\[2\]; expected int or null"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings=1; expected bool"),
        ({"rope": {"base": "5"}}, "rope='5'; expected float"),
        ({"rope": 5}, r"\{'rope': 5\}, which is not of the form expected"),
    ],
)
def test_what_is_not_implemented_or_not_understood_is_refused_by_name(attributes, fault):
    with pytest.raises(ValueError, match=fault):
        TOY_CONFIG.load(THEIRS | attributes)


def test_what_changes_no_output_is_ignored():
    noise = {"eos_token_id": [1, 2], "use_cache": False, "torch_dtype": "float16", "temperature": 0.3, "n_ctx": 9}
    assert TOY_CONFIG.load(THEIRS | noise | dict(FIXED)) == OURS
    assert not IGNORED & FIXED.keys()


def test_a_whole_number_will_do_for_a_float():
    assert TOY_CONFIG.load(THEIRS | {"eps": 0}).norm_eps == 0


def test_what_their_format_cannot_say_is_refused_when_saving():
    with pytest.raises(ValueError, match="shiny=True cannot be said in a 'toy' config"):
        TOY_CONFIG.save(replace(OURS, shiny=True))
    with pytest.raises(TypeError, match="expected a ToyConfig, got dict"):
        TOY_CONFIG.save(THEIRS)


def test_special_tokens_are_written_when_given_and_null_when_not():
    written = TOY_CONFIG.save(OURS)
    assert [written[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [None] * 3
    theirs = THEIRS | {"eos_token_id": 3, "bos_token_id": None, "sep_token_id": 4}
    written = TOY_CONFIG.save(OURS, special_tokens=special_tokens(theirs))
    assert written["eos_token_id"] == 3
    assert written["sep_token_id"] == 4
    with pytest.raises(ValueError, match=r"'eos_token' is no special token's name \(did you mean 'eos_token_id'"):
        TOY_CONFIG.save(OURS, special_tokens={"eos_token": 3})


def test_a_table_that_forgets_or_repeats_a_field_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Pair:
        a: int
        b: int = 2

    make = dict(config=Pair, model_type="pair", architectures=("Pair",))
    with pytest.raises(ValueError, match=r"each of its fields once; look at \['b'\]"):
        ConfigTable(names={"x": "a"}, **make)
    with pytest.raises(ValueError, match=r"each of its fields once; look at \['a'\]"):
        ConfigTable(names={"x": "a", "y": "a", "z": "b"}, **make)
    with pytest.raises(ValueError, match=r"each of its fields once; look at \['b', 'c'\]"):
        ConfigTable(names={"x": "a", "y": "c"}, **make)
    with pytest.raises(ValueError, match=r"defaults for \['w'\]"):
        ConfigTable(names={"x": "a", "y": "b"}, defaults={"w": 1}, **make)
    own = own_table(Pair, "pair", "Pair")
    assert own.load(own.save(Pair(a=1, b=5))) == Pair(a=1, b=5)
    assert own.load({"model_type": "pair", "a": 1}) == Pair(a=1)
    with pytest.raises(ValueError, match="must have 'a'"):
        own.load({"model_type": "pair"})


def test_the_parts_of_a_compound_field_are_checked_too():
    @dataclass(frozen=True, kw_only=True)
    class Linear:
        factor: float

    @dataclass(frozen=True, kw_only=True)
    class Scaled:
        scaling: Linear | None = None

    compound = Compound(
        ("rope",), ("scaling",), lambda a: {"scaling": Linear(factor=a["rope"])}, lambda c: {"rope": c.scaling.factor}
    )
    table = ConfigTable(config=Scaled, model_type="s", architectures=("S",), names={}, compounds=(compound,))
    assert table.load({"model_type": "s", "rope": 2.0}).scaling.factor == 2.0
    with pytest.raises(ValueError, match="rope='x'; expected float"):
        table.load({"model_type": "s", "rope": "x"})


def test_an_int_that_the_config_fills_in_may_be_null():
    @dataclass(frozen=True, kw_only=True)
    class Filled:
        heads: int = 4
        kv_heads: int = None  # type: ignore[assignment]

        def __post_init__(self) -> None:
            if self.kv_heads is None:
                object.__setattr__(self, "kv_heads", self.heads)

    assert own_table(Filled, "filled", "Filled").load({"model_type": "filled", "kv_heads": None}).kv_heads == 4
