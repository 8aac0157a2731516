"""Unigram language model segmentation, as SentencePiece does it and T5 uses it.

Every piece has a probability, a segmentation that of its pieces multiplied, and a word is cut into the most probable:

    "▁unaffable"  ->  ▁un  aff  able        for  log p(▁un) + log p(aff) + log p(able)  is the largest of all sums

▁ (U+2581) stands for the space before a word, so joined pieces are the text again but for doubled and outer white
space, and for what Unicode's form NFKC makes equal. Training, in `unigram_training`, goes the other way: from all
substrings that are frequent it removes those that are missed least.

Source: Kudo 2018, "Subword Regularization" (arXiv 1804.10959), section 3; Kudo and Richardson 2018 (SentencePiece).
"""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from random import Random

from glassformer.text.pieces import Origin, PieceTokenizer, cut_at_spaces
from glassformer.text.template import Template
from glassformer.text.tokenizer import around_added, whole_characters
from glassformer.text.unigram_training import learn_pieces

MARK = "\N{LOWER ONE EIGHTH BLOCK}"
UNKNOWN_PENALTY = 10.0  # a character that is no piece is so much less likely than the least likely piece, as theirs

Arc = tuple[int, int, int, float]  # a piece in a word: where it begins and ends, its id, its log-probability


