"""WordPiece: cleaning, the longest piece first, and `tokenizers` on the same vocabulary."""

import json
import unicodedata
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.text.corpus import load_corpus
from glassformer.text.tokenizer_json import read_tokenizer_json
from glassformer.text.wordpiece import WordPieceTokenizer, learn_pieces

tokenizers = pytest.importorskip("tokenizers")

NASTY = "aéE\u0301İſß ΣςὈΔ\t\n\r\x0b\x85\xa0\u200b\ufffd.,'-$^_¿漢字かカ한\u1100\u1161▁ﬁ\u0323\u0307#"
PARTS = [
    "[CLS]",
    "[MASK]",
    " the",
    "Café",
    "naïve",
    "don't",
    "==",
    " ",
    "x" * 100,
    "y" * 101,
    "漢字",
    "🙂",
    "##ing",
    "FUNCTIONS",
]


def old(character: str) -> bool:
    """Whether both Unicode databases know it: theirs of marks and punctuation is of version 8."""
    return ord(character) < 0x250 or unicodedata.category(character)[0] not in "PM" or character in NASTY


texts = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cn")).filter(old)),
    st.text(NASTY, max_size=40),
    st.lists(st.sampled_from(PARTS)).map("".join),
)


@cache
def trained(lowercase: bool = True) -> WordPieceTokenizer:
    text = load_corpus("python-docs").train[:60_000] + "Café déjà 漢字 кириллица ﬁ"
    return WordPieceTokenizer.train(text, 700, lowercase=lowercase)


@cache
def variants() -> list:
    """(ours, theirs on the same file), for each way to clean."""
    vocabulary = trained(lowercase=False).vocabulary
    ways = [
        WordPieceTokenizer(vocabulary, lowercase=lowercase, strip_accents=strip, space_ideographs=space)
        for lowercase in (True, False)
        for strip in (None, True, False)
        for space in (True, False)
    ]
    return [(ours, tokenizers.Tokenizer.from_str(ours.to_json())) for ours in [trained(), *ways]]


@settings(deadline=None, max_examples=400)
@given(text=texts, allow_special=st.booleans(), way=st.integers(0, 12))
def test_ids_offsets_and_decoded_text_equal_those_of_tokenizers(text, allow_special, way):
    ours, theirs = variants()[way]
    theirs.encode_special_tokens = not allow_special
    expected = theirs.encode(text, add_special_tokens=False)
    ids, spans = ours.encode_with_offsets(text, allow_special=allow_special)
    assert ids == expected.ids
    assert spans == expected.offsets
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@settings(deadline=None, max_examples=100)
@given(texts, texts)
def test_what_stands_around_texts_and_their_token_types_equal_those_of_tokenizers(first, second):
    ours, theirs = variants()[0]
    theirs.encode_special_tokens = True
    assert ours.encode(first, special=True) == theirs.encode(first).ids
    pair = theirs.encode(first, second)
    assert ours.encode_pair(first, second) == (pair.ids, pair.type_ids)


def test_every_block_of_chinese_characters_is_cut_apart_as_tokenizers_does_up_to_its_edges():
    edges = [0x3400, 0x4DBF, 0x4E00, 0x9FFF, 0xF900, 0xFAFF, 0x20000, 0x2A6DF, 0x2A700, 0x2B73F, 0x2B740, 0x2B81F]
    edges += [0x2B920, 0x2CEAF, 0x2F800, 0x2FA1F, 0x3040, 0xAC00, 0xD7A3, 0x30000]
    text = " ".join(f"a{chr(code + step)}b" for code in edges for step in (-1, 0, 1))
    for ours, theirs in variants():
        expected = theirs.encode(text, add_special_tokens=False)
        assert ours.encode_with_offsets(text) == (expected.ids, expected.offsets)


def test_the_longest_piece_that_is_known_is_taken_first_and_a_word_is_known_whole_or_not_at_all():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = ["un", "una", "##ff", "##ffa", "##able", "##ble", "a", "-"]
    tokenizer = WordPieceTokenizer({token: index for index, token in enumerate([*special, *pieces])})
    names = [tokenizer.tokens[index] for index in tokenizer.encode("unffable UNAFFAB a-una ffa")]
    assert names == ["un", "##ffa", "##ble", "[UNK]", "a", "-", "una", "[UNK]"]


