"""The same face over compiled tokenizers: Hugging Face's `tokenizers` and OpenAI's `tiktoken`, both optional."""

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from glassformer.text.bpe import CHARACTER_TO_BYTE, BPETokenizer, checked_specials
from glassformer.text.split import GPT2_PATTERN
from glassformer.text.template import Template
from glassformer.text.tokenizer import (
    END_OF_TEXT,
    BytesTokenizer,
    Span,
    Stream,
    StreamDecoder,
    Tokenizer,
    WindowStream,
    outside_vocabulary,
)


def _need(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(f"this needs the package {package!r}: pip install {package}") from error


class FastTokenizer(Tokenizer):
    """Any tokenizer that `tokenizers` can run: not only byte-level BPE, also those of Llama, BERT, T5.

    What the file puts around a text ([CLS], <s>) is `template`: `encode` adds it where `special` says so.

    Raises:
        ImportError: `tokenizers` is not installed.
    """

    file_name = "tokenizer.json"

    def __init__(self, inner: Any) -> None:
        package = _need("tokenizers")
        self.inner = inner
        inner.no_padding()
        inner.no_truncation()
        added = inner.get_added_tokens_decoder()
        self.special_tokens = {token.content: index for index, token in added.items() if token.special}
        processor = inner.post_processor  # its state is the file's JSON of it
        self.template = Template.from_json(None if processor is None else json.loads(processor.__getstate__()))
        tokens: dict[str, int] = inner.get_vocab(with_added_tokens=True)
        self._ids = frozenset(tokens.values())
        self._vocab_size = max(self._ids, default=-1) + 1
        self._token_bytes: dict[int, bytes] | None = None
        if isinstance(inner.decoder, package.decoders.ByteLevel):
            self._token_bytes = {index: _shown_bytes(token) for token, index in tokens.items()}

    @classmethod
    def from_file(cls, path: str | Path) -> "FastTokenizer":
        """Reads a `tokenizer.json` of any kind.

        Raises:
            ValueError: `tokenizers` does not accept the file.
            OSError: the file cannot be read.
        """
        content = Path(path).read_text(encoding="utf-8")
        try:
            return cls.from_json(content)
        except ImportError:
            raise
        except Exception as error:  # `tokenizers` raises bare Exception
            raise ValueError(f"{path} is not a tokenizer.json that `tokenizers` reads: {error}") from error

    @classmethod
    def from_json(cls, content: str) -> "FastTokenizer":
        """From the text of a `tokenizer.json`, of ours too. Raises what `tokenizers` raises where it is none."""
        return cls(_need("tokenizers").Tokenizer.from_str(content))

    @classmethod
    def train(
        cls, text: str, vocab_size: int, *, special_tokens: Iterable[str] = (END_OF_TEXT,), min_count: int = 2
    ) -> "FastTokenizer":
        """`BPETokenizer.train`, faster: the same merges and ids."""
        package = _need("tokenizers")
        special_tokens = checked_specials(special_tokens, vocab_size)
        inner = package.Tokenizer(package.models.BPE())
        inner.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = package.decoders.ByteLevel(add_prefix_space=False)
        trainer = package.trainers.BpeTrainer(
            vocab_size=vocab_size - len(special_tokens),
            min_frequency=min_count,
            initial_alphabet=list(CHARACTER_TO_BYTE),
            show_progress=False,
        )
        inner.train_from_iterator([text], trainer)
        added = [package.AddedToken(token, special=True, normalized=False) for token in special_tokens]
        inner.add_special_tokens(added)
        return cls(inner)

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    def _encode(self, text: str, allow_special: bool) -> list[int]:
        self.inner.encode_special_tokens = not allow_special  # theirs: "encode special tokens as plain text"
        return self.inner.encode(text, add_special_tokens=False).ids

    def _encode_with_offsets(self, text: str, allow_special: bool) -> tuple[list[int], list[Span]]:
        self.inner.encode_special_tokens = not allow_special
        encoding = self.inner.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def _decode(self, row: list[int]) -> str:
        for index in row:
            if index not in self._ids:
                raise ValueError(outside_vocabulary(index, self._vocab_size))
        return self.inner.decode(row, skip_special_tokens=False)

    def stream(self) -> Stream:
        return StreamDecoder(self._token_bytes) if self._token_bytes is not None else WindowStream(self)

    def token_to_id(self, token: str) -> int:
        index = self.inner.token_to_id(token) if token in self.special_tokens else None
        if index is None and self._token_bytes is not None:
            found = [index for index, content in self._token_bytes.items() if content == token.encode()]
            index = found[0] if found else None
        elif index is None:
            index = self.inner.token_to_id(token)
        if index is None:
            raise KeyError(f"{token!r} is not one token of this tokenizer ({len(self._ids)} tokens)")
        return index

    def to_json(self) -> str:
        return self.inner.to_str(pretty=True) + "\n"


class TiktokenTokenizer(BytesTokenizer):
    """A `BPETokenizer` run by `tiktoken`: the same ids, faster, saved as the same `tokenizer.json`.

    Raises:
        ImportError: `tiktoken` is not installed.
        ValueError: the tokenizer has what `tiktoken` cannot express.
    """

    file_name = "tokenizer.json"

    def __init__(self, plain: BPETokenizer) -> None:
        super().__init__(plain.vocabulary, plain.added_tokens, plain.special_tokens)
        package = _need("tiktoken")
        self._plain = plain
        made = [plain.vocabulary[left + right] for left, right in plain.merges]
        if made != sorted(set(made)):
            raise ValueError("tiktoken needs each merged token to come from one merge, and ids in the order of merges")
        if plain.added_tokens.keys() != plain.special_tokens.keys():
            raise ValueError("tiktoken has no added tokens but special ones")
        reachable = {bytes([byte]) for byte in range(256)} | {left + right for left, right in plain.merges}
        self._encoding = package.Encoding(
            "glassformer",
            pat_str=GPT2_PATTERN,
            mergeable_ranks={token: index for token, index in plain.vocabulary.items() if token in reachable},
            special_tokens=dict(plain.special_tokens),
        )

    def _encode(self, text: str, allow_special: bool) -> list[int]:
        return self._encoding.encode(text, allowed_special="all") if allow_special else self._encode_ordinary(text, 0)

    def _encode_ordinary(self, text: str, position: int) -> list[int]:
        return self._encoding.encode_ordinary(text)

    def to_json(self) -> str:
        return self._plain.to_json()


def _shown_bytes(token: str) -> bytes:
    """The bytes of a byte-level token; an added token that is not written in their alphabet is its own text."""
    if CHARACTER_TO_BYTE.keys() >= set(token):
        return bytes([CHARACTER_TO_BYTE[character] for character in token])
    return token.encode()
