"""What a folder says of its tokenizer beside the vocabulary, put where a `tokenizer.json` has it.

Their classes believe `tokenizer_config.json` where it and the `tokenizer.json` differ, and older folders keep tokens
that were added later in `added_tokens.json`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.text.special import TOKENIZER_CONFIG, read_object

ADDED = "added_tokens.json"
PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
CLEANING = {"do_lower_case": "lowercase", "strip_accents": "strip_accents",
            "tokenize_chinese_chars": "handle_chinese_chars"}  # fmt: skip
OVERRULING = frozenset((*CLEANING, "add_prefix_space"))
CLASSES = {"BertNormalizer": ("BertTokenizer", "DistilBertTokenizer"), "ByteLevel": ("GPT2Tokenizer",
           "RobertaTokenizer", "BartTokenizer")}  # fmt: skip
"""Whose classes set what of the two."""


def obeying(content: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """A `tokenizer.json` as the config wants it: how BERT's cleans a text, whether GPT-2's puts a space before it."""
    kind, out = str(config.get("tokenizer_class") or "").removesuffix("Fast"), dict(content)
    cleaning, splitting = content.get("normalizer") or {}, content.get("pre_tokenizer") or {}
    if cleaning.get("type") == "BertNormalizer" and kind in CLASSES["BertNormalizer"]:
        out["normalizer"] = cleaning | {ours: config[name] for name, ours in CLEANING.items() if name in config}
    if splitting.get("type") == "ByteLevel" and kind in CLASSES["ByteLevel"] and "add_prefix_space" in config:
        out["pre_tokenizer"] = splitting | {"add_prefix_space": config["add_prefix_space"]}
    return out


def completed(content: Mapping[str, Any], folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """A `tokenizer.json` as the config wants it, with the tokens that were added later.

    Raises ValueError for one whose id is another token's, or leaves a gap.
    """
    out, vocabulary = obeying(content, config), content["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram's: pieces with their scores
        vocabulary = {piece: index for index, (piece, _) in enumerate(vocabulary)}
    known = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    free, more = max([-1, *vocabulary.values(), *known.values()]) + 1, []
    for index, token in sorted(added_later(folder, config).items()):
        name = token["content"]
        there = known.get(name, vocabulary.get(name))
        expected = free if there is None else there
        if index != expected:
            raise ValueError(f"{folder} says that the added token {name!r} has the id {index}; by its vocabulary it is "
                             f"{expected}")  # fmt: skip
        free += there is None
        more += [] if name in known else [{"id": index, **PLAIN, **token}]
    return out | {"added_tokens": [*(content.get("added_tokens") or []), *more]}


def added_later(folder: Path, config: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Id -> token, as the config has it, or the older file, of whose tokens the name alone is known."""
    found: dict[int, dict[str, Any]] = {}
    if (folder / ADDED).is_file():
        for name, index in read_object(folder / ADDED).items():
            if not isinstance(index, int):
                raise ValueError(f"{folder / ADDED} gives {name!r} the id {index!r}; expected a whole number")
            found[index] = {"content": name, "normalized": True}
    for index, token in dict(config.get("added_tokens_decoder") or {}).items():
        if not index.isdecimal() or not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise ValueError(f"{folder / TOKENIZER_CONFIG} has added_tokens_decoder {index!r}: {token!r}; expected an "
                             "id and an object with its content")  # fmt: skip
        found[int(index)] = {key: value for key, value in token.items() if key in {"content", *PLAIN}}
    return found
