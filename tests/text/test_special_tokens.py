"""Special tokens, what stands around texts, and folders that `transformers` and we open alike."""

import json
import shutil
from functools import cache

import pytest

from glassformer.text import BPETokenizer, ByteTokenizer, FastTokenizer, Template, load_tokenizer, train_tokenizer
from glassformer.text.bpe import BYTE_TO_CHARACTER
from glassformer.text.corpus import load_corpus
from glassformer.text.template import begin_and_end

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

TEXTS = ["The list returns, don't it?", "Café déjà vu 漢字 naïve!", "", "  two  spaces ", "a\nb"]
ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
CONFIGS = {"bpe": "GPT2Config", "wordpiece": "BertConfig", "unigram": "T5Config"}


@cache
def trained(name: str):
    return train_tokenizer(name, load_corpus("python-docs").train[:30_000] + "Café 漢字", vocab_size=500)


def hold(folder, *, roles=ROLES, texts=TEXTS, offsets=True, fast=None):
    """Our tokenizer of a folder, after it was compared with theirs."""
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), load_tokenizer(folder, fast=fast)
    assert ours.vocab_size == len(theirs)
    special = {role: getattr(theirs, f"{role}_token_id") for role in roles}
    assert {role: ours.special.get(role) for role in roles} == special
    for text in texts:
        bare = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text) == bare
        assert ours.encode(text, special=True) == theirs(text)["input_ids"]
        pair = theirs(text, "the pair", return_token_type_ids=True)
        assert ours.encode_pair(text, "the pair") == (pair["input_ids"], pair["token_type_ids"])
        for skip in (True, False):
            given = theirs.decode(pair["input_ids"], skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(pair["input_ids"], skip_special=skip) == given
        if offsets:
            expected = theirs(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            assert ours.encode_with_offsets(text)[1] == expected
    return ours


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_opens_what_we_write_with_the_same_ids_and_special_tokens(tmp_path, name, fast):
    trained(name).save(tmp_path)
    getattr(transformers, CONFIGS[name])().save_pretrained(tmp_path)
    again = hold(tmp_path, fast=fast)
    assert again.special == trained(name).special
    assert "eos" in again.special or name == "wordpiece"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_tokenizer_saved_again_says_the_same(tmp_path, name):
    trained(name).save(tmp_path / "a")
    for fast in (True, False):
        load_tokenizer(tmp_path / "a", fast=fast).save(tmp_path / str(fast))
        again = load_tokenizer(tmp_path / str(fast), fast=False)
        assert (again.config, again.special) == (load_tokenizer(tmp_path / "a").config, trained(name).special)
        for text in TEXTS:
            assert again.encode(text, special=True) == trained(name).encode(text, special=True)


def write_vocabulary(folder, kind: str, said: dict) -> None:
    folder.mkdir()
    if kind == "BERT":
        tokenizer = trained("wordpiece")
        (folder / "vocab.txt").write_text("\n".join(tokenizer.tokens[i] for i in range(tokenizer.vocab_size)) + "\n")
        transformers.BertConfig().save_pretrained(folder)
    else:
        tokenizer = trained("bpe")
        shown = {token: "".join(BYTE_TO_CHARACTER[byte] for byte in token) for token in tokenizer.vocabulary}
        ids = {shown[token]: index for token, index in tokenizer.vocabulary.items()}
        if kind == "RoBERTa":
            first = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>"])}
            ids = first | {token: index + 4 for token, index in ids.items()} | {"<mask>": len(ids) + 4}
            transformers.RobertaConfig().save_pretrained(folder)
        else:
            ids |= tokenizer.added_tokens
            transformers.GPT2Config().save_pretrained(folder)
        (folder / "vocab.json").write_text(json.dumps(ids))
        lines = [f"{shown[left]} {shown[right]}" for left, right in tokenizer.merges]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("BERT", {"do_lower_case": True, "model_max_length": 512}),
        ("BERT", {"do_lower_case": False}),
        ("BERT", {"do_lower_case": True, "strip_accents": False, "tokenizer_class": "BertTokenizer"}),
        ("RoBERTa", {"model_max_length": 512}),
        ("GPT-2", {"model_max_length": 1024}),
    ],
)
def test_published_vocabularies_are_read_as_transformers_reads_them(tmp_path, kind, said):
    write_vocabulary(tmp_path / "old", kind, said)
    roles = [role for role in ROLES if not (kind == "GPT-2" and role == "unk")]  # no byte is unknown
    for fast in (True, False):  # their RoBERTa leaves the space before a word out of its offsets, ours holds it
        hold(tmp_path / "old", roles=roles, offsets=kind != "RoBERTa", fast=fast)
    transformers.AutoTokenizer.from_pretrained(tmp_path / "old").save_pretrained(tmp_path / "new")
    shutil.copy(tmp_path / "old" / "config.json", tmp_path / "new")
    assert isinstance(hold(tmp_path / "new"), FastTokenizer)


def test_a_vocabulary_of_another_family_is_refused_by_name(tmp_path):
    write_vocabulary(tmp_path / "clip", "GPT-2", {"tokenizer_class": "CLIPTokenizer"})
    with pytest.raises(ValueError, match="how 'CLIPTokenizer' prepares a text for it is not implemented"):
        load_tokenizer(tmp_path / "clip")
    write_vocabulary(tmp_path / "electra", "BERT", {"tokenizer_class": "ElectraTokenizerFast"})
    with pytest.raises(ValueError, match=r"has a vocab\.txt, but no tokenizer\.json, and how 'ElectraTokenizer'"):
        load_tokenizer(tmp_path / "electra")


