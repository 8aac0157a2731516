"""Checkpoint tables: strict, and the same in both directions."""

import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from glassformer.checkpoints.table import DROP, Computed, Split, Table, Tied, Transpose, Unsqueezed, load, rows, save

GPT2: Table = {
    "[transformer.]{wte,wpe}": "{embed,position}",
    "[transformer.]h.*.ln_{1,2}": "blocks.*.{attention,feed_forward}_norm",
    "[transformer.]h.*.attn.c_attn": Split("blocks.*.attention.{query,key,value}", transpose=True),
    "[transformer.]h.*.attn.c_proj": Transpose("blocks.*.attention.output"),
    "[transformer.]h.*.attn.{bias,masked_bias}": DROP,
    "[transformer.]ln_f": "norm",
    "lm_head": Tied("embed"),
}


def gpt2_file(prefix: str = "transformer.", layers: int = 2) -> dict[str, Tensor]:
    state = {f"{prefix}wte.weight": torch.randn(7, 4), f"{prefix}wpe.weight": torch.randn(5, 4)}
    for i in range(layers):
        state |= {
            f"{prefix}h.{i}.ln_1.weight": torch.randn(4),
            f"{prefix}h.{i}.ln_2.bias": torch.randn(4),
            f"{prefix}h.{i}.attn.c_attn.weight": torch.randn(4, 12),
            f"{prefix}h.{i}.attn.c_attn.bias": torch.randn(12),
            f"{prefix}h.{i}.attn.c_proj.weight": torch.randn(4, 4),
            f"{prefix}h.{i}.attn.c_proj.bias": torch.randn(4),
        }
    return state


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_gpt2_names_become_ours_and_weights_are_turned_and_split():
    theirs = gpt2_file()
    ours = load(theirs, GPT2)
    assert torch.equal(ours["embed.weight"], theirs["transformer.wte.weight"])
    assert torch.equal(ours["blocks.1.attention_norm.weight"], theirs["transformer.h.1.ln_1.weight"])
    assert torch.equal(ours["blocks.0.attention.output.weight"], theirs["transformer.h.0.attn.c_proj.weight"].T)
    assert torch.equal(ours["blocks.0.attention.output.bias"], theirs["transformer.h.0.attn.c_proj.bias"])
    for i, part in enumerate(("query", "key", "value")):
        columns = slice(4 * i, 4 * i + 4)
        weight, bias = ours[f"blocks.1.attention.{part}.weight"], ours[f"blocks.1.attention.{part}.bias"]
        assert torch.equal(weight, theirs["transformer.h.1.attn.c_attn.weight"][:, columns].T)
        assert torch.equal(bias, theirs["transformer.h.1.attn.c_attn.bias"][columns])
        assert weight.is_contiguous()
        assert weight.untyped_storage().nbytes() == weight.numel() * 4, "a part must not keep the whole alive"


def test_saving_undoes_loading():
    theirs = gpt2_file()
    assert_equal(dict(save(dict(load(theirs, GPT2)), GPT2)), theirs)


def test_a_leading_size_of_one_comes_off_and_is_written_again():
    theirs = {"final_logits_bias": torch.randn(1, 5)}
    ours = dict(load(theirs, {"final_logits_bias": Unsqueezed("head.bias")}))
    assert torch.equal(ours["head.bias"], theirs["final_logits_bias"][0])
    assert_equal(dict(save(ours, {"final_logits_bias": Unsqueezed("head.bias")})), theirs)


def test_a_prefix_may_be_absent_and_is_written():
    bare, full = gpt2_file(prefix=""), {}
    ours = dict(load(bare, GPT2))
    full = {f"transformer.{name}": tensor for name, tensor in bare.items()}
    assert_equal(ours, dict(load(full, GPT2)))
    assert_equal(dict(save(ours, GPT2)), full)


