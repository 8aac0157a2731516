"""Tokenizers by name, and from folders."""

import json
import sys

import pytest

from glassformer.text import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    FastTokenizer,
    load_tokenizer,
    train_tokenizer,
)

TEXT = "the cat sat on the mat: äöü 漢字 " * 20


@pytest.mark.parametrize(
    ("name", "vocab_size"), [("characters", None), ("bytes", None), ("bpe", 300), ("wordpiece", 60), ("unigram", 40)]
)
def test_a_saved_tokenizer_is_loaded_equal(tmp_path, name, vocab_size):
    tokenizer = train_tokenizer(name, TEXT, vocab_size=vocab_size)
    path = tokenizer.save(tmp_path / "new" / "folder")
    assert {entry.name for entry in path.parent.iterdir()} - {"tokenizer_config.json"} == {path.name}
    again = load_tokenizer(path.parent, fast=False)
    assert type(again) is type(tokenizer)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.parametrize(
    "tokenizer", [CharacterTokenizer("ab\n\u2028é", special_tokens=["<x>"]), ByteTokenizer(special_tokens=["<x>"])]
)
def test_special_tokens_are_saved(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).special_tokens == tokenizer.special_tokens


def test_a_tokenizer_json_is_run_by_tokenizers_where_installed_else_by_ours(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    BPETokenizer.train(TEXT, 300).save(tmp_path)
    assert isinstance(load_tokenizer(tmp_path), FastTokenizer)
    assert isinstance(load_tokenizer(tmp_path, fast=False), BPETokenizer)
    monkeypatch.setattr("glassformer.text.choose.find_spec", lambda name: None)
    assert isinstance(load_tokenizer(tmp_path), BPETokenizer)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match="pip install tokenizers"):
        load_tokenizer(tmp_path, fast=True)


def test_a_misspelt_name_is_answered_with_the_right_one():
    with pytest.raises(ValueError, match=r"'charcters' \(did you mean 'characters'"):
        train_tokenizer("charcters", TEXT)


def test_vocab_size_is_asked_for_where_it_means_something():
    with pytest.raises(ValueError, match="'bpe' needs a vocab_size"):
        train_tokenizer("bpe", TEXT)
    with pytest.raises(ValueError, match="vocab_size=300 has no meaning for the tokenizer 'bytes'"):
        train_tokenizer("bytes", TEXT, vocab_size=300)


def test_folders_without_a_tokenizer_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_two_tokenizers_in_one_folder_are_refused_at_saving_and_at_loading(tmp_path):
    ByteTokenizer().save(tmp_path)
    with pytest.raises(FileExistsError, match=r"glassformer_tokenizer\.json: remove it first"):
        BPETokenizer.train(TEXT, 300).save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="holds two tokenizers"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "Expecting"),
        ("[]", "damaged"),
        ('{"special_tokens": []}', "'type' is missing"),
        ('{"type": "bytes"}', "'special_tokens' is missing"),
        ('{"type": "characters", "special_tokens": []}', "'characters' is missing"),
        ('{"type": "words", "special_tokens": []}', "no tokenizer is called 'words'"),
        ('{"type": "bytes", "special_tokens": [], "extra": 1}', "unknown key 'extra'"),
        ('{"type": "bytes", "special_tokens": "<x>"}', "list of names"),
    ],
)
def test_a_damaged_file_of_ours_is_named(tmp_path, content, named):
    (tmp_path / "glassformer_tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"glassformer_tokenizer\.json is damaged") as caught:
        load_tokenizer(tmp_path)
    assert named in str(caught.value)


@pytest.mark.parametrize("content", ["{", "{}", json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": [1]}})])
def test_a_damaged_tokenizer_json_is_named_by_both_readers(tmp_path, content):
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_text(content)
    for fast in (True, False):
        with pytest.raises(ValueError, match=r"tokenizer\.json"):
            load_tokenizer(tmp_path, fast=fast)
