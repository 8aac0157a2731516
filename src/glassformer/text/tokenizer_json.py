"""Hugging Face's `tokenizer.json` for byte-level BPE, in both directions; WordPiece's and Unigram's is `piece_json`'s.

In the file a byte is written as a visible character (`BYTE_TO_CHARACTER`; " the" is "Ġthe"). What is written here is
opened by `tokenizers.Tokenizer.from_file`; what is read may say nothing that our tokenizer would not do.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.text.bpe import BYTE_TO_CHARACTER, CHARACTER_TO_BYTE, BPETokenizer
from glassformer.text.piece_json import parse_pieces
from glassformer.text.pieces import PieceTokenizer
from glassformer.text.special import family, read_object
from glassformer.text.template import Template

_GPT2 = ("gpt2", "GPT2Tokenizer")
_ROBERTA = ("roberta", "bart", "RobertaTokenizer", "BartTokenizer")

# What each part of the file may say: every other key or value is refused by name. `...` allows any value:
# offsets are not computed here, and with all 256 bytes in the vocabulary no token is ever unknown.
_BYTE_LEVEL = {"type": ["ByteLevel"], "add_prefix_space": ..., "trim_offsets": ..., "use_regex": ...}
_ALLOWED: dict[str, dict[str, Any]] = {
    "": {
        "version": ...,
        "truncation": [None],
        "padding": [None],
        "added_tokens": ...,
        "normalizer": [None],
        "pre_tokenizer": ...,
        "post_processor": ...,
        "decoder": ...,
        "model": ...,
    },
    "pre_tokenizer": _BYTE_LEVEL | {"add_prefix_space": [False], "use_regex": [True]},
    "decoder": _BYTE_LEVEL,
    "model": {
        "type": ["BPE"],
        "dropout": [None, 0.0],
        "unk_token": ...,
        "continuing_subword_prefix": [None, ""],
        "end_of_word_suffix": [None, ""],
        "fuse_unk": ...,
        "byte_fallback": [False],
        "ignore_merges": [False],
        "vocab": ...,
        "merges": ...,
    },
    "added_tokens": {
        "id": ...,
        "content": ...,
        "single_word": [False],
        "lstrip": [False],
        "rstrip": [False],
        "normalized": ...,
        "special": ...,
    },
}


def dump_tokenizer(tokenizer: BPETokenizer) -> str:
    """The text of a `tokenizer.json` for `tokenizer`."""
    shown = {_show(token): index for token, index in tokenizer.vocabulary.items()} | tokenizer.added_tokens
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, **plain, "special": token in tokenizer.special_tokens}
            for token, index in sorted(tokenizer.added_tokens.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": tokenizer.template.to_json(),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(sorted(shown.items(), key=lambda item: item[1])),
            "merges": [[_show(left), _show(right)] for left, right in tokenizer.merges],
        },
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def read_tokenizer_json(path: str | Path) -> BPETokenizer | PieceTokenizer:
    """The tokenizer that a `tokenizer.json` describes: byte-level BPE, WordPiece or Unigram.

    Raises:
        ValueError: the file is damaged, or asks for something that is not implemented here, which is named.
        OSError: the file cannot be read.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    try:
        return parse_tokenizer(content)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]!r} is missing") from error


def parse_tokenizer(content: Any) -> BPETokenizer | PieceTokenizer:
    """The tokenizer that the content of a `tokenizer.json` describes; raises ValueError, KeyError and their like."""
    model = content.get("model") if isinstance(content, dict) else None
    pieces = isinstance(model, dict) and model.get("type") in ("WordPiece", "Unigram")
    return parse_pieces(content) if pieces else _parse(content)


def _parse(content: Any) -> BPETokenizer:
    _check("", content)
    model = content["model"]
    _check("model", model, {"type": None})
    _check("pre_tokenizer", content["pre_tokenizer"], {"type": None, "add_prefix_space": True, "use_regex": True})
    _check("decoder", content["decoder"], {"type": None})
    added: dict[str, int] = {}
    special, normalized = [], set()
    for token in content.get("added_tokens") or []:
        _check("added_tokens", token)
        added[token["content"]] = token["id"]
        normalized.add(bool(token.get("normalized", False)))
        if token.get("special", False):
            special.append(token["content"])
    if len(normalized) > 1:
        raise ValueError("added_tokens of both kinds, normalized and not, are not implemented here")
    vocabulary: dict[bytes, int] = {}
    for shown, index in model["vocab"].items():
        if not isinstance(index, int) or index < 0:
            raise ValueError(f"token {shown!r} has the id {index!r}, which is not a number from 0 on")
        if added.get(shown) == index and not CHARACTER_TO_BYTE.keys() >= set(shown):
            continue  # stands in the vocabulary too, but is never made by merges
        vocabulary[_hide(shown)] = index
    merges = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        merges.append((_hide(left), _hide(right)))
    tokenizer = BPETokenizer(vocabulary, merges, added_tokens=added, special_tokens=special)
    tokenizer.template = Template.from_json(content.get("post_processor"))
    return tokenizer


def _check(part: str, content: Any, where_absent: Mapping[str, Any] | None = None) -> None:
    """Refuses what the part says, or means by leaving it out, beyond `_ALLOWED`."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{part or 'the file'} is {_said(content)}, not a JSON object: not implemented here")
    for key, value in {**(where_absent or {}), **content}.items():
        allowed = _ALLOWED[part].get(key, [])
        if allowed is not ... and value not in allowed:
            name = f"{part}.{key}" if part else key
            raise ValueError(f"{name} = {_said(value)} is not implemented here: only byte-level BPE as in GPT-2 is")


def _said(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]


def read_vocabulary_and_merges(folder: Path, config: Mapping[str, Any]) -> BPETokenizer:
    """GPT-2's first form, `vocab.json` and `merges.txt`; RoBERTa and BART put <s> and </s> around a text.

    Raises:
        ValueError: a file is missing or damaged, or the folder's tokenizer is another that has such files.
    """
    if not (folder / "merges.txt").is_file():
        raise ValueError(f"{folder} has a vocab.json, but no merges.txt: a byte-level BPE tokenizer needs both")
    kind = family(folder, config, (*_GPT2, *_ROBERTA), "vocab.json")
    shown = read_object(folder / "vocab.json")
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [line.split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    special = [token for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>") if token in shown]
    try:
        if bad := [merge for merge in merges if len(merge) != 2]:
            raise ValueError(f"a line of merges.txt is {' '.join(bad[0])!r}; expected two pieces")
        tokenizer = BPETokenizer(
            {_hide(token): index for token, index in shown.items() if token not in special},
            [(_hide(left), _hide(right)) for left, right in merges],
            added_tokens={token: shown[token] for token in special},
            special_tokens=special,
        )
        if kind in _ROBERTA:
            tokenizer.template = Template.parse("<s> $A </s>", "<s> $A </s> </s> $B </s>", tokenizer.special_tokens)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / 'vocab.json'}: {error}") from error
    return tokenizer


def _show(token: bytes) -> str:
    return "".join([BYTE_TO_CHARACTER[byte] for byte in token])


def _hide(shown: str) -> bytes:
    try:
        return bytes([CHARACTER_TO_BYTE[character] for character in shown])
    except KeyError as error:
        raise ValueError(f"token {shown!r} is not byte-level: no byte is written as {error.args[0]!r}") from error
