"""Byte-pair encoding: trained, exact, streamed."""

from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.text.bpe import BPETokenizer, apply_rules, apply_rules_to_long, join, learn_merges
from glassformer.text.corpus import load_corpus

runs = st.text(alphabet="ab- \n'é漢🙂", max_size=60)


@cache
def trained() -> BPETokenizer:
    return BPETokenizer.train(load_corpus("python-docs").train[:60_000], 700)


def merges_by_counting_all_again(text_words: Counter[str], merges: int) -> list[tuple[bytes, bytes]]:
    """Algorithm 1 of Sennrich et al. with nothing incremental; ties go to the smaller ids."""
    start, _ = learn_merges({}, 256)
    vocabulary, learned = dict(start), []
    words = {word: [vocabulary[bytes([byte])] for byte in word.encode()] for word in text_words}
    while len(learned) < merges:
        counts = Counter()
        for word, symbols in words.items():
            for pair in pairwise(symbols):
                counts[pair] += text_words[word]
        pair, count = min(counts.items(), key=lambda item: (-item[1], item[0]), default=(None, 0))
        if count < 2:
            break
        tokens = {index: token for token, index in vocabulary.items()}
        learned.append((tokens[pair[0]], tokens[pair[1]]))
        new = vocabulary[b"".join(learned[-1])] = len(vocabulary)
        words = {word: join(symbols, pair, new) for word, symbols in words.items()}
    return learned


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text("abc-", min_size=1, max_size=12), st.integers(1, 5), max_size=12))
def test_incremental_training_finds_the_merges_of_counting_all_pairs_again(words):
    vocabulary, merges = learn_merges(words, 290)
    assert merges == merges_by_counting_all_again(Counter(words), len(merges) + (len(vocabulary) < 290))


def test_the_most_frequent_pair_is_merged_first():
    tokenizer = BPETokenizer.train("low low low lower lower newest", 259, special_tokens=[])
    assert tokenizer.merges == [(b"l", b"o"), (b"lo", b"w"), (b" ", b"low")]


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(), runs))
def test_any_text_comes_back_exactly(text):
    assert trained().decode(trained().encode(text)) == text


def test_the_heap_for_long_words_equals_the_plain_loop():
    for seed in range(400):
        random = np.random.default_rng(seed)
        # many rules, several of which make the same token, as other people's files may have it
        pairs = {(int(left), int(right)) for left, right in random.integers(0, 9, (50, 2))}
        rules = {pair: (rank, 3 + rank % 6) for rank, pair in enumerate(pairs)}
        symbols = random.integers(0, 3, random.integers(80)).tolist()
        assert apply_rules_to_long(symbols, rules) == apply_rules(symbols, rules)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text("ab", min_size=1, max_size=40), st.integers(1, 5), max_size=5))
def test_no_two_merges_make_the_same_token(words):
    vocabulary, merges = learn_merges(words, 300, min_count=1)
    assert len({left + right for left, right in merges}) == len(merges) == len(vocabulary) - 256


def test_a_word_of_a_hundred_thousand_letters_is_encoded_in_seconds():
    text = "ab" * 50_000
    assert trained().decode(trained().encode(text)) == text


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 699), max_size=40))
def test_streamed_pieces_joined_equal_decode_even_where_ids_are_not_utf8(ids):
    stream = trained().stream()
    pieces = [stream.push(index) for index in ids]
    assert "".join(pieces) + stream.finish() == trained().decode(ids)


def test_streaming_emits_a_character_only_when_its_last_byte_has_come():
    tokenizer = BPETokenizer.train("", 257)
    stream = tokenizer.stream()
    assert [stream.push(index) for index in tokenizer.encode("a🙂")] == ["a", "", "", "", "🙂"]
    stream.push(tokenizer.encode("é")[0])
    assert stream.finish() == "\N{REPLACEMENT CHARACTER}"


def test_special_tokens_have_the_last_ids_and_are_found_only_where_allowed():
    tokenizer = trained()
    assert tokenizer.vocab_size == 700
    assert tokenizer.end_of_text == tokenizer.token_to_id("<|endoftext|>") == 699
    assert tokenizer.encode("a<|endoftext|>b", allow_special=True)[1:-1] == [699]
    plain = tokenizer.encode("a<|endoftext|>b")
    assert 699 not in plain
    assert tokenizer.decode(plain) == tokenizer.decode(tokenizer.encode("a<|endoftext|>b", allow_special=True))


def test_the_longest_of_the_added_tokens_that_begin_together_is_meant():
    start = {bytes([byte]): byte for byte in range(256)}
    tokenizer = BPETokenizer(start, [], added_tokens={"<a>": 256, "<a><b>": 257, "<c>": 258}, special_tokens=["<c>"])
    assert tokenizer.encode("<a><b><a>") == [257, 256]
    assert tokenizer.encode("<c>", allow_special=False) == list(b"<c>")


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor, iter])
def test_decode_takes_lists_arrays_and_tensors(make):
    assert trained().decode(make(trained().encode("the list"))) == "the list"


@pytest.mark.parametrize("wrong", [-1, 700, 10**9])
def test_an_id_outside_the_vocabulary_is_named(wrong):
    with pytest.raises(ValueError, match=rf"token id {wrong} is outside the vocabulary: ids go from 0 to 699"):
        trained().decode([1, wrong])
    with pytest.raises(ValueError, match=rf"token id {wrong} is outside"):
        trained().stream().push(wrong)


def test_wrong_kinds_of_argument_are_named():
    with pytest.raises(TypeError, match="takes text"):
        trained().encode(b"bytes")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"one sequence of integer ids, but its first item is \[1, 2\]"):
        trained().decode(torch.tensor([[1, 2]]))
    with pytest.raises(TypeError, match="sequence of token ids"):
        trained().decode(7)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="list of names"):
        BPETokenizer.train("text", 300, special_tokens="<|endoftext|>")
    with pytest.raises(KeyError, match="not one token"):
        trained().token_to_id("not one token of this")


def test_half_a_character_is_named_with_its_place():
    with pytest.raises(ValueError, match=r"U\+D83D, at position 2,"):
        trained().encode("ab\ud83d")


def test_impossible_vocabularies_are_refused():
    with pytest.raises(ValueError, match="vocab_size=256 has no room for 256 bytes and 1 special"):
        BPETokenizer.train("text", 256)
    start = {bytes([byte]): byte for byte in range(256)}
    with pytest.raises(ValueError, match="lacks the single byte 0x00"):
        BPETokenizer({b"a": 0}, [])
    with pytest.raises(ValueError, match=r"merge of b'a' and b'b' needs b'ab'"):
        BPETokenizer(start, [(b"a", b"b")])
    with pytest.raises(ValueError, match="share 256 ids"):
        BPETokenizer({**start, b"ab": 7}, [])
    with pytest.raises(ValueError, match="id 7, which is already taken"):
        BPETokenizer(start, [], added_tokens={"<x>": 7})


def test_training_stops_where_no_pair_is_left():
    tokenizer = BPETokenizer.train("aaaa aaaa", 5000)
    assert tokenizer.vocab_size < 300
    assert len(tokenizer.encode("aaaa")) == 1
