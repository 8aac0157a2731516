"""SentencePiece models in published folders: the library's ids, what stands around them, `transformers` the same."""

import io
import json
import sys
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.text import FastTokenizer, SentencePieceTokenizer, load_tokenizer
from glassformer.text.corpus import load_corpus

sentencepiece = pytest.importorskip("sentencepiece")
transformers = pytest.importorskip("transformers")

TEXTS = ["The list returns, don't it?", "Café déjà vu 漢字 naïve! ½ﬁ", "", "two spaces ", "a b"]
T5 = dict(model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
FAIRSEQ = dict(model_type="unigram", unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
LLAMA = dict(model_type="bpe", byte_fallback=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
             normalization_rule_name="identity", remove_extra_whitespaces=False)  # fmt: skip


@cache
def model(**options) -> bytes:
    out, text = io.BytesIO(), load_corpus("python-docs").train[:60_000]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_writer=out, vocab_size=600, minloglevel=2, **options
    )
    return out.getvalue()


def folder_of(folder, kind: str):
    """A folder as published: T5 v1.1 and Llama 2 without a tokenizer.json."""
    folder.mkdir(exist_ok=True)
    said = {"eos_token": "</s>", "unk_token": "<unk>"}
    if kind == "T5":
        (folder / "spiece.model").write_bytes(model(**T5))
        said |= {"pad_token": "<pad>", "extra_ids": 100}
        transformers.T5Config().save_pretrained(folder)
    else:
        (folder / "tokenizer.model").write_bytes(model(**LLAMA))
        said |= {"bos_token": "<s>", "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
        transformers.LlamaConfig().save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


@cache
def library(kind: str):
    return sentencepiece.SentencePieceProcessor(model_proto=model(**(T5 if kind == "T5" else LLAMA)))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    root = tmp_path_factory.mktemp("folders")
    return {kind: load_tokenizer(folder_of(root / kind, kind)) for kind in ("T5", "Llama")}


@settings(deadline=None, max_examples=200)
@given(text=st.text(st.characters(exclude_categories=("Cs",))) | st.text("the list é漢\n  ▁🙂½", max_size=50))
def test_ids_text_and_offsets_are_those_of_the_library(ours, text):
    for kind, tokenizer in ours.items():
        ids, spans = tokenizer.encode_with_offsets(text)
        assert ids == tokenizer.encode(text) == library(kind).encode(text)
        assert all(0 <= start <= end <= len(text) for start, end in spans)
        if tokenizer.unknown_id not in ids:
            assert tokenizer.decode(ids) == library(kind).decode(ids)


@pytest.mark.parametrize("kind", ["T5", "Llama"])
def test_folders_are_read_as_transformers_reads_them(tmp_path, kind):
    folder = folder_of(tmp_path / kind, kind)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    assert isinstance(ours, SentencePieceTokenizer)
    assert ours.vocab_size == len(theirs)
    for role in ("pad", "unk", "bos", "eos"):
        assert ours.special.get(role) == getattr(theirs, f"{role}_token_id")
    for text in [*TEXTS, *(["say <extra_id_0> it<extra_id_1>so <extra_id_99>"] if kind == "T5" else [])]:
        assert ours.encode(text, allow_special=True) == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, allow_special=True, special=True) == theirs(text)["input_ids"]
        pair = theirs(text, "the pair", return_token_type_ids=True)
        assert ours.encode_pair(text, "the pair", allow_special=True) == (pair["input_ids"], pair["token_type_ids"])
        for skip in (True, False):
            expected = theirs.decode(pair["input_ids"], skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(pair["input_ids"], skip_special=skip) == expected


@pytest.mark.parametrize("kind", ["T5", "Llama"])
def test_the_tokenizer_json_that_transformers_makes_of_a_folder_is_run_as_it_runs_it(tmp_path, kind):
    """Unigram with a table of characters, and BPE that falls back to bytes: by `tokenizers`."""
    theirs = transformers.AutoTokenizer.from_pretrained(folder_of(tmp_path / "old", kind))
    theirs.save_pretrained(tmp_path / "new")
    ours = load_tokenizer(tmp_path / "new")
    assert isinstance(ours, FastTokenizer)
    assert ours.special == load_tokenizer(tmp_path / "old").special
    for text in [*TEXTS, "  two  spaces ", "a\n\nb <extra_id_0> <s>c</s>"]:
        whole = theirs(text, return_offsets_mapping=True)
        assert ours.encode_with_offsets(text, allow_special=True, special=True) == (
            whole["input_ids"],
            whole["offset_mapping"],
        )
        stream = ours.stream()
        pieces = [stream.push(index) for index in whole["input_ids"]]
        assert "".join(pieces) + stream.finish() == ours.decode(whole["input_ids"]) == theirs.decode(whole["input_ids"])


@pytest.mark.parametrize("kind", ["XLMRoberta", "Camembert", "MBart"])
def test_fairseqs_numbering_is_that_of_transformers(tmp_path, kind):
    """Their own special tokens first, the pieces behind them, the mask and mBART's languages last."""
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model(**FAIRSEQ))
    getattr(transformers, f"{kind}Config")().save_pretrained(tmp_path)
    said = {"tokenizer_class": f"{kind}Tokenizer"} | ({"src_lang": "ro_RO"} if kind == "MBart" else {})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    assert isinstance(ours, SentencePieceTokenizer)
    assert ours.vocab_size == len(theirs)
    assert ours.special == {role: getattr(theirs, f"{role}_token_id") for role in ours.special}
    assert {"pad", "unk", "cls", "sep", "mask", "bos", "eos"} == ours.special.keys()
    # Their MBartTokenizer leaves out the model's own normalisation, which undoes the ligature; the others keep it.
    for text in TEXTS if kind != "MBart" else [text for text in TEXTS if "ﬁ" not in text]:
        assert ours.encode(text, special=True) == theirs(text)["input_ids"]
        assert ours.encode_pair(text, "the pair")[0] == theirs(text, "the pair")["input_ids"]
    ours.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").encode(TEXTS[0], special=True) == theirs(TEXTS[0])["input_ids"]


def test_fairseqs_families_and_languages_that_are_not_known_are_named(tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model(**FAIRSEQ))
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"tokenizer_class": "MBartTokenizer", "src_lang": "en_US"}')
    with pytest.raises(ValueError, match=r"src_lang='en_US', no language of mBART's .did you mean 'en_XX'"):
        load_tokenizer(tmp_path)
    config.write_text('{"tokenizer_class": "M2M100Tokenizer"}')
    with pytest.raises(ValueError, match="how 'M2M100Tokenizer' prepares a text"):
        load_tokenizer(tmp_path)


