"""What tokenizers have in common whose tokens are pieces of words: WordPiece and Unigram."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from glassformer.text.template import Template
from glassformer.text.tokenizer import (
    Span,
    Stream,
    Tokenizer,
    WindowStream,
    around_added,
    outside_vocabulary,
    pattern_of,
)

Origin = tuple[str, int, int]  # a character of the text as it is cleaned, and the place in the given text it comes from


_NO_SPACE = "\x1c\x1d\x1e\x1f"


class PieceTokenizer(Tokenizer):
    """Tokens are texts. `added_tokens` are found before anything else, the special ones where `encode` allows it.

    A tokenizer of this kind says how a text is cut into words (`_words`, cleaned, each character with its origin), how
    a word is cut into pieces (`_cut`), and how pieces are joined again (`_join`).
    """

    file_name = "tokenizer.json"

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        *,
        unknown: str,
        added_tokens: Mapping[str, int],
        special_tokens: Iterable[str],
        template: Template,
    ) -> None:
        self.vocabulary = dict(vocabulary)
        self.added_tokens = dict(added_tokens)
        self.special_tokens = {token: self.added_tokens[token] for token in special_tokens}
        self.template = template
        self.tokens = {index: token for token, index in self.vocabulary.items()}
        if len(self.tokens) != len(self.vocabulary):
            raise ValueError(f"{len(self.vocabulary)} tokens share {len(self.tokens)} ids: each needs its own")
        if unknown not in self.vocabulary:
            raise ValueError(f"the vocabulary lacks {unknown!r}, the token for what it cannot say")
        for token, index in self.added_tokens.items():
            if not token:
                raise ValueError("an added token must not be empty text")
            if self.tokens.setdefault(index, token) != token:
                raise ValueError(f"added token {token!r} has the id {index}, which is {self.tokens[index]!r}'s")
        self.unknown, self.unknown_id = unknown, self.vocabulary[unknown]
        self._added = pattern_of(self.added_tokens)
        self._known: dict[str, list[tuple[int, int]]] = {}

    @property
    def vocab_size(self) -> int:
        return max(self.tokens) + 1

    def _encode(self, text: str, allow_special: bool) -> list[int]:
        return self._encode_with_offsets(text, allow_special)[0]

    def _encode_with_offsets(self, text: str, allow_special: bool) -> tuple[list[int], list[Span]]:
        ids: list[int] = []
        spans: list[Span] = []
        for start, part, is_token in around_added(text, self._added, () if allow_special else self.special_tokens):
            if is_token:
                ids.append(self.added_tokens[part])
                spans.append((start, start + len(part)))
                continue
            for word in self._words(part):
                place = 0
                for index, length in self._pieces("".join([character for character, *_ in word])):
                    ids.append(index)
                    spans.append((start + word[place][1], start + word[place + length - 1][2]))
                    place += length
        return ids, spans

    def _pieces(self, word: str) -> list[tuple[int, int]]:
        """`_cut`, remembered: most words of a text come again and again."""
        if word not in self._known:
            if len(self._known) >= 100_000:
                self._known.clear()
            self._known[word] = self._cut(word)
        return self._known[word]

    @abstractmethod
    def _words(self, text: str) -> Iterator[list[Origin]]:
        """The words of a text without added tokens."""

    @abstractmethod
    def _cut(self, word: str) -> list[tuple[int, int]]:
        """The pieces of a word: of each the id and how many characters it takes."""

    @abstractmethod
    def _join(self, pieces: list[str]) -> str:
        """The text of pieces, as far as it can be told."""

    def _decode(self, row: list[int]) -> str:
        try:
            return self._join([self.tokens[index] for index in row])
        except KeyError as error:
            raise ValueError(outside_vocabulary(error.args[0], self.vocab_size)) from error

    def stream(self) -> Stream:
        return WindowStream(self)

    def token_to_id(self, token: str) -> int:
        index = self.added_tokens.get(token, self.vocabulary.get(token))
        if index is None:
            raise KeyError(f"{token!r} is not one token of this tokenizer ({len(self.tokens)} tokens)")
        return index


def cut_at_spaces(characters: Iterable[Origin]) -> Iterator[list[Origin]]:
    """The words between white space, Unicode's (Python's has four control characters more)."""
    for between, word in groupby(characters, key=lambda origin: origin[0].isspace() and origin[0] not in _NO_SPACE):
        if not between:
            yield list(word)
