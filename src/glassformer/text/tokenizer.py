"""The face that every tokenizer shows: text to token ids, and back without loss."""

import codecs
import hashlib
import json
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from glassformer.foundation.atomic import atomic_file
from glassformer.text.special import TOKENIZER_CONFIG, special_ids, token_names
from glassformer.text.template import Template

END_OF_TEXT = "<|endoftext|>"
FORMATS = (  # files that are a tokenizer, ours or a published one's; of several the first is taken
    "glassformer_tokenizer.json",
    "tokenizer.json",
    "source.spm",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
)
BESIDE = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
TOKENIZER_FILES = (*FORMATS, *BESIDE, "target.spm", "target_vocab.json", "merges.txt")
"""Every file of a folder that belongs to its tokenizer."""

Span = tuple[int, int]  # where in the text a token comes from: characters, from the first to behind the last


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
    text: its "<|endoftext|>" becomes the special token only where `allow_special` says so. `template` says what models
    expect around a text, as [CLS] and [SEP]; it is put there only where `special` says so. `config` is what the
    folder's `tokenizer_config.json` says beside.
    """

    file_name: str
    special_tokens: Mapping[str, int]
    template: Template = Template()
    config: Mapping[str, Any] = {}

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """One more than the largest id."""

    @property
    def special(self) -> dict[str, int]:
        """The ids of the roles pad, unk, cls, sep, mask, bos and eos, of those that the tokenizer has a token for."""
        return special_ids(self)

    @property
    def end_of_text(self) -> int | None:
        """The id of the token that ends a text (`</s>`, `<|endoftext|>`), None where the tokenizer has none."""
        return self.special.get("eos")

    @property
    def beginning(self) -> list[int]:
        """The ids that stand before each text, as Llama's <s>; mostly none."""
        return self.template.around([])[0][: self.template.lengths()[0]]

    @property
    def fingerprint(self) -> str:
        """sha256 of what `save` writes."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files().items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    def encode(self, text: str, *, allow_special: bool = False, special: bool = False) -> list[int]:
        """The ids of `text`; `special` puts around them what models expect there, nothing is added otherwise.

        Raises:
            ValueError: the text cannot be written as UTF-8, or holds a character that the tokenizer does not know.
        """
        ids = self._encode(whole_characters(text), allow_special)
        return self.template.around(ids)[0] if special else ids

    def encode_pair(self, first: str, second: str, *, allow_special: bool = False) -> tuple[list[int], list[int]]:
        """The ids of two texts with what stands around them, and the token type of each: [CLS] a [SEP] b [SEP]."""
        texts = [self.encode(text, allow_special=allow_special) for text in (first, second)]
        return self.template.around(*texts)

    def encode_with_offsets(
        self, text: str, *, allow_special: bool = False, special: bool = False
    ) -> tuple[list[int], list[Span]]:
        """The ids of `text`, and for each which characters of it the token stands for: `text[start:end]`.

        Tokens around the text have (0, 0). Tokens that share one character (bytes of it) all have that character.
        """
        ids, spans = self._encode_with_offsets(whole_characters(text), allow_special)
        if not special:
            return ids, spans
        before, after = self.template.lengths()
        return self.template.around(ids)[0], [(0, 0)] * before + spans + [(0, 0)] * after

    @abstractmethod
    def _encode(self, text: str, allow_special: bool) -> list[int]: ...

    @abstractmethod
    def _encode_with_offsets(self, text: str, allow_special: bool) -> tuple[list[int], list[Span]]: ...

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """The text of `ids` (a list, an array or a tensor); bytes that are not UTF-8 show as U+FFFD.

        `skip_special` leaves the special tokens out.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        row = one_row(ids)
        if skip_special:
            special = frozenset(self.special_tokens.values())
            row = [index for index in row if index not in special]
        return self._decode(row)

    @abstractmethod
    def _decode(self, row: list[int]) -> str: ...

    @abstractmethod
    def stream(self) -> Stream:
        """A decoder to feed id by id, which gives out complete characters only."""

    @abstractmethod
    def token_to_id(self, token: str) -> int:
        """The id of the one token that `token` is: the name of a special token, or the text of an ordinary one.

        Raises:
            KeyError: there is no such token.
        """

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The text of a conversation as the model was trained to see it; encode it with `allow_special=True`.

        Arguments and errors are those of `glassformer.text.chat.render`.
        """
        from glassformer.text.chat import render, template_of

        names = token_names(self)
        return render(template_of(self.config), messages, add_generation_prompt, names | variables)

    @abstractmethod
    def to_json(self) -> str:
        """The tokenizer itself, without `config`, as text."""

    def files(self) -> dict[str, bytes]:
        """What `save` writes: names and contents.

        Beside a `tokenizer.json` lies a `tokenizer_config.json`, which says to others which tokens have which role.
        """
        files = {self.file_name: self.to_json().encode()}
        if self.file_name == "tokenizer.json":
            files[TOKENIZER_CONFIG] = self._config_file("PreTrainedTokenizerFast")
        return files

    def _config_file(self, tokenizer_class: str) -> bytes:
        content = {"tokenizer_class": tokenizer_class, **token_names(self), **self.config}
        return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()

    def save(self, folder: str | Path) -> Path:
        """Writes the tokenizer into `folder`, atomically, and says where; `load_tokenizer(folder)` reads it.

        Raises:
            FileExistsError: the folder holds a tokenizer in another format, which would make it ambiguous.
            OSError: it cannot be written.
        """
        folder, files = Path(folder), self.files()
        for other in FORMATS:
            if other not in files and (folder / other).exists():
                raise FileExistsError(f"{folder} already holds a tokenizer of another format, {other}: remove it first")
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in reversed(files.items()):  # the tokenizer itself last
            with atomic_file(folder / name) as file:
                file.write(content)
        for stale in BESIDE:
            if stale not in files:
                (folder / stale).unlink(missing_ok=True)
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
        self._added = pattern_of(self.added_tokens)

    @property
    def vocab_size(self) -> int:
        return max(self.token_bytes) + 1

    def _encode(self, text: str, allow_special: bool) -> list[int]:
        if self._added is None:
            return self._encode_ordinary(text, 0)
        ids: list[int] = []
        for start, piece, is_token in around_added(text, self._added, () if allow_special else self.special_tokens):
            ids += [self.added_tokens[piece]] if is_token else self._encode_ordinary(piece, start)
        return ids

    def _encode_with_offsets(self, text: str, allow_special: bool) -> tuple[list[int], list[Span]]:
        ids = self._encode(text, allow_special)
        ends = list(accumulate([len(character.encode()) for character in text]))  # in bytes, of each character
        spans, place = [], 0
        for index in ids:
            after = place + len(self.token_bytes[index])
            spans.append((bisect_right(ends, place), bisect_right(ends, after - 1) + 1))
            place = after
        return ids, spans

    @abstractmethod
    def _encode_ordinary(self, text: str, position: int) -> list[int]:
        """The ids of text without added tokens, which begins at `position` of the whole (for errors to say where)."""

    def _decode(self, row: list[int]) -> str:
        return self.decode_bytes(row).decode("utf-8", errors="replace")

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


class WindowStream:
    """Streaming where a token's text depends on those before it (SentencePiece drops the first space, bytes join up).

    Only the ids since the last complete piece, with that piece as context, are decoded again at each step.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """The characters that `token` completes."""
        self._pending.append(int(token))
        text = self._new_text()
        if not text or text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        self._context, self._pending = self._pending, []
        return text

    def finish(self) -> str:
        """What is left when the ids end."""
        text = self._new_text()
        self._context, self._pending = [], []
        return text

    def _new_text(self) -> str:
        seen = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._pending)[len(seen) :]


def whole_characters(text: str) -> str:
    """`text`, after a look at whether it can be encoded at all."""
    if not isinstance(text, str):
        raise TypeError(f"encode takes text (str), not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds half a character, U+{ord(text[error.start]):04X}, at position {error.start}, "
            "which UTF-8 cannot express"
        ) from error
    return text


def pattern_of(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """What finds any of `tokens`: among those that begin at the same place the longest is meant."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def around_added(
    text: str, added: re.Pattern[str] | None, refused: Iterable[str] = ()
) -> Iterator[tuple[int, str, bool]]:
    """`text` cut at its added tokens but those `refused`: where each piece begins, the piece, whether it is a token."""
    start, refused = 0, frozenset(refused)
    for match in () if added is None else added.finditer(text):
        if match[0] not in refused:
            yield start, text[start : match.start()], False
            yield match.start(), match[0], True
            start = match.end()
    yield start, text[start:], False


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