def test_a_text_that_spells_a_special_token_stays_a_text(ours):
    for tokenizer in ours.values():
        for name in tokenizer.special_tokens:
            assert tokenizer.special_tokens[name] not in set(tokenizer.encode(name)) - {tokenizer.unknown_id}


def test_unknown_characters_that_spell_a_special_token_are_unknown():
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["ab ba aab abb bab"] * 9), model_writer=out, vocab_size=9, minloglevel=2
    )
    tokenizer = SentencePieceTokenizer(out.getvalue())
    assert tokenizer.encode("</s>")[-1] == tokenizer.unknown_id
    assert tokenizer.token_to_id("</s>") not in tokenizer.encode("</s>")


def test_offsets_leave_the_space_before_a_word_out_and_bytes_share_their_character(ours):
    text = "the list 漢 x"
    _, spans = ours["Llama"].encode_with_offsets(text)
    assert {text[start:end] for start, end in spans} >= {"the", "漢"}
    assert not any(text[start:end].startswith(" ") and end - start > 1 for start, end in spans)
    assert [text[start:end] for start, end in spans].count("漢") == 3


def test_streamed_pieces_joined_equal_the_decoded_text(ours):
    for tokenizer in ours.values():
        ids = tokenizer.encode("The list returns an é and the functions")
        stream = tokenizer.stream()
        assert "".join([stream.push(index) for index in ids]) + stream.finish() == tokenizer.decode(ids)


