"""One token per character, one token per byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.text import ByteTokenizer, CharacterTokenizer


@given(st.text(min_size=1))
def test_a_character_tokenizer_gives_back_the_text_it_was_made_for(text):
    tokenizer = CharacterTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert max(ids) < tokenizer.vocab_size == len(set(text))
    assert tokenizer.decode(ids) == text


@given(st.text())
def test_a_byte_tokenizer_gives_back_any_text(text):
    tokenizer = ByteTokenizer()
    assert tokenizer.encode(text) == list(text.encode())
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.integers(0, 255)))
def test_streamed_bytes_joined_equal_decode(ids):
    stream = ByteTokenizer().stream()
    assert "".join([stream.push(index) for index in ids]) + stream.finish() == bytes(ids).decode(errors="replace")


def test_an_unknown_character_is_named_with_its_place_in_the_whole_text():
    tokenizer = CharacterTokenizer.train("abc", special_tokens=["<|endoftext|>"])
    with pytest.raises(ValueError, match=r"character 'é' \(U\+00E9\) at position 2 is not among the 3 characters"):
        tokenizer.encode("abé")
    with pytest.raises(ValueError, match="at position 15 "):
        tokenizer.encode("a<|endoftext|>bé", allow_special=True)


def test_special_tokens_come_after_the_others():
    characters = CharacterTokenizer.train("ba", special_tokens=["<|endoftext|>"])
    assert characters.encode("ab") == [0, 1]
    assert characters.end_of_text == 2
    assert characters.vocab_size == 3
    assert characters.encode("a<|endoftext|>", allow_special=True) == [0, 2]
    assert characters.decode([0, 2]) == "a<|endoftext|>"
    assert characters.token_to_id("b") == 1
    assert ByteTokenizer(special_tokens=["<|endoftext|>"]).end_of_text == 256
    assert ByteTokenizer().end_of_text is None


def test_impossible_alphabets_are_refused():
    with pytest.raises(ValueError, match="at least one character"):
        CharacterTokenizer("")
    with pytest.raises(ValueError, match="'a' is given 2 times"):
        CharacterTokenizer("aba")


def test_the_fingerprint_tells_tokenizers_apart():
    assert CharacterTokenizer("ab").fingerprint == CharacterTokenizer("ab").fingerprint
    assert CharacterTokenizer("ab").fingerprint != CharacterTokenizer("ba").fingerprint
    assert ByteTokenizer().fingerprint != ByteTokenizer(special_tokens=["<|endoftext|>"]).fingerprint


def test_ids_may_be_a_list_of_tensors() -> None:
    import torch

    tokenizer = CharacterTokenizer.train("hello")
    assert tokenizer.decode(list(torch.tensor(tokenizer.encode("hello")))) == "hello"
