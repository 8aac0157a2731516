"""The face that every tokenizer shows: text to token ids, and back without loss."""

import codecs
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from glassformer.foundation.atomic import atomic_file

END_OF_TEXT = "<|endoftext|>"
TOKENIZER_FILES = ("tokenizer.json", "glassformer_tokenizer.json")


class Stream(Protocol):
    """Token ids in, text out as soon as its characters are complete."""

    def push(self, token: int) -> str:
        """The characters that `token` completes, at times none."""
        ...

    def finish(self) -> str:
        """What is left when the ids end."""
        ...


class Tokenizer(ABC):
    """Text to ids in [0, vocab_size) and back.

    `special_tokens` (name to id, for example `<|endoftext|>`) are tokens with a meaning of their own. Text is read as
    text: its "<|endoftext|>" becomes the special token only where `allow_special` says so.
    """

    file_name: ClassVar[str]
    special_tokens: Mapping[str, int]

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """One more than the largest id."""

    @property
    def end_of_text(self) -> int | None:
        """The id of `<|endoftext|>`, None where the tokenizer has none."""
        return self.special_tokens.get(END_OF_TEXT)

    @property
    def fingerprint(self) -> str:
        """sha256 of what `save` writes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """The ids of `text`; nothing is added at its ends.

        Raises:
            ValueError: the text cannot be written as UTF-8, or holds a character that the tokenizer does not know.
        """
        if not isinstance(text, str):
            raise TypeError(f"encode takes text (str), not {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text holds half a character, U+{ord(text[error.start]):04X}, at position {error.start}, "
                "which UTF-8 cannot express"
            ) from error
        return self._encode(text, allow_special)

    @abstractmethod
    def _encode(self, text: str, allow_special: bool) -> list[int]: ...

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` (a list, an array or a tensor); bytes that are not UTF-8 show as U+FFFD.

        Raises:
            ValueError: an id is outside the vocabulary.
        """

    @abstractmethod
    def stream(self) -> Stream:
        """A decoder to feed id by id, which gives out complete characters only."""

    @abstractmethod
    def token_to_id(self, token: str) -> int:
        """The id of the one token that `token` is: the name of a special token, or the text of an ordinary one.

        Raises:
            KeyError: there is no such token.
        """

    @abstractmethod
    def to_json(self) -> str:
        """The tokenizer as the text that `save` writes."""

    def save(self, folder: str | Path) -> Path:
        """Writes the tokenizer into `folder`, atomically, and says where; `load_tokenizer(folder)` reads it.

        Raises:
            FileExistsError: the folder holds a tokenizer in the other format, which would make it ambiguous.
            OSError: it cannot be written.
        """
        folder = Path(folder)
        for other in TOKENIZER_FILES:
            if other != self.file_name and (folder / other).exists():
                raise FileExistsError(f"{folder} already holds a tokenizer of another format, {other}: remove it first")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / self.file_name) as file:
            file.write(self.to_json().encode())
        return folder / self.file_name


class BytesTokenizer(Tokenizer):
    """Tokenizers whose every token stands for the same bytes wherever it occurs.

    `vocabulary` maps the bytes of ordinary tokens to ids. `added_tokens` are found in the text before anything else
    and stand for their own text; those among them that are special are found only where the caller allows it.
    """

    def __init__(
        self, vocabulary: Mapping[bytes, int], added_tokens: Mapping[str, int], special_tokens: Iterable[str]
    ) -> None:
        self.vocabulary = dict(vocabulary)
        self.added_tokens = dict(added_tokens)
        self.special_tokens = {token: self.added_tokens[token] for token in special_tokens}
        self.token_bytes = {index: token for token, index in self.vocabulary.items()}
        if len(self.token_bytes) != len(self.vocabulary):
            raise ValueError(f"{len(self.vocabulary)} tokens share {len(self.token_bytes)} ids: each needs its own")
        for token, index in self.added_tokens.items():
            if not token:
                raise ValueError("an added token must not be empty text")
            if self.token_bytes.setdefault(index, token.encode()) != token.encode():
                raise ValueError(f"added token {token!r} has the id {index}, which is already taken")
        # longest first: among tokens that begin at the same place the longest is meant
        longest_first = sorted(self.added_tokens, key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @property
    def vocab_size(self) -> int:
        return max(self.token_bytes) + 1

    def _encode(self, text: str, allow_special: bool) -> list[int]:
        if self._added is None:
            return self._encode_ordinary(text, 0)
        ids, start = [], 0
        for match in self._added.finditer(text):
            if match[0] in self.special_tokens and not allow_special:
                continue
            ids += self._encode_ordinary(text[start : match.start()], start)
            ids.append(self.added_tokens[match[0]])
            start = match.end()
        return ids + self._encode_ordinary(text[start:], start)

    @abstractmethod
    def _encode_ordinary(self, text: str, position: int) -> list[int]:
        """The ids of text without added tokens, which begins at `position` of the whole (for errors to say where)."""

    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`, whether or not they are UTF-8."""
        row = one_row(ids)
        try:
            return b"".join([self.token_bytes[index] for index in row])
        except KeyError as error:
            raise ValueError(outside_vocabulary(error.args[0], self.vocab_size)) from error

    def stream(self) -> "StreamDecoder":
        return StreamDecoder(self.token_bytes)

    def token_to_id(self, token: str) -> int:
        index = self.added_tokens.get(token, self.vocabulary.get(token.encode()))
        if index is None:
            raise KeyError(f"{token!r} is not one token of this tokenizer ({len(self.token_bytes)} tokens)")
        return index


class StreamDecoder:
    """Decodes id by id. A character whose bytes are spread over several tokens appears with the last of them.

    The pieces of `push` and `finish`, joined, equal `decode` of all ids at once.
    """

    def __init__(self, token_bytes: Mapping[int, bytes]) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The characters that `token` completes, often one word, at times none."""
        index = int(token)
        if index not in self._token_bytes:
            raise ValueError(outside_vocabulary(index, max(self._token_bytes) + 1))
        return self._utf8.decode(self._token_bytes[index])

    def finish(self) -> str:
        """What is left when the ids end: U+FFFD where a character was begun and never completed."""
        return self._utf8.decode(b"", final=True)


def numbered_after(vocabulary: Mapping[bytes, int], special_tokens: Iterable[str]) -> dict[str, int]:
    """Ids for special tokens: those that follow the vocabulary's."""
    if isinstance(special_tokens, str):
        raise TypeError(f"special_tokens must be a list of names, not the one text {special_tokens!r}")
    first = len(vocabulary)
    return {token: first + index for index, token in enumerate(dict.fromkeys(special_tokens))}


def one_row(ids: Iterable[int]) -> list[int]:
    """One sequence of ids as a list, from a list, an array or a tensor."""
    row = ids.tolist() if hasattr(ids, "tolist") else ids  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(row, Iterable) or isinstance(row, str | bytes):
        raise TypeError(f"decode takes a sequence of token ids, not {row!r}")
    row = list(row)
    if row and not hasattr(row[0], "__index__"):
        raise TypeError(f"decode takes one sequence of integer ids, but its first item is {row[0]!r}")
    return [index.__index__() for index in row]  # items that are tensors are equal to their ids, but not their hashes


def outside_vocabulary(index: int, vocab_size: int) -> str:
    """The sentence that says so, the same for every tokenizer."""
    return f"token id {index} is outside the vocabulary: ids go from 0 to {vocab_size - 1}"