def test_a_folder_saved_again_is_the_same(ours, tmp_path):
    for kind, tokenizer in ours.items():
        tokenizer.save(tmp_path / kind)
        again = load_tokenizer(tmp_path / kind)
        assert again.files() == tokenizer.files()
        assert again.encode("the <extra_id_3> list", allow_special=True, special=True) == tokenizer.encode(
            "the <extra_id_3> list", allow_special=True, special=True
        )
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)
        assert theirs("the list")["input_ids"] == again.encode("the list", special=True)


def test_added_tokens_of_a_config_have_their_ids(tmp_path):
    folder = folder_of(tmp_path / "x", "Llama")
    said = json.loads((folder / "tokenizer_config.json").read_text())
    added = {"600": {"content": "<|im_start|>", "special": True}, "601": {"content": "foo", "special": False},
             "1": {"content": "<s>", "special": True}}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(said | {"added_tokens_decoder": added}))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.vocab_size == 602
    assert tokenizer.encode("foo<|im_start|>", allow_special=True) == [601, 600]
    assert 600 not in tokenizer.encode("foo<|im_start|>")
    assert tokenizer.decode([601, 600], skip_special=True) == "foo"


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marian")
    models = {"source.spm": model(model_type="unigram"), "target.spm": model(model_type="bpe")}
    pieces: set[str] = set()
    for name, content in models.items():
        (folder / name).write_bytes(content)
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        pieces |= {processor.id_to_piece(index) for index in range(processor.get_piece_size())}
    tokens = ["</s>", "<unk>", *sorted(pieces - {"</s>", "<unk>", "<s>"}), ">>fra<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "MarianTokenizer"}')
    transformers.MarianConfig(
        vocab_size=len(tokens), pad_token_id=len(tokens) - 1, decoder_start_token_id=0
    ).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_marians_two_models_and_its_vocabulary_are_read_as_transformers_reads_them(marian, tmp_path):
    theirs, ours = transformers.AutoTokenizer.from_pretrained(marian), load_tokenizer(marian)
    assert ours.vocab_size == len(theirs)
    for role in ("pad", "unk", "eos"):
        assert ours.special[role] == getattr(theirs, f"{role}_token_id")
    for text in [*TEXTS, ">>fra<< The list"]:
        ids = theirs(text)["input_ids"]
        assert ours.encode(text, special=True) == ids
        assert ours.decode(ids, skip_special=True) == theirs.decode(ids, skip_special_tokens=True)
        assert (
            ours.target().encode(text.removeprefix(">>fra<< "), special=True)
            == (theirs(text_target=text.removeprefix(">>fra<< "))["input_ids"])
        )
    ours.save(tmp_path)
    assert load_tokenizer(tmp_path).encode("The list") == ours.encode("The list")
    assert {name: (tmp_path / name).read_bytes() for name in ("source.spm", "target.spm", "vocab.json")} == {
        name: (marian / name).read_bytes() for name in ("source.spm", "target.spm", "vocab.json")
    }


def test_damaged_and_foreign_files_are_named(tmp_path, ours):
    (tmp_path / "spiece.model").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"spiece\.model: not a SentencePiece model"):
        load_tokenizer(tmp_path)
    (tmp_path / "spiece.model").write_bytes(b"")
    with pytest.raises(ValueError, match=r"spiece\.model: not a SentencePiece model"):
        load_tokenizer(tmp_path)
    (tmp_path / "spiece.model").write_bytes(model(**T5))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "AlbertTokenizer"}')
    with pytest.raises(ValueError, match="how 'AlbertTokenizer' prepares a text for it is not implemented"):
        load_tokenizer(tmp_path)
    (tmp_path / "source.spm").write_bytes(model(**T5))
    with pytest.raises(ValueError, match=r"has a source\.spm, but no target\.spm"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="there is one SentencePiece model only"):
        ours["T5"].target()
    with pytest.raises(ValueError, match="token id 700 is outside the vocabulary: ids go from 0 to 699"):
        ours["T5"].decode([700])


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, tmp_path):
    folder = folder_of(tmp_path / "x", "T5")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match="pip install sentencepiece"):
        load_tokenizer(folder)
