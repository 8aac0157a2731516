"""What files beside the vocabulary say of a tokenizer is obeyed, as transformers does, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from glassformer.text import BPETokenizer, WordPieceTokenizer, load_tokenizer

TEXT = "The CAT sat on Qzq and qzq, naïve: <end> don't "
LATER = {"content": "qzq", "special": False, "normalized": False}


def folder_of(kind: str, path: Path, *, older: bool) -> int:
    """A folder of a tokenizer, in its older form or as a tokenizer.json; the size of its vocabulary."""
    words = "the cat sat on and naïve naive don ' t , : < end > THE CAT " * 9
    if kind == "BertTokenizer":
        tokenizer = WordPieceTokenizer.train(words + " q ##q z ##z", 90)
        (path / "vocab.txt").write_text("\n".join(sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)))
    else:
        tokenizer = BPETokenizer.train(words, 300)
        content = json.loads(tokenizer.to_json())["model"]
        (path / "vocab.json").write_text(json.dumps(content["vocab"] | tokenizer.special_tokens))
        (path / "merges.txt").write_text("\n".join(m if isinstance(m, str) else " ".join(m) for m in content["merges"]))
    if not older:
        for name in ("vocab.txt", "vocab.json", "merges.txt"):
            (path / name).unlink(missing_ok=True)
        (path / "tokenizer.json").write_text(tokenizer.to_json())
    return tokenizer.vocab_size


def says(path: Path, kind: str, **config: Any) -> None:
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **config}))


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("kind", ["BertTokenizer", "GPT2Tokenizer"])
def test_tokens_that_were_added_later_are_found(kind: str, older: bool, tmp_path: Path) -> None:
    size = folder_of(kind, tmp_path, older=older)
    says(tmp_path, kind, added_tokens_decoder={str(size): LATER, str(size + 1): LATER | {"content": "<end>"}})
    ours = load_tokenizer(tmp_path)
    assert ours.encode(TEXT).count(size) == 1
    assert ours.encode(TEXT) == transformers.AutoTokenizer.from_pretrained(tmp_path).encode(
        TEXT, add_special_tokens=False
    )
    assert load_tokenizer(tmp_path, fast=False).encode(TEXT) == ours.encode(TEXT)


def test_an_older_list_of_added_tokens_is_read_and_must_fit(tmp_path: Path) -> None:
    size = folder_of("BertTokenizer", tmp_path, older=True)
    says(tmp_path, "BertTokenizer")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"qzq": size}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).encode(TEXT) == theirs.encode(TEXT, add_special_tokens=False)
    with pytest.raises(ValueError, match=r"added_tokens.normalized = true is not implemented here"):
        load_tokenizer(tmp_path, fast=False)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"qzq": size + 1}))
    with pytest.raises(ValueError, match=f"added token 'qzq' has the id {size + 1}; by its vocabulary it is {size}"):
        load_tokenizer(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"qzq": "last"}))
    with pytest.raises(ValueError, match=r"added_tokens.json gives 'qzq' the id 'last'; expected a whole number"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("BertTokenizer", {"do_lower_case": False}),
        ("BertTokenizer", {"strip_accents": False}),
        ("GPT2Tokenizer", {"add_prefix_space": True}),
    ],
)
def test_how_a_text_is_prepared_is_as_the_config_says(
    kind: str, said: dict[str, bool], older: bool, tmp_path: Path
) -> None:
    folder_of(kind, tmp_path, older=older)
    says(tmp_path, kind)
    before = load_tokenizer(tmp_path).encode(TEXT)
    says(tmp_path, kind, **said)
    ours = load_tokenizer(tmp_path).encode(TEXT)
    assert ours != before
    assert ours == transformers.AutoTokenizer.from_pretrained(tmp_path).encode(TEXT, add_special_tokens=False)


def test_a_config_that_makes_no_sense_is_refused_by_its_folder(tmp_path: Path) -> None:
    folder_of("BertTokenizer", tmp_path, older=False)
    says(tmp_path, "BertTokenizer", do_lower_case="yes")
    with pytest.raises(ValueError, match=r"with what its tokenizer_config.json and added_tokens.json say"):
        load_tokenizer(tmp_path)
    says(tmp_path, "BertTokenizer", added_tokens_decoder={"first": {"content": "qzq"}})
    with pytest.raises(ValueError, match="added_tokens_decoder 'first'"):
        load_tokenizer(tmp_path)