def test_a_name_given_with_and_without_its_prefix_is_refused():
    state = gpt2_file() | {"h.0.ln_1.weight": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"'transformer\.h\.0\.ln_1\.weight' and 'h\.0\.ln_1\.weight' both stand for"):
        load(state, GPT2)


def test_dropped_tensors_are_never_read():
    class Unreadable(dict):
        def __getitem__(self, name: str) -> Tensor:
            assert not name.endswith((".attn.bias", ".attn.masked_bias")), name
            return super().__getitem__(name)

    extra = {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 5, 5),
        "transformer.h.1.attn.masked_bias": torch.tensor(-1e4),
    }
    theirs = gpt2_file()
    assert_equal(dict(load(Unreadable(theirs | extra), GPT2)), dict(load(theirs, GPT2)))


def test_a_computed_tensor_may_be_absent_or_close_to_ours_and_is_never_written():
    table: Table = {"a": "b", "waves": Computed(lambda shape: torch.arange(shape[0]) / 4)}
    state = {"a.weight": torch.ones(2)}
    for waves in (torch.arange(3) / 4, torch.arange(3) / 4 + 5e-5, (torch.arange(3) / 4).bfloat16()):
        assert list(load(state | {"waves.weight": waves}, table)) == ["b.weight"]
    assert list(save(load(state, table), table)) == ["a.weight"]
    for wrong in (torch.arange(3) / 4 + 1e-3, torch.tensor([0.0, torch.nan, 0.5]), torch.tensor([0, 1, 2])):
        with pytest.raises(
            ValueError, match=r"tensor 'waves.weight' is computed here, not read, and the file's differs"
        ):
            load(state | {"waves.weight": wrong}, table)


def test_tied_copies_must_be_equal_and_one_is_enough():
    theirs = gpt2_file()
    embed = theirs["transformer.wte.weight"]
    assert_equal(dict(load(theirs | {"lm_head.weight": embed.clone()}, GPT2)), dict(load(theirs, GPT2)))
    with pytest.raises(ValueError, match=r"'lm_head\.weight' and 'transformer\.wte\.weight' are tied"):
        dict(load(theirs | {"lm_head.weight": embed + 1}, GPT2))
    only = {name: tensor for name, tensor in theirs.items() if "wte" not in name} | {"lm_head.weight": embed}
    assert_equal(dict(load(only, GPT2)), dict(load(theirs, GPT2)))
    assert "lm_head.weight" not in save(dict(load(only, GPT2)), GPT2)


def test_unknown_names_are_refused_with_the_nearest_row():
    with pytest.raises(
        ValueError, match=r"names 'transformer\.h\.0\.atn\.c_proj\.weight'; the nearest row is .*c_proj"
    ):
        load(gpt2_file() | {"transformer.h.0.atn.c_proj.weight": torch.zeros(4, 4)}, GPT2)
    with pytest.raises(ValueError, match=r"names 'blocks\.0\.attention\.querry\.bias'; the nearest row is .*c_attn"):
        save({"blocks.0.attention.querry.bias": torch.zeros(4)}, GPT2)
    for name in ("transformer.h.x.ln_1.weight", "transformer.h.0.ln_1.gamma", "transformer.h.0.ln_1.weight.weight"):
        with pytest.raises(ValueError, match="no row of the table names"):
            load({name: torch.zeros(4)}, GPT2)


