"""Unigram: the most probable segmentation, sampling, training, and the libraries on the same pieces."""

import io
import itertools
import json
import math
from collections import Counter
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.text.corpus import load_corpus
from glassformer.text.tokenizer_json import read_tokenizer_json
from glassformer.text.unigram import UnigramTokenizer
from glassformer.text.unigram_training import best_path, digamma, expected, learn_pieces, maximised

tokenizers = pytest.importorskip("tokenizers")

NASTY = "aéE\u0301 ΣςİſŸ\t\n\x85\x1c\xa0\u3000\u200b.,'-▁漢カﾞ한\u1100\u1161\u11a8ﬁ½²\u0323\u0307\u0310e🙂"
PARTS = ["</s>", "<unk>", "<pad>", " the", "Café", "return", "==", "▁", " ", "  ", "漢字", "🙂", "functions", "\n"]
texts = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cn"), max_codepoint=0x2FFF)),
    st.text(NASTY, max_size=40),
    st.lists(st.sampled_from(PARTS)).map("".join),
)


@cache
def trained() -> UnigramTokenizer:
    return UnigramTokenizer.train(load_corpus("python-docs").train[:60_000] + "Café déjà 漢字 ﬁ ½", 700)


@cache
def opened_by_them():
    return tokenizers.Tokenizer.from_str(trained().to_json())


@settings(deadline=None, max_examples=400)
@given(texts, st.booleans())
def test_ids_and_decoded_text_equal_those_of_tokenizers(text, allow_special):
    theirs = opened_by_them()
    theirs.encode_special_tokens = not allow_special
    ids = trained().encode(text, allow_special=allow_special, special=True)
    assert ids == theirs.encode(text).ids
    assert trained().decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("abe th.,▁ﬁ½漢🙂é\n "), max_size=60))
def test_offsets_equal_those_of_tokenizers_where_no_character_is_composed(text):
    opened_by_them().encode_special_tokens = True
    assert trained().encode_with_offsets(text)[1] == opened_by_them().encode(text, add_special_tokens=False).offsets


def test_a_composed_character_stands_for_all_that_it_is_made_of():
    ids, spans = trained().encode_with_offsets("xe\u0301 y")
    assert trained().decode(ids) == "xé y"
    assert [("xe\u0301 y")[start:end] for start, end in spans if end - start == 2] == ["e\u0301"]


def test_the_segmentation_equals_that_of_sentencepiece_on_its_own_model():
    sentencepiece = pytest.importorskip("sentencepiece")
    text, out = load_corpus("python-docs").train[:60_000], io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_writer=out, vocab_size=700, minloglevel=2,
        normalization_rule_name="nfkc",
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    pieces = [(theirs.id_to_piece(index), theirs.get_score(index)) for index in range(theirs.get_piece_size())]
    ours = UnigramTokenizer([(piece, -1000.0 if piece in ("<s>", "</s>") else score) for piece, score in pieces])
    held_out = load_corpus("python-docs").validation[:40_000]
    words = dict.fromkeys(held_out.split())
    different = [word for word in words if ours.encode(word) != theirs.encode(word)]
    assert len(words) > 1000
    assert len(different) <= 2, different  # their sums are of single precision, so near ties may fall otherwise


def segmentations(word: str, pieces: dict[str, float]) -> dict[tuple[str, ...], float]:
    """All of them, with their log-probabilities."""
    found = {}
    for cuts in itertools.product([False, True], repeat=len(word) - 1):
        parts, start = [], 0
        for place in [*(place for place, cut in enumerate(cuts, 1) if cut), len(word)]:
            parts.append(word[start:place])
            start = place
        if all(part in pieces for part in parts):
            found[tuple(parts)] = sum(pieces[part] for part in parts)
    return found


some_pieces = st.dictionaries(st.text("ab", min_size=2, max_size=4), st.floats(-9, -1), max_size=10)


@settings(deadline=None, max_examples=100)
@given(some_pieces, st.floats(-9, -1), st.floats(-9, -1), st.text("ab", min_size=1, max_size=8))
def test_no_segmentation_is_more_probable_than_the_one_that_is_found(pieces, a, b, word):
    scores = {**pieces, "a": a, "b": b, "▁": -2.0}
    tokenizer = UnigramTokenizer([("<unk>", 0.0), *scores.items()])
    found = [tokenizer.tokens[index] for index in tokenizer.encode(word)]
    best = max(segmentations("▁" + word, scores).values())
    assert sum(scores[piece] for piece in found) == pytest.approx(best)
    assert sum(scores[piece] for piece in best_path("▁" + word, scores, 5)) == pytest.approx(best)


@settings(deadline=None, max_examples=60)
@given(some_pieces, st.floats(-9, -1), st.floats(-9, -1), st.text("ab", min_size=1, max_size=7), st.integers(1, 9))
def test_expected_counts_are_those_of_going_through_all_segmentations(pieces, a, b, word, times):
    scores = {**pieces, "a": a, "b": b}
    all_ways = segmentations(word, scores)
    total = math.fsum(math.exp(score) for score in all_ways.values())
    slow = Counter()
    for parts, score in all_ways.items():
        for part in parts:
            slow[part] += times * math.exp(score) / total
    assert expected({word: times}, scores) == pytest.approx({piece: slow[piece] for piece in scores})