def test_damaged_vocabularies_are_named(tmp_path):
    for name, damage, fault in [
        ("a", lambda folder: (folder / "vocab.txt").write_text("[UNK]\na\na\n"), "'a' stands in more than one line"),
        ("b", lambda folder: (folder / "vocab.txt").write_text("a\nb\n"), r"vocab\.txt: the vocabulary lacks"),
        (
            "c",
            lambda folder: (folder / "tokenizer_config.json").write_text("{"),
            r"tokenizer_config\.json is not valid",
        ),
        (
            "d",
            lambda folder: (folder / "tokenizer_config.json").write_text("[]"),
            "holds a list, expected a JSON object",
        ),
        (
            "e",
            lambda folder: (folder / "tokenizer_config.json").write_text('{"eos_token": 3}'),
            "eos_token=3; expected",
        ),
    ]:
        write_vocabulary(tmp_path / name, "BERT", {})
        damage(tmp_path / name)
        with pytest.raises(ValueError, match=fault):
            load_tokenizer(tmp_path / name)
    write_vocabulary(tmp_path / "f", "GPT-2", {})
    (tmp_path / "f" / "merges.txt").write_text("a b c\n")
    with pytest.raises(ValueError, match=r"a line of merges\.txt is 'a b c'"):
        load_tokenizer(tmp_path / "f")
    (tmp_path / "f" / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"but no merges\.txt"):
        load_tokenizer(tmp_path / "f")


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize("end", [True, False])
def test_a_config_that_says_what_begins_and_ends_a_text_is_followed(tmp_path, begin, end):
    write_vocabulary(tmp_path / "old", "GPT-2", {"add_bos_token": begin, "add_eos_token": end})
    ours = hold(tmp_path / "old", roles=["bos", "eos"])
    assert ours.beginning == [ours.special["bos"]] * begin


def test_a_config_that_wants_a_token_which_is_not_there_is_refused(tmp_path):
    write_vocabulary(tmp_path / "old", "GPT-2", {"add_eos_token": True, "eos_token": "</s>"})
    with pytest.raises(ValueError, match="has add_eos_token, but there is no eos token"):
        load_tokenizer(tmp_path / "old")


def test_roles_follow_the_config_before_the_usual_names(tmp_path):
    BPETokenizer.train("hello", 259, special_tokens=["<pad>", "<|im_end|>", "</s>"]).save(tmp_path)
    assert load_tokenizer(tmp_path).special == {"pad": 256, "eos": 258}
    said = {"eos_token": {"content": "<|im_end|>", "special": True}, "pad_token": None, "unk_token": "<not there>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    assert load_tokenizer(tmp_path).special == {"eos": 257}
    assert load_tokenizer(tmp_path).end_of_text == 257
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')
    assert load_tokenizer(tmp_path).special == {"pad": 256, "eos": 257}


PROCESSORS = {
    "BERT's own": tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
    "RoBERTa's own": tokenizers.processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2)),
    "two at the end": tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]:1 [SEP]", pair="$B:1 [SEP] $A:0", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    ),
    "a sequence": tokenizers.processors.Sequence(
        [
            tokenizers.processors.ByteLevel(trim_offsets=False),
            tokenizers.processors.TemplateProcessing(
                single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", 2)]
            ),
        ]
    ),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_kind_of_post_processor_becomes_a_template_that_does_the_same(name):
    inner = tokenizers.Tokenizer.from_str(trained("wordpiece").to_json())
    inner.post_processor = PROCESSORS[name]
    ours = FastTokenizer(tokenizers.Tokenizer.from_str(inner.to_str()))
    for text in TEXTS:
        one, two = inner.encode(text), inner.encode(text, "the list")
        assert ours.template.around(ours.encode(text)) == (one.ids, one.type_ids)
        assert ours.encode_pair(text, "the list") == (two.ids, two.type_ids)
        ids, spans = ours.encode_with_offsets(text, special=True)
        assert (ids, spans) == (one.ids, one.offsets)
    again = Template.from_json(ours.template.to_json())
    assert again.around([7], [8, 9]) == ours.template.around([7], [8, 9])


def test_a_template_that_does_not_hold_together_is_refused():
    with pytest.raises(ValueError, match="names '<x>', which has no id"):
        Template.parse("<x> $A", "$A $B", {})
    with pytest.raises(ValueError, match=r"must name \$A and \$B once"):
        Template.parse("$A", "$A $A", {})
    with pytest.raises(ValueError, match="'<s>' should stand around each text, but is no special token"):
        begin_and_end("<s>", None, {"</s>": 1})


def test_offsets_of_bytes_point_to_the_characters_they_are_bytes_of():
    ids, spans = ByteTokenizer().encode_with_offsets("aé🙂")
    assert ids == list("aé🙂".encode())
    assert spans == [(0, 1), (1, 2), (1, 2), (2, 3), (2, 3), (2, 3), (2, 3)]
    ours, theirs = trained("bpe"), FastTokenizer.from_json(trained("bpe").to_json())
    for text in [*TEXTS, "<|endoftext|> list<|endoftext|>🙂 é"]:
        for allow in (True, False):
            given = ours.encode_with_offsets(text, allow_special=allow)
            assert given == theirs.encode_with_offsets(text, allow_special=allow)


def test_a_stale_config_of_another_tokenizer_is_removed(tmp_path):
    trained("bpe").save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("old")
    trained("wordpiece").save(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    assert load_tokenizer(tmp_path).special == trained("wordpiece").special