def test_numbers_that_a_row_names_and_stars_that_a_file_names_stand_for_themselves():
    table: Table = {"h.*.up": "blocks.*.up", "h.7.gate": "gate", "layers.{0,1}": "{first,second}"}
    state = {f"h.{i}.up.weight": torch.tensor(i) for i in (0, 7, 31)} | {"h.7.gate.weight": torch.tensor(-1)}
    ours = load(state | {"layers.0.bias": torch.tensor(-2), "layers.1.bias": torch.tensor(-3)}, table)
    found = {name: tensor.item() for name, tensor in ours.items()}
    assert found == {"blocks.0.up.weight": 0, "blocks.7.up.weight": 7, "blocks.31.up.weight": 31,
                     "gate.weight": -1, "first.bias": -2, "second.bias": -3}  # fmt: skip
    for name in ("h.*.up.weight", "h.8.gate.weight"):
        with pytest.raises(ValueError, match="no row of the table names"):
            load(state | {name: torch.zeros(1)}, table)
    stars = {"h.0.up.weight": torch.zeros(1), "h.*.up.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"no row of the table names 'h\.\*\.up"):
        load(stars, {"h.*.up": "blocks.*.up"})


def test_a_name_that_two_rows_name_is_refused():
    table: Table = {"h.*.ln": "a.*", "h.0.ln": "b"}
    assert set(load({"h.1.ln.weight": torch.zeros(1)}, table)) == {"a.1.weight"}
    with pytest.raises(ValueError, match=r"named by 2 rows of the table, not one: 'h\.0\.ln', 'h\.\*\.ln'"):
        load({"h.0.ln.weight": torch.zeros(1)}, table)
    with pytest.raises(ValueError, match="named by 2 rows"):
        save({"a.weight": torch.zeros(1)}, {"x": "a", "y": "a"})


def test_missing_parts_are_named():
    ours = dict(load(gpt2_file(), GPT2))
    del ours["blocks.0.attention.key.weight"]
    with pytest.raises(
        ValueError, match=r"c_attn\.weight' is made of .*, but blocks\.0\.attention\.key\.weight is missing"
    ):
        save(ours, GPT2)


def test_rows_that_do_not_split_are_refused():
    theirs = gpt2_file() | {"transformer.h.1.attn.c_attn.bias": torch.zeros(13)}
    with pytest.raises(ValueError, match=r"h\.1\.attn\.c_attn\.bias' has 13 rows, which do not split into the 3 parts"):
        dict(load(theirs, GPT2))


def test_unequal_parts_need_sizes_in_both_directions():
    fused = {"qkv.weight": torch.randn(8, 3)}
    table: Table = {"qkv": Split("{q,k,v}", sizes=(4, 2, 2))}
    ours = dict(load(fused, table))
    assert [tensor.shape[0] for tensor in ours.values()] == [4, 2, 2]
    assert_equal(dict(save(ours, table)), fused)
    with pytest.raises(ValueError, match=r"have \(4, 2, 2\) rows, which row 'qkv' could not split again"):
        dict(save(ours, {"qkv": Split("{q,k,v}")}))


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"a.{b,c}": "x.{b,c,d}"}, "2 names of theirs, 3 of ours"),
        ({"a.*": "b"}, r"'b' has 0 '\*'"),
        ({"a": "b.*"}, r"'b\.\*' has 1 '\*'"),
        ({"layer*.a": "b.*"}, "a whole part between dots"),
        ({"{a,b}": Split("{q,k}")}, "one name of theirs to several of ours"),
        ({"a": Split("q")}, "one name of theirs to several of ours"),
        ({"a": Split("{q,k}", sizes=(1, 2, 3))}, "one name of theirs to several of ours"),
    ],
)
def test_tables_with_sides_that_do_not_fit_are_refused(table: Table, fault: str):
    with pytest.raises(ValueError, match=fault):
        rows(table)


def test_the_table_reads_one_tensor_at_a_time_and_each_once():
    reads: list[str] = []

    class Counting(dict):
        def __getitem__(self, name: str) -> Tensor:
            reads.append(name)
            return super().__getitem__(name)

    theirs = Counting(gpt2_file())
    translation = load(theirs, GPT2)
    assert not reads, "names are settled without reading"
    dict(translation)
    assert sorted(reads) == sorted(theirs)
    first = dict(translation)["blocks.0.attention.key.weight"]
    assert torch.equal(translation["blocks.0.attention.key.weight"], first), "any order will do"