class UnigramTokenizer(PieceTokenizer):
    """Pieces with log-probabilities; equal to Hugging Face's `tokenizers` on the same pieces.

    Args:
        pieces: texts and their log-probabilities; the place in the list is the id.
        unknown: the piece for characters that are none; several in a row are one.
        normalize: bring the text into Unicode's form NFKC before.
    """

    def __init__(
        self,
        pieces: Iterable[tuple[str, float]],
        *,
        unknown: str = "<unk>",
        normalize: bool = True,
        added_tokens: Mapping[str, int] | None = None,
        special_tokens: Iterable[str] = (),
        template: Template | None = None,
    ) -> None:
        pieces = list(pieces)
        self.scores = dict(pieces)
        if len(self.scores) != len(pieces):
            twice = Counter(piece for piece, _ in pieces).most_common(1)[0][0]
            raise ValueError(f"the piece {twice!r} is in the vocabulary twice")
        if bad := [piece for piece, score in pieces if not math.isfinite(score) or not piece]:
            raise ValueError(f"the piece {bad[0]!r} needs a text, and a finite log-probability")
        super().__init__(
            {piece: index for index, (piece, _) in enumerate(pieces)}, unknown=unknown,
            added_tokens=added_tokens or {}, special_tokens=special_tokens, template=template or Template(),
        )  # fmt: skip
        self.normalize = normalize
        self._unknown_score = min(self.scores.values()) - UNKNOWN_PENALTY
        self._longest = max(map(len, self.scores))

    @classmethod
    def train(
        cls,
        text: str,
        vocab_size: int,
        *,
        special_tokens: Iterable[str] = ("<pad>", "</s>"),
        normalize: bool = True,
        max_length: int = 16,
    ) -> "UnigramTokenizer":
        """Learns pieces from `text`: <unk>, every character, and the longer ones that help most, then `special_tokens`.

        A `</s>` among these is put behind each text, as T5 does. There are fewer pieces than asked for where the text
        has no more substrings that occur twice.

        Raises:
            ValueError: `vocab_size` has no room for the characters and the special tokens.
        """
        special_tokens = [token for token in dict.fromkeys(special_tokens) if token != "<unk>"]
        empty = cls([("<unk>", 0.0)], normalize=normalize)
        counts = Counter("".join([character for character, *_ in word]) for word in empty._words(text))
        learned = learn_pieces(counts, vocab_size - 1 - len(special_tokens), max_length)
        pieces = [("<unk>", 0.0), *learned]
        added = {"<unk>": 0} | {token: len(pieces) + index for index, token in enumerate(special_tokens)}
        end = Template.parse("$A </s>", "$A </s> $B </s>", {"</s>": added["</s>"]}) if "</s>" in added else None
        return cls(pieces, normalize=normalize, added_tokens=added, special_tokens=added, template=end)

    def sample(self, text: str, random: Random, *, alpha: float = 0.1, allow_special: bool = False) -> list[int]:
        """Ids of a segmentation drawn from P(segmentation)^alpha, normalised: all are equally likely at alpha = 0.

        Drawn anew in each epoch, a model sees many ways to write a text ("subword regularization", section 3.1 there).
        """
        ids: list[int] = []
        for _, part, is_token in around_added(
            whole_characters(text), self._added, () if allow_special else self.special_tokens
        ):
            if is_token:
                ids.append(self.added_tokens[part])
                continue
            for word in self._words(part):
                ids += [index for index, _ in self._draw("".join([character for character, *_ in word]), random, alpha)]
        return ids

    def _words(self, text: str) -> Iterator[list[Origin]]:
        characters = normalized(text) if self.normalize else ((c, place, place + 1) for place, c in enumerate(text))
        for word in cut_at_spaces(characters):
            if word[0][0] != MARK:
                word = [(MARK, *word[0][1:]), *word]
            starts = [place for place, (character, *_) in enumerate(word) if character == MARK]
            for start, end in zip(starts, [*starts[1:], len(word)], strict=True):
                yield word[start:end]

    def _arcs(self, word: str, start: int) -> Iterator[Arc]:
        """The pieces that begin at `start`, the shortest first; the unknown one where the character is none."""
        if word[start] not in self.scores:
            yield start, start + 1, self.unknown_id, self._unknown_score
        for end in range(start + 1, min(len(word), start + self._longest) + 1):
            piece = word[start:end]
            if piece in self.scores:
                yield start, end, self.vocabulary[piece], self.scores[piece]

    def _cut(self, word: str) -> list[tuple[int, int]]:
        """Viterbi: best[j] = max over pieces that end at j of best[i] + log p; of equal ones the longest piece."""
        best = [0.0] + [-math.inf] * len(word)
        last: list[Arc | None] = [None] * (len(word) + 1)
        for start in range(len(word)):
            for arc in sorted(self._arcs(word, start), key=lambda arc: arc[2] == self.unknown_id):
                _, end, _, score = arc
                if best[start] + score > best[end]:
                    best[end], last[end] = best[start] + score, arc
        return self._joined(last_to_first(last))

    def _draw(self, word: str, random: Random, alpha: float) -> list[tuple[int, int]]:
        """Backwards from the end: the piece before is drawn by the sum over all paths to it (a forward pass)."""
        total = [0.0] + [-math.inf] * len(word)
        into: list[list[Arc]] = [[] for _ in range(len(word) + 1)]
        for start in range(len(word)):
            for arc in self._arcs(word, start):
                into[arc[1]].append(arc)
                paths = total[start] + alpha * arc[3]
                high, low = max(total[arc[1]], paths), min(total[arc[1]], paths)
                total[arc[1]] = high + math.log1p(math.exp(low - high))
        arcs, end = [], len(word)
        while end:
            weights = [math.exp(total[start] + alpha * score - total[end]) for start, _, _, score in into[end]]
            arcs.append(random.choices(into[end], weights)[0])
            end = arcs[-1][0]
        return self._joined(arcs)

    def _joined(self, backwards: list[Arc]) -> list[tuple[int, int]]:
        pieces: list[tuple[int, int]] = []
        for start, end, index, _ in reversed(backwards):
            if index == self.unknown_id and pieces and pieces[-1][0] == self.unknown_id:
                pieces[-1] = (index, pieces[-1][1] + end - start)
            else:
                pieces.append((index, end - start))
        return pieces

    def _join(self, pieces: list[str]) -> str:
        if not pieces:
            return ""
        return pieces[0].replace(MARK, "") + "".join(pieces[1:]).replace(MARK, " ")

    def to_json(self) -> str:
        from glassformer.text.piece_json import dump_unigram  # it knows this module: only one can be first

        return dump_unigram(self)


def last_to_first(last: list[Arc | None]) -> list[Arc]:
    """The best path, read backwards from the end of the word."""
    path, arc = [], last[-1]
    while arc is not None:
        path.append(arc)
        arc = last[arc[0]]
    return path


def normalized(text: str) -> Iterator[Origin]:
    """Unicode's form NFKC, character by character, each with the characters it comes from."""
    start = 0
    while start < len(text):
        end, form = start + 1, unicodedata.normalize("NFKC", text[start])
        while end < len(text) and (joined := joins(form, text[end])) is not None:
            form, end = joined, end + 1
        given = text[start:end]
        form = form if len(given) == 1 else unicodedata.normalize("NFKC", given)
        if form == given:
            yield from ((character, place, place + 1) for place, character in enumerate(given, start))
        else:
            yield from ((character, start, end) for character in form)
        start = end


def joins(before: str, character: str) -> str | None:
    """What `before` (in form NFKC) becomes together with the next character, None where that stays apart."""
    if character.isascii():
        return None
    own = unicodedata.normalize("NFKC", character)
    both = unicodedata.normalize("NFKC", before + character)
    mark = unicodedata.combining(unicodedata.normalize("NFKD", character)[0])
    return both if mark or both != before + own else None