def test_samples_have_the_probabilities_that_are_said():
    scores = {"▁": -2.0, "a": -2.0, "b": -3.0, "ab": -3.5, "▁a": -3.0, "▁ab": -6.0}
    tokenizer, random = UnigramTokenizer([("<unk>", 0.0), *scores.items()]), Random(0)
    for alpha in (0.0, 0.5, 1.0):
        weights = {parts: math.exp(alpha * score) for parts, score in segmentations("▁ab", scores).items()}
        drawn = Counter(
            tuple(tokenizer.tokens[index] for index in tokenizer.sample("ab", random, alpha=alpha)) for _ in range(4000)
        )
        assert drawn.keys() == weights.keys()
        for parts, weight in weights.items():
            assert drawn[parts] / 4000 == pytest.approx(weight / sum(weights.values()), abs=0.03)
    assert tokenizer.sample("ab</s>", random, alpha=0.3)[-1] == tokenizer.unknown_id


def test_unknown_characters_in_a_row_are_one_token():
    assert [trained().tokens[index] for index in trained().encode("a☃☄☃ ☃")] == ["▁a", "<unk>", "▁", "<unk>"]
    assert trained().unknown_id == trained().special["unk"] == 0


def test_an_unknown_character_costs_more_than_any_piece():
    scores = {"▁": -1.0, "a": -0.1, "a☃b": -8.0, "b": -8.0, "c": -8.0, "bc": -0.1}
    tokenizer = UnigramTokenizer([("<unk>", 0.0), *scores.items()])
    assert [tokenizer.tokens[index] for index in tokenizer.encode("a☃bc a☃")] == ["▁", "a☃b", "c", "▁", "a", "<unk>"]
    assert tokenizers.Tokenizer.from_str(tokenizer.to_json()).encode("a☃bc a☃").ids == tokenizer.encode("a☃bc a☃")


def test_training_finds_the_words_and_raises_the_likelihood():
    text = "the cat sat on the mat and the dog sat on the log " * 20
    tokenizer = UnigramTokenizer.train(text, 40)
    assert {"▁the", "▁sat", "▁on"} <= set(tokenizer.vocabulary)
    assert tokenizer.vocab_size <= 40
    words = Counter("▁" + word for word in load_corpus("python-docs").train[:20_000].split())
    scores = dict(learn_pieces(words, 300))
    assert len(scores) == 300
    assert math.fsum(map(math.exp, scores.values())) == pytest.approx(1, abs=0.1)
    alphabet = {character for word in words for character in word}
    letters = maximised(dict.fromkeys(alphabet, 1.0), dict.fromkeys(alphabet, 1))
    for _ in range(3):
        letters = maximised(expected(words, letters), dict.fromkeys(alphabet, 1))

    def likelihood(scores: dict[str, float]) -> float:
        return sum(times * sum(scores[piece] for piece in best_path(word, scores, 16)) for word, times in words.items())

    assert likelihood(scores) > 0.75 * likelihood(letters)


def test_ours_writes_a_text_in_as_few_pieces_as_theirs():
    text, held_out = load_corpus("python-docs").train[:60_000], load_corpus("python-docs").validation[:20_000]
    sentencepiece, out = pytest.importorskip("sentencepiece"), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_writer=out, vocab_size=700, minloglevel=2
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    ours = UnigramTokenizer.train(text, 700)
    assert len(ours.encode(held_out)) < 1.02 * len(theirs.encode(held_out))


def test_digamma_is_the_derivative_of_the_logarithm_of_gamma():
    for x in (0.5, 1.0, 3.7, 6.0, 100.0):
        slope = (math.lgamma(x + 1e-5) - math.lgamma(x - 1e-5)) / 2e-5
        assert digamma(x) == pytest.approx(slope, abs=1e-6)


def test_a_file_written_and_read_is_the_same_tokenizer(tmp_path):
    trained().save(tmp_path)
    again = read_tokenizer_json(tmp_path / "tokenizer.json")
    assert isinstance(again, UnigramTokenizer)
    assert again.to_json() == trained().to_json()
    raw = UnigramTokenizer(trained().scores.items(), normalize=False)
    (tmp_path / "tokenizer.json").write_text(raw.to_json())
    again = read_tokenizer_json(tmp_path / "tokenizer.json")
    assert again.encode("ﬁ½") == raw.encode("ﬁ½") != trained().encode("ﬁ½")


@pytest.mark.parametrize(
    ("place", "key", "value", "named"),
    [
        ("", "normalizer", {"type": "Precompiled", "precompiled_charsmap": "AA"}, "normalizer"),
        ("", "pre_tokenizer", None, "pre_tokenizer = null"),
        ("model", "unk_id", None, "model.unk_id=None is no place"),
        ("model", "byte_fallback", True, "model.byte_fallback = true"),
        ("model", "vocab", [["a", -1.0], ["a", -2.0]], "the piece 'a' is in the vocabulary twice"),
        ("model", "vocab", [["a", float("nan")]], "finite log-probability"),
        ("model", "vocab", [["a"]], "not enough values"),
    ],
)
def test_a_file_that_asks_for_something_else_is_refused_by_name(tmp_path, place, key, value, named):
    content = json.loads(trained().to_json())
    (content[place] if place else content)[key] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"tokenizer\.json: ") as caught:
        read_tokenizer_json(tmp_path / "tokenizer.json")
    assert named in str(caught.value)