def test_offsets_point_into_the_text_as_it_was_given():
    text = "  Café\u0301 DÉJÀ\tvu, [MASK]漢字"
    ids, spans = trained().encode_with_offsets(text, allow_special=True, special=True)
    assert spans[0] == spans[-1] == (0, 0)
    assert len(ids) == len(spans)
    marks = ["".join(text[start:end]) for start, end in spans if text[start:end] in (",", "[MASK]", "漢", "字")]
    assert marks == [",", "[MASK]", "漢", "字"]
    inside = spans[1:-1]
    assert all(before[1] <= after[0] for before, after in pairwise(inside))


def test_streamed_pieces_joined_equal_the_decoded_text():
    ids = trained().encode("The functions' return-values: naïve, [x] isn't it?")
    stream = trained().stream()
    assert "".join([stream.push(index) for index in ids]) + stream.finish() == trained().decode(ids)


def merged_one_by_one(words: Counter, vocab_size: int) -> set[str]:
    """Sennrich et al.'s algorithm 1: count all pairs anew before each merge."""
    rows = {word: [word[0], *("##" + character for character in word[1:])] for word in words}
    tokens = {symbol for row in rows.values() for symbol in row} | set("".join(words))
    while len(tokens) < vocab_size:
        counts = Counter()
        for word, row in rows.items():
            for pair in pairwise(row):
                counts[pair] += words[word]
        best = counts.most_common(2)
        if not best or best[0][1] < 2 or (len(best) > 1 and best[1][1] == best[0][1]):  # a tie: either may come first
            break
        pair = best[0][0]
        new = pair[0] + pair[1].removeprefix("##")
        tokens.add(new)
        for row in rows.values():
            place = 0
            while place < len(row) - 1:
                if tuple(row[place : place + 2]) == pair:
                    row[place : place + 2] = [new]
                place += 1
    return tokens


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=6), st.integers(1, 50), min_size=1, max_size=8))
def test_the_pieces_that_are_learned_are_those_of_counting_all_pairs_again(words):
    slow = merged_one_by_one(Counter(words), 15)
    assert set(learn_pieces(words, len(slow))) == slow


def test_their_trainer_and_ours_learn_the_same_pieces_but_for_ties():
    text = load_corpus("python-docs").train[:60_000]
    theirs = tokenizers.BertWordPieceTokenizer(lowercase=True)
    theirs.train_from_iterator([text], vocab_size=800, min_frequency=2, show_progress=False)
    other = set(WordPieceTokenizer.train(text, 800).vocabulary) ^ set(theirs.get_vocab())
    assert len(other) <= 16, other


def test_special_tokens_come_first_and_rare_characters_are_left_out():
    tokenizer = WordPieceTokenizer.train("aab aab aab b z", 11, special_tokens=["<x>"], max_characters=2)
    assert [tokenizer.tokens[index] for index in range(6)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<x>"]
    assert tokenizer.special == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert tokenizer.encode("z") == [1]
    assert tokenizer.vocab_size == 11
    with pytest.raises(ValueError, match="room for 1 pieces beside the special tokens, but the text has 3"):
        WordPieceTokenizer.train("ab", 6)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("normalizer", "clean_text"), False, "normalizer.clean_text = false"),
        (("normalizer",), {"type": "NFC"}, 'normalizer.type = "NFC"'),
        (("pre_tokenizer",), {"type": "Whitespace"}, "pre_tokenizer.type"),
        (("model", "continuing_subword_prefix"), "@@", "model.continuing_subword_prefix"),
        (("model", "max_input_chars_per_word"), 50, "model.max_input_chars_per_word = 50"),
        (("model", "unk_token"), "[NIX]", "model.unk_token"),
        (("added_tokens", 0, "lstrip"), True, "added_tokens.lstrip"),
        (("truncation",), {"max_length": 8}, "truncation"),
        (("model", "vocab", "the"), -1, "token 'the' has the id -1"),
        (("model", "vocab", "the"), 0, "share"),
        (("model", "vocab"), {"a": 0}, "lacks '[UNK]'"),
        (("post_processor",), {"type": "Novelty"}, "the post_processor 'Novelty' is not implemented"),
    ],
)
def test_a_file_that_asks_for_something_else_is_refused_by_name(tmp_path, path, value, named):
    content = json.loads(trained().to_json())
    part = content
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"tokenizer\.json: ") as caught:
        read_tokenizer_json(tmp_path / "tokenizer.json")
    assert named in str(caught.value)


def test_a_file_written_and_read_is_the_same_tokenizer(tmp_path):
    trained().save(tmp_path)
    again = read_tokenizer_json(tmp_path / "tokenizer.json")
    assert isinstance(again, WordPieceTokenizer)
    assert again.to_json() == trained().to_json()
