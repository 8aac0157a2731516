"""Token files: written whole or not at all, mapped, and refused when damaged."""

import errno
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.foundation.atomic import cache_folder
from glassformer.text import ByteTokenizer, CharacterTokenizer, TokenFile, cached_tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokens")


@settings(deadline=None, max_examples=40)
@given(ids=st.lists(st.integers(0, 70_000)), room=st.integers(1, 2**20))
def test_ids_come_back_in_the_smallest_type_for_the_vocabulary(folder, ids, room):
    vocab_size = max(ids, default=0) + room
    written = TokenFile.write(folder / "any.tokens", ids, vocab_size=vocab_size, tokenizer="a print")
    for file in (written, TokenFile.open(folder / "any.tokens")):
        assert file.tokens.tolist() == ids
        assert len(file) == len(ids)
        assert file.tokens.dtype == (np.uint16 if vocab_size <= 65_536 else np.uint32)
        assert (file.vocab_size, file.tokenizer) == (vocab_size, "a print")


def test_tokens_are_mapped_not_read(folder):
    file = TokenFile.write(folder / "mapped.tokens", range(1000), vocab_size=1000)
    assert isinstance(file.tokens, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        file.tokens[0] = 1


def test_the_header_is_one_line_of_json(folder):
    TokenFile.write(folder / "header.tokens", [1, 2, 3], vocab_size=10)
    line, _ = (folder / "header.tokens").read_bytes().split(b"\n", 1)
    assert len(line) == 511
    assert json.loads(line)["count"] == 3


@pytest.mark.parametrize("kept", [0, 1, 100, 511, 512, 513, 2511])
def test_a_truncated_file_is_refused_by_name(folder, kept):
    path = folder / "truncated.tokens"
    TokenFile.write(path, range(1000), vocab_size=1000)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"truncated\.tokens is"):
        TokenFile.open(path)


def test_a_file_that_is_too_long_is_refused_by_name(folder):
    path = folder / "long.tokens"
    TokenFile.write(path, range(1000), vocab_size=1000)
    path.write_bytes(path.read_bytes() + b"\0\0")
    with pytest.raises(ValueError, match=r"long\.tokens is damaged: 2514 bytes long, but 1000 tokens take 2512"):
        TokenFile.open(path)


def test_a_file_with_any_one_bit_flipped_is_refused_by_name(folder):
    path = folder / "flipped.tokens"
    TokenFile.write(path, range(20), vocab_size=1000, tokenizer="print")
    content = path.read_bytes()
    for place in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"flipped\.tokens is"):
            TokenFile.open(path)


def test_another_file_is_no_token_file(folder):
    for content in (b"[]", b"{}", b"some text", b"\xff\xfe", b'{"format": "glassformer-tokens-1"}'):
        (folder / "other.txt").write_bytes(content)
        with pytest.raises(ValueError, match=r"other\.txt is not a token file"):
            TokenFile.open(folder / "other.txt")


def test_what_cannot_be_token_ids_is_refused(folder):
    with pytest.raises(ValueError, match="ids from 0 to 10 do not fit a vocabulary of 10"):
        TokenFile.write(folder / "no", [0, 10], vocab_size=10)
    with pytest.raises(ValueError, match="ids from -1 to 1 do not fit"):
        TokenFile.write(folder / "no", [-1, 1], vocab_size=10)
    with pytest.raises(ValueError, match=r"one row, not an array of shape \(1, 2\)"):
        TokenFile.write(folder / "no", [[0, 1]], vocab_size=10)
    with pytest.raises(TypeError, match="must be integers, not float64"):
        TokenFile.write(folder / "no", [0.5], vocab_size=10)
    with pytest.raises(ValueError, match="is too long for a header"):
        TokenFile.write(folder / "no", [0], vocab_size=10, tokenizer="x" * 400)
    with pytest.raises(ValueError, match="vocab_size=0 is not a size"):
        TokenFile.write(folder / "no", [], vocab_size=0)
    assert not (folder / "no").exists()


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "kept.tokens"
    TokenFile.write(path, [1, 2, 3], vocab_size=10)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"the disk is full: .*kept\.tokens was not written"):
        TokenFile.write(path, [4, 5, 6], vocab_size=10)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class _Counting(ByteTokenizer):
    calls = 0

    def _encode_ordinary(self, text, position):
        type(self).calls += 1
        return super()._encode_ordinary(text, position)


def test_a_text_is_encoded_once_for_each_tokenizer(tmp_path):
    _Counting.calls = 0
    text = "some text, äöü"
    first = cached_tokens(text, _Counting(), folder=tmp_path)
    again = cached_tokens(text, _Counting(), folder=tmp_path)
    assert _Counting.calls == 1
    assert first.path == again.path
    assert again.tokens.tolist() == list(text.encode())
    assert again.tokenizer == ByteTokenizer().fingerprint
    others = [cached_tokens(text + ".", _Counting(), folder=tmp_path)]
    others.append(cached_tokens(text, CharacterTokenizer.train(text), folder=tmp_path))
    assert len({first.path, *(other.path for other in others)}) == 3


def test_a_damaged_file_in_the_cache_is_named_and_made_anew(tmp_path):
    path = cached_tokens("some text", ByteTokenizer(), folder=tmp_path).path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged.* encoded again"):
        file = cached_tokens("some text", ByteTokenizer(), folder=tmp_path)
    assert file.tokens.tolist() == list(b"some text")


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    assert cached_tokens("text", ByteTokenizer()).path.parent == cache_folder() / "tokens"
    monkeypatch.delenv("GLASSFORMER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "glassformer"
    assert cached_tokens("text", ByteTokenizer()).path.parent == tmp_path / "glassformer" / "tokens"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "glassformer"