def test_a_tensor_is_let_go_before_the_next_is_read():
    """What the model does not keep must not stay: a whole fused weight, or its parts, beside the next one."""
    alive: list[weakref.ref[Tensor]] = []

    class Fresh(dict):
        def __getitem__(self, name: str) -> Tensor:
            assert not any(reference() is not None for reference in alive), f"one is still held while {name} is read"
            tensor = super().__getitem__(name).clone()
            alive.append(weakref.ref(tensor))
            return tensor

    table: Table = {"fused.*": Split("{q,k}.*"), "plain.*": "p.*"}
    state = Fresh({f"{kind}.{i}.weight": torch.zeros(2, 2) for i in range(2) for kind in ("plain", "fused")})
    translation = load(state, table)
    for name in translation:
        alive.extend([weakref.ref(translation[name])])
    alive.clear()
    for name in ("q.0.weight", "q.1.weight", "p.0.weight", "k.1.weight"):  # parts left over are let go too
        alive.append(weakref.ref(translation[name]))
        assert translation._held[1] == () or name.startswith("q")
    assert translation._held == (None, ())


names = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "eps"]), min_size=1, max_size=3, unique=True)


@st.composite
def tables_and_states(draw: st.DrawFn) -> tuple[Table, dict[str, Tensor]]:
    """A table of random rows (their names under `theirs.N`, so that no two rows name one key) and a file for it."""
    table: dict[str, str | Split | Transpose | Tied | None] = {}
    state: dict[str, Tensor] = {}
    for n in range(draw(st.integers(1, 4))):
        parts = draw(names)
        braces, star = "{" + ",".join(parts) + "}", draw(st.booleans())
        prefix = draw(st.sampled_from(["", "[pre.]"]))
        middle = ".*" if star else ""
        kind = draw(st.sampled_from(["plain", "transpose", "split", "drop"]))
        ours = f"ours{n}{middle}.{braces}"
        if kind == "split" and len(parts) > 1:
            table[f"{prefix}theirs{n}{middle}.fused"] = Split(ours, transpose=draw(st.booleans()))
            leaves = ["fused"]
        else:
            rule = {"plain": ours, "transpose": Transpose(ours), "drop": DROP, "split": ours}[kind]
            table[f"{prefix}theirs{n}{middle}.{braces}"] = rule
            leaves = parts
        for index in draw(st.lists(st.integers(0, 30), min_size=1, max_size=3, unique=True)) if star else [None]:
            at = "" if index is None else f".{index}"
            for leaf in leaves:
                base = f"{prefix.strip('[]')}theirs{n}{at}.{leaf}"
                rows, columns = 2 * len(parts), draw(st.sampled_from([1, 2])) * len(parts)
                state[f"{base}.weight"] = torch.randn(rows, columns)
                if draw(st.booleans()):
                    state[f"{base}.bias"] = torch.randn(columns * len(parts))
    return table, state


@given(tables_and_states())
def test_any_file_survives_the_way_to_ours_and_back(case: tuple[Table, dict[str, Tensor]]):
    table, theirs = case
    kept = {}
    for row in rows(table):
        pattern = row.theirs.replace("[", "").replace("]", "").split("*")
        kept |= {n: t for n, t in theirs.items() if row.ours and n.startswith(pattern[0]) and pattern[-1] in n}
    ours = dict(load(theirs, table))
    assert sum(t.numel() for t in ours.values()) == sum(t.numel() for t in kept.values())
    assert_equal(dict(save(ours, table)), kept)


def test_a_large_model_costs_its_names_not_names_times_rows():
    table: Table = {f"part{i}.*.x": f"ours{i}.*" for i in range(200)}
    state = {f"part{i}.{n}.x.weight": torch.empty(1, device="meta") for i in range(200) for n in range(20)}
    calls = 0

    from glassformer.checkpoints import table as module

    walk = module.Node.walk

    def counted(self, parts):
        nonlocal calls
        calls += 1
        return walk(self, parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Node, "walk", counted)
        assert len(load(state, table)) == len(state)
    assert calls < 20 * len(state)
