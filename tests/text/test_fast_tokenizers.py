"""`tokenizers` and `tiktoken` behind the same face, equal to ours."""

import sys
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.text.bpe import BPETokenizer
from glassformer.text.corpus import load_corpus
from glassformer.text.fast import FastTokenizer, TiktokenTokenizer

tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("tiktoken")

texts = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cn"))),
    st.text("ab- \n'é漢🙂", max_size=120),
    st.lists(st.sampled_from(["<|endoftext|>", " the", "==", "====", "  ", "list", "é"])).map("".join),
)


@cache
def ours() -> BPETokenizer:
    return BPETokenizer.train(load_corpus("python-docs").train[:60_000], 700)


@cache
def all_three() -> list:
    fast = FastTokenizer(tokenizers.Tokenizer.from_str(ours().to_json()))
    return [ours(), fast, TiktokenTokenizer(ours())]


@settings(deadline=None, max_examples=200)
@given(texts, st.booleans())
def test_all_encode_and_decode_equally(text, allow_special):
    ids = [tokenizer.encode(text, allow_special=allow_special) for tokenizer in all_three()]
    assert ids[0] == ids[1] == ids[2]
    assert [tokenizer.decode(ids[0]) for tokenizer in all_three()] == [text] * 3


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 699), max_size=30))
def test_all_stream_and_decode_any_ids_equally(ids):
    whole = [tokenizer.decode(ids) for tokenizer in all_three()]
    assert whole[0] == whole[1] == whole[2]
    pieces = []
    for tokenizer in all_three():
        stream = tokenizer.stream()
        pieces.append([*[stream.push(index) for index in ids], stream.finish()])
    assert pieces[0] == pieces[1] == pieces[2]


def test_all_show_the_same_face():
    for tokenizer in all_three():
        assert tokenizer.vocab_size == 700
        assert tokenizer.end_of_text == 699
        assert tokenizer.special_tokens == {"<|endoftext|>": 699}
        assert tokenizer.token_to_id(" the") == ours().encode(" the")[0]
        assert tokenizer.token_to_id("<|endoftext|>") == 699
        with pytest.raises(KeyError, match="not one token"):
            tokenizer.token_to_id("no token at all")
        with pytest.raises(ValueError, match="token id 700 is outside the vocabulary"):
            tokenizer.decode([700])
        with pytest.raises(ValueError, match="half a character"):
            tokenizer.encode("\udc00")


@pytest.mark.parametrize("vocab_size", [257, 300, 1500])
def test_their_trainer_and_ours_find_the_same_merges(vocab_size):
    text = load_corpus("python-docs").train[:80_000] + "-" * 300 + "é漢" * 20
    mine, theirs = BPETokenizer.train(text, vocab_size), FastTokenizer.train(text, vocab_size)
    assert theirs.inner.get_vocab() == tokenizers.Tokenizer.from_str(mine.to_json()).get_vocab()
    assert theirs.encode(text[:5000]) == mine.encode(text[:5000])
    assert theirs.end_of_text == vocab_size - 1


@settings(deadline=None, max_examples=60)
@given(st.text("ab -", max_size=200), st.integers(257, 275))
def test_their_trainer_and_ours_agree_on_texts_full_of_repetition(text, vocab_size):
    mine, theirs = BPETokenizer.train(text, vocab_size), FastTokenizer.train(text, vocab_size)
    assert theirs.encode(text) == mine.encode(text)
    assert theirs.vocab_size == mine.vocab_size


def test_every_kind_of_tokenizer_json_streams_what_it_decodes():
    """SentencePiece style: the first space falls away, and unknown characters are bytes."""
    alphabet = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁": 256, "a": 257, "▁a": 258, "b": 259}
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(alphabet, [("▁", "a")], byte_fallback=True))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    inner.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer = FastTokenizer(inner)
    ids = tokenizer.encode("a b 漢 a🙂")
    stream = tokenizer.stream()
    pieces = [*[stream.push(index) for index in ids], stream.finish()]
    assert "".join(pieces) == tokenizer.decode(ids) == "a b 漢 a🙂"
    assert "漢" in pieces
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert tokenizer.token_to_id("▁a") == 258


def test_nothing_is_added_around_the_text_nor_cut_off():
    inner = tokenizers.Tokenizer.from_str(ours().to_json())
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 699)]
    )
    inner.enable_truncation(2)
    inner.enable_padding(length=50)
    assert FastTokenizer(inner).encode("one two three") == ours().encode("one two three")


def test_they_save_what_ours_reads(tmp_path):
    from glassformer.text import load_tokenizer

    for number, tokenizer in enumerate(all_three()):
        tokenizer.save(tmp_path / str(number))
        again = load_tokenizer(tmp_path / str(number), fast=False)
        assert again.encode("the list <|endoftext|>", allow_special=True) == ours().encode(
            "the list <|endoftext|>", allow_special=True
        )


def test_tiktoken_refuses_what_it_cannot_express():
    start, merges = dict(ours().vocabulary), ours().merges
    first, second = merges[0][0] + merges[0][1], merges[1][0] + merges[1][1]
    swapped = start | {first: start[second], second: start[first]}
    with pytest.raises(ValueError, match="order of merges"):
        TiktokenTokenizer(BPETokenizer(swapped, merges))
    with pytest.raises(ValueError, match="no added tokens but special ones"):
        TiktokenTokenizer(BPETokenizer(start, merges, added_tokens={"<x>": 9000}))


@pytest.mark.parametrize("package", ["tokenizers", "tiktoken"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        FastTokenizer.train("text", 300) if package == "tokenizers" else TiktokenTokenizer(ours())
