"""Folders of weights: whole or in shards, and no contradiction goes unsaid."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from glassformer.checkpoints.folders import INDEX, SINGLE, TensorFolder, read_json, shards, write_folder


def state() -> dict[str, torch.Tensor]:
    return {f"layer.{i}.weight": torch.full((4, 2), float(i)) for i in range(5)}


def write(folder, limit: int = 10**9, digests: bool = False) -> None:
    write_folder(folder, state(), state(), max_shard_bytes=limit, digests=digests)


def test_shards_hold_what_one_file_holds(tmp_path):
    for limit, count in ((10**9, 1), (64, 3), (32, 5), (1, 5)):
        folder = tmp_path / str(limit)
        folder.mkdir()
        write(folder, limit, digests=True)
        assert len(list(folder.glob("*.safetensors"))) == count
        found = TensorFolder(folder)
        assert {name: tensor.tolist() for name, tensor in found.items()} == {n: t.tolist() for n, t in state().items()}
        assert found.meta().keys() == state().keys()


def test_the_index_is_hugging_faces(tmp_path):
    write(tmp_path, 64)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": 5 * 32, "total_parameters": 40}
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], state()[name])
    assert sorted(set(index["weight_map"].values())) == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 60))
def test_shards_keep_the_order_and_the_limit(sizes, limit):
    like = {f"x{i}": torch.empty(size, device="meta") for i, size in enumerate(sizes)}
    parts = shards(like, limit)
    assert [name for part in parts for name in part] == list(like)
    for part in parts:
        assert len(part) == 1 or sum(like[name].nbytes for name in part) <= limit
    with pytest.raises(ValueError, match="max_shard_bytes=0"):
        shards(like, 0)


def test_a_tensor_in_two_shards_or_in_the_wrong_one_is_refused(tmp_path):
    write(tmp_path, 64)
    first = tmp_path / "model-00001-of-00003.safetensors"
    save_file(load_file(first) | {"layer.4.weight": torch.zeros(4, 2)}, first)
    with pytest.raises(
        ValueError, match=r"00001-of-00003.*holds the tensor 'layer\.4\.weight', which .* is in model-00003"
    ):
        TensorFolder(tmp_path)


def test_an_index_and_shards_that_disagree_are_refused(tmp_path):
    write(tmp_path, 64)
    index, first = tmp_path / INDEX, tmp_path / "model-00001-of-00003.safetensors"
    good = index.read_text()
    weights = load_file(first)

    save_file(weights | {"extra": torch.zeros(1)}, first)
    with pytest.raises(ValueError, match=r"holds the tensor 'extra', which .* does not name"):
        TensorFolder(tmp_path)
    save_file({"layer.0.weight": weights["layer.0.weight"]}, first)
    with pytest.raises(ValueError, match=r"says that model-00001-of-00003.safetensors holds 'layer\.1\.weight'"):
        TensorFolder(tmp_path)
    first.unlink()
    with pytest.raises(ValueError, match=r"names 3 files, of which 'model-00001-of-00003\.safetensors' is missing"):
        TensorFolder(tmp_path)

    for text, fault in (
        (good.replace("model-00001", "../model-00001"), "only files of its own folder"),
        (good.replace("model-00001", "/etc/model-00001"), "only files of its own folder"),
        (good.replace('"layer.1.weight"', '"layer.0.weight"'), r"the name 'layer\.0\.weight' twice"),
        (good[:-20], "not valid JSON"),
        ("[]", "holds a list"),
        ("{}", "must have a weight_map"),
        ('{"weight_map": {"a": 3}}', "must have a weight_map"),
    ):
        index.write_text(text)
        with pytest.raises(ValueError, match=fault):
            TensorFolder(tmp_path)


def test_two_saves_in_one_folder_are_refused(tmp_path):
    write(tmp_path, 64)
    write(tmp_path)
    with pytest.raises(ValueError, match=f"holds both {SINGLE} and {INDEX}"):
        TensorFolder(tmp_path)


def test_pickles_are_not_opened_and_the_way_out_is_said(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin, a pickle, .*AutoModel.*save_pretrained"):
        TensorFolder(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["BertForMaskedLM"]}')  # whose head AutoModel leaves out
    with pytest.raises(ValueError, match=r"pytorch_model\.bin, a pickle, .*: BertForMaskedLM\.from_pretrained"):
        TensorFolder(tmp_path)


def test_a_folder_without_weights_says_what_it_holds(tmp_path):
    with pytest.raises(ValueError, match="it holds nothing"):
        TensorFolder(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"no weights: .*it holds notes\.txt"):
        TensorFolder(tmp_path)


def test_json_with_a_name_twice_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"n_embd": 8, "n_embd": 16}')
    with pytest.raises(ValueError, match="the name 'n_embd' twice"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(b"\xff\x00")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_json(tmp_path / "x.json")
