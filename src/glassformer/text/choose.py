"""Which tokenizer: by name when one is made, by the files when one is loaded."""

import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from glassformer.foundation.suggest import did_you_mean
from glassformer.text.bpe import BPETokenizer
from glassformer.text.characters import ByteTokenizer, CharacterTokenizer
from glassformer.text.fast import FastTokenizer
from glassformer.text.tokenizer import END_OF_TEXT, TOKENIZER_FILES, Tokenizer
from glassformer.text.tokenizer_json import read_tokenizer_json


def train_tokenizer(
    name: str, text: str, *, vocab_size: int | None = None, special_tokens: Iterable[str] = ()
) -> Tokenizer:
    """A tokenizer made for `text`: "characters", "bytes", or "bpe" with `vocab_size` tokens and <|endoftext|>.

    `special_tokens` are names of tokens beside those of the text; a bpe has them in place of <|endoftext|>.

    Raises:
        ValueError: unknown name; `vocab_size` missing for "bpe", or given to the two whose size follows from the text.
    """
    if name not in ("characters", "bytes", "bpe"):
        raise ValueError(f"no tokenizer is called {name!r}{did_you_mean(name, ['characters', 'bytes', 'bpe'])}")
    if name == "bpe":
        if vocab_size is None:
            raise ValueError("the tokenizer 'bpe' needs a vocab_size, for example 4096")
        return BPETokenizer.train(text, vocab_size, special_tokens=list(special_tokens) or [END_OF_TEXT])
    if vocab_size is not None:
        raise ValueError(f"vocab_size={vocab_size} has no meaning for the tokenizer {name!r}: only 'bpe' takes one")
    if name == "characters":
        return CharacterTokenizer.train(text, special_tokens=special_tokens)
    return ByteTokenizer(special_tokens=special_tokens)


def load_tokenizer(folder: str | Path, *, fast: bool | None = None) -> Tokenizer:
    """The tokenizer that lies in `folder`, as `save` or Hugging Face wrote it.

    A `tokenizer.json` is run by `tokenizers` where that is installed, else by ours, which reads byte-level BPE with
    GPT-2's pattern; `fast=True` and `fast=False` insist on one of them.

    Raises:
        FileNotFoundError: there is no such folder, or no tokenizer in it.
        ValueError: the folder has two tokenizers, or the file is damaged or of a kind that is not implemented.
        ImportError: `fast=True` and `tokenizers` is not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder, so there is no tokenizer in it")
    present = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not present:
        raise FileNotFoundError(f"{folder} holds no tokenizer: neither {' nor '.join(TOKENIZER_FILES)} is there")
    if len(present) > 1:
        raise ValueError(f"{folder} holds two tokenizers, {' and '.join(present)}: keep one")
    path = folder / present[0]
    if present[0] != "tokenizer.json":
        return _read_small(path)
    if fast is None:
        fast = find_spec("tokenizers") is not None
    return FastTokenizer.from_file(path) if fast else read_tokenizer_json(path)


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
