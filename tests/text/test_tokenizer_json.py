"""tokenizer.json in both directions: ours opened by `tokenizers`, theirs by ours, everything else refused by name."""

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.text.bpe import BPETokenizer
from glassformer.text.corpus import load_corpus
from glassformer.text.tokenizer_json import dump_tokenizer, read_tokenizer_json

tokenizers = pytest.importorskip("tokenizers")

texts = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cn"))),
    st.text("ab- \n'é漢🙂", max_size=120),
    st.lists(st.sampled_from(["<|endoftext|>", "<pad>", " the", "==", "====", "  ", "list", "é"])).map("".join),
)


@cache
def ours() -> BPETokenizer:
    text = load_corpus("python-docs").train[:60_000] + "=" * 500 + "漢字" * 9
    return BPETokenizer.train(text, 800, special_tokens=["<|endoftext|>", "<pad>"])


@cache
def opened_by_them():
    return tokenizers.Tokenizer.from_str(ours().to_json())


@settings(deadline=None, max_examples=300)
@given(texts)
def test_what_we_write_encodes_and_decodes_equally_in_tokenizers(text):
    opened_by_them().encode_special_tokens = False
    ids = ours().encode(text, allow_special=True)
    assert ids == opened_by_them().encode(text).ids
    assert ours().decode(ids) == opened_by_them().decode(ids, skip_special_tokens=False) == text
    opened_by_them().encode_special_tokens = True
    assert ours().encode(text) == opened_by_them().encode(text).ids


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 799), max_size=30))
def test_ids_that_are_not_utf8_decode_equally(ids):
    assert ours().decode(ids) == opened_by_them().decode(ids, skip_special_tokens=False)


@cache
def trained_by_them():
    """A GPT-2 style tokenizer of theirs: special tokens first, added tokens of both sorts, gaps in nothing."""
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator([load_corpus("python-docs").train[:60_000]], trainer)
    theirs.add_special_tokens([tokenizers.AddedToken("<pad>", normalized=False)])
    theirs.add_tokens(
        [tokenizers.AddedToken("two words", normalized=False), tokenizers.AddedToken("==", normalized=False)]
    )
    return theirs


@pytest.fixture(scope="module")
def theirs_read_by_us(tmp_path_factory):
    path = tmp_path_factory.mktemp("theirs") / "tokenizer.json"
    trained_by_them().save(str(path))
    return read_tokenizer_json(path)


@settings(deadline=None, max_examples=200)
@given(text=texts | st.lists(st.sampled_from(["two words", "two", " words", "=", "==="])).map("".join))
def test_what_they_write_encodes_and_decodes_equally_in_ours(theirs_read_by_us, text):
    trained_by_them().encode_special_tokens = False
    ids = theirs_read_by_us.encode(text, allow_special=True)
    assert ids == trained_by_them().encode(text).ids
    assert theirs_read_by_us.decode(ids) == text
    trained_by_them().encode_special_tokens = True
    assert theirs_read_by_us.encode(text) == trained_by_them().encode(text).ids


def test_theirs_read_and_written_again_is_the_same_tokenizer(theirs_read_by_us, tmp_path):
    again = tokenizers.Tokenizer.from_str(dump_tokenizer(theirs_read_by_us))
    assert again.get_vocab() == trained_by_them().get_vocab()
    text = "Some <|endoftext|>two words, == and <pad>"
    trained_by_them().encode_special_tokens = False
    assert again.encode(text).ids == trained_by_them().encode(text).ids
    (tmp_path / "tokenizer.json").write_text(dump_tokenizer(theirs_read_by_us))
    twice = read_tokenizer_json(tmp_path / "tokenizer.json")
    assert twice.encode(text, allow_special=True) == trained_by_them().encode(text).ids
    assert theirs_read_by_us.special_tokens.keys() == {"<|endoftext|>", "<pad>"}


def test_a_file_as_gpt2s_with_text_merges_and_the_special_token_in_the_vocabulary_is_read(tmp_path):
    content = json.loads(ours().to_json())
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    del content["model"]["ignore_merges"], content["model"]["byte_fallback"]
    del content["pre_tokenizer"]["use_regex"]
    content["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
    assert content["model"]["vocab"]["<|endoftext|>"] == 798
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    assert read_tokenizer_json(path).encode("the <pad>", allow_special=True) == ours().encode(
        "the <pad>", allow_special=True
    )


def test_transformers_opens_our_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    ours().save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "The list  is\n\nempty <|endoftext|> 漢"
    assert theirs(text)["input_ids"] == ours().encode(text, allow_special=True)


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("normalizer", {"type": "NFC"}, 'normalizer = {"type": "NFC"}'),
        ("truncation", {"max_length": 8}, "truncation"),
        ("padding", {"strategy": "BatchLongest"}, "padding"),
        ("pre_tokenizer", {"type": "Whitespace"}, 'pre_tokenizer.type = "Whitespace"'),
        ("pre_tokenizer", None, "pre_tokenizer is null"),
        ("pre_tokenizer", {"type": "ByteLevel"}, "pre_tokenizer.add_prefix_space = true"),  # the default
        ("pre_tokenizer.use_regex", False, "pre_tokenizer.use_regex = false"),
        ("pre_tokenizer.add_prefix_space", True, "pre_tokenizer.add_prefix_space = true"),
        ("decoder", {"type": "Metaspace"}, 'decoder.type = "Metaspace"'),
        ("post_processor", {"type": "Novelty"}, "the post_processor 'Novelty' is not implemented"),
        ("model.type", "WordLevel", 'model.type = "WordLevel"'),
        ("model.type", "Unigram", "pre_tokenizer = {"),
        ("model.dropout", 0.1, "model.dropout = 0.1"),
        ("model.ignore_merges", True, "model.ignore_merges = true"),
        ("model.byte_fallback", True, "model.byte_fallback = true"),
        ("model.end_of_word_suffix", "</w>", "model.end_of_word_suffix"),
        ("model.novelty", 1, "model.novelty = 1"),
        ("novelty", 1, "novelty = 1"),
        ("added_tokens.0.lstrip", True, "added_tokens.lstrip = true"),
        ("added_tokens.0.single_word", True, "added_tokens.single_word = true"),
        ("added_tokens.0.normalized", True, "both kinds, normalized and not"),
        ("model.vocab.<odd one>", 900, "token '<odd one>' is not byte-level"),
        ("model.vocab.x", -1, "token 'x' has the id -1"),
        ("model.merges.0", "t", ""),
        ("model.merges.0", ["q", "zqz"], "needs b'zqz'"),
        ("model.vocab", {"a": 0}, "lacks the single byte"),
        ("model", [], "model is [], not a JSON object"),
    ],
)
def test_what_is_not_implemented_is_refused_and_named_with_the_file(tmp_path, place, value, named):
    content = json.loads(ours().to_json())
    *way, last = place.split(".")
    part = content
    for step in way:
        part = part[int(step) if step.isdigit() else step]
    part[int(last) if last.isdigit() else last] = value
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"tokenizer\.json: ") as caught:
        read_tokenizer_json(path)
    assert named in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0"}', "\0", '{"model": null, "decoder": null}'])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        read_tokenizer_json(path)
