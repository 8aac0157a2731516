"""Which tokenizer: by name when one is made, by the files when one is loaded."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glassformer.foundation.hub import resolve
from glassformer.foundation.suggest import did_you_mean
from glassformer.text.beside import ADDED, OVERRULING, added_later, completed
from glassformer.text.bpe import BPETokenizer
from glassformer.text.characters import ByteTokenizer, CharacterTokenizer
from glassformer.text.fast import FastTokenizer
from glassformer.text.piece_json import read_vocabulary
from glassformer.text.sentencepiece import read_marian, read_sentencepiece
from glassformer.text.sentencepiece_fairseq import FILE, read_fairseq
from glassformer.text.special import TOKENIZER_CONFIG, read_config, read_object, token_names
from glassformer.text.template import Template, begin_and_end
from glassformer.text.tokenizer import END_OF_TEXT, FORMATS, TOKENIZER_FILES, Tokenizer
from glassformer.text.tokenizer_json import parse_tokenizer, read_tokenizer_json, read_vocabulary_and_merges
from glassformer.text.unigram import UnigramTokenizer
from glassformer.text.wordpiece import WordPieceTokenizer

SIZED: Mapping[str, Any] = {
    "bpe": (BPETokenizer, (END_OF_TEXT,)),
    "wordpiece": (WordPieceTokenizer, ()),
    "unigram": (UnigramTokenizer, ("<pad>", "</s>")),
}
"""Tokenizers that are trained to a size, and the special tokens that they have unless others are asked for."""


def train_tokenizer(
    name: str, text: str, *, vocab_size: int | None = None, special_tokens: Iterable[str] = ()
) -> Tokenizer:
    """A tokenizer made for `text`: "characters", "bytes", or one of `vocab_size` tokens: "bpe", "wordpiece", "unigram".

    `special_tokens` are names of tokens beside those of the text. Without them a bpe has <|endoftext|>, a unigram
    <pad> and </s>; a unigram always has <unk>, and a wordpiece BERT's five.

    Raises:
        ValueError: unknown name; `vocab_size` missing, or given to the two whose size follows from the text.
    """
    if name not in (names := ["characters", "bytes", *SIZED]):
        raise ValueError(f"no tokenizer is called {name!r}{did_you_mean(name, names)}")
    if name in SIZED:
        if vocab_size is None:
            raise ValueError(f"the tokenizer {name!r} needs a vocab_size, for example 4096")
        kind, usual = SIZED[name]
        return kind.train(text, vocab_size, special_tokens=list(special_tokens) or usual)
    if vocab_size is not None:
        raise ValueError(
            f"vocab_size={vocab_size} has no meaning for the tokenizer {name!r}: "
            f"only {', '.join(map(repr, SIZED))} take one"
        )
    if name == "characters":
        return CharacterTokenizer.train(text, special_tokens=special_tokens)
    return ByteTokenizer(special_tokens=special_tokens)


def load_tokenizer(path_or_id: str | os.PathLike[str], *, fast: bool | None = None) -> Tokenizer:
    """The tokenizer of a folder, as `save` or Hugging Face wrote it, or of a hub id (`openai-community/gpt2`).

    A `tokenizer.json` is run by `tokenizers` where that is installed, else by ours, which reads byte-level BPE with
    GPT-2's pattern, BERT's WordPiece, and Unigram as ours writes it; `fast=True` and `fast=False` insist on one of
    them. Older forms are read too: `vocab.txt`, `vocab.json` with `merges.txt`, and models of `sentencepiece`.

    Raises:
        FileNotFoundError: there is no such folder, or no tokenizer in it, or the hub has no such model.
        ValueError: the folder has two tokenizers, or a file is damaged or of a kind that is not implemented.
        ImportError: `tokenizers` or `sentencepiece` is needed and not installed; `huggingface_hub` for a hub id.
        OSError: the hub cannot be reached, and the tokenizer was not downloaded before.
    """
    folder = resolve(path_or_id, ("config.json", *TOKENIZER_FILES))  # config.json may say the kind
    present = [name for name in FORMATS if (folder / name).is_file()]
    if not present:
        raise FileNotFoundError(f"{folder} holds no tokenizer: none of {', '.join(FORMATS)} is there")
    if present[0] == "glassformer_tokenizer.json":
        if len(present) > 1:
            raise ValueError(f"{folder} holds two tokenizers, {' and '.join(present)}: keep one")
        return _read_small(folder / present[0])
    config = read_config(folder)
    tokenizer = _read(folder, present[0], config, find_spec("tokenizers") is not None if fast is None else fast)
    tokenizer.config = config
    if present[0] == "vocab.json" and {"add_bos_token", "add_eos_token"} & config.keys():  # other files say it
        tokenizer.template = _said(tokenizer, config, folder)
    return tokenizer


def _read(folder: Path, name: str, config: Mapping[str, Any], fast: bool) -> Tokenizer:
    if name == "tokenizer.json":
        plain = FastTokenizer.from_file(folder / name) if fast else read_tokenizer_json(folder / name)
        return _completed(plain, lambda: read_object(folder / name), config, folder)
    if name == "source.spm":
        return read_marian(folder)
    if name == FILE:
        return read_fairseq(folder, config)
    if name in ("spiece.model", "tokenizer.model"):
        return read_sentencepiece(folder / name, config)
    ours = read_vocabulary(folder, config) if name == "vocab.txt" else read_vocabulary_and_merges(folder, config)
    plain = FastTokenizer.from_json(ours.to_json()) if fast else ours
    return _completed(plain, lambda: json.loads(ours.to_json()), config, folder)


def _completed(
    plain: Tokenizer, read: Callable[[], dict[str, Any]], config: Mapping[str, Any], folder: Path
) -> Tokenizer:
    """What `plain`, read from what `read` gives, becomes by the files beside it; itself where they say nothing new."""
    added = added_later(folder, config).values()
    if not OVERRULING & config.keys() and all(_knows(plain, token["content"]) for token in added):
        return plain
    content = read()
    whole = completed(content, folder, config)
    if whole == content:
        return plain
    try:
        if isinstance(plain, FastTokenizer):
            return FastTokenizer.from_json(json.dumps(whole))
        return parse_tokenizer(whole)
    except Exception as error:  # `tokenizers` raises bare Exception
        raise ValueError(f"{folder}, with what its {TOKENIZER_CONFIG} and {ADDED} say: {error}") from error


def _knows(tokenizer: Tokenizer, token: str) -> bool:
    try:
        return tokenizer.token_to_id(token) >= 0
    except KeyError:
        return False


def _said(tokenizer: Tokenizer, config: Mapping[str, Any], folder: Path) -> Template:
    """The template of a config that says whether a token begins and one ends each text."""
    names, special = token_names(tokenizer), tokenizer.special
    for role in ("bos", "eos"):
        if config.get(f"add_{role}_token") and role not in special:
            raise ValueError(f"{folder / TOKENIZER_CONFIG} has add_{role}_token, but there is no {role} token")
    bos, eos = (names[f"{role}_token"] if config.get(f"add_{role}_token") else None for role in ("bos", "eos"))
    return begin_and_end(bos, eos, {names[f"{role}_token"]: index for role, index in special.items()})


def _read_small(path: Path) -> CharacterTokenizer | ByteTokenizer:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind = content.pop("type")
        special_tokens = content.pop("special_tokens")
        if kind == "characters":
            tokenizer = CharacterTokenizer(content.pop("characters"), special_tokens=special_tokens)
        elif kind == "bytes":
            tokenizer = ByteTokenizer(special_tokens=special_tokens)
        else:
            raise ValueError(f"no tokenizer is called {kind!r}{did_you_mean(str(kind), ['characters', 'bytes'])}")
        if content:
            raise ValueError(f"unknown key {min(content)!r}")
    except KeyError as error:
        raise ValueError(f"{path} is damaged: {error.args[0]!r} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return tokenizer
