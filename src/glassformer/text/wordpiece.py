"""WordPiece, as BERT does it: a text is cleaned and cut into words, and a word into the longest pieces that are known.

    clean:   "Café déjà-vu"  ->  cafe deja - vu              (lower case, accents off, punctuation on its own)
    encode:  "unaffable"     ->  una ##ffa ##ble             (## marks a piece that does not begin a word)

The longest piece of the vocabulary that begins the word is taken first, then the longest that goes on from there; a
word that cannot be finished is [UNK] as a whole. Nothing is lost but case, accents and white space, all three for good.

What is trained here are byte-pair merges over characters (Sennrich, Haddow and Birch 2016), the most frequent pair
first, of which the pieces are kept and the order is forgotten: so does Hugging Face's `tokenizers`. Schuster and
Nakajima instead merge the pair that raises the likelihood of the text most; Google never published its trainer.

Sources: Schuster and Nakajima 2012, "Japanese and Korean voice search", section 3; Wu et al. 2016 (arXiv 1609.08144),
section 4.1; Devlin et al. 2019 (BERT), section 3 and its `tokenization.py`.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from glassformer.text.bpe import merge_pairs
from glassformer.text.pieces import Origin, PieceTokenizer, cut_at_spaces
from glassformer.text.template import Template

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
AROUND = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
GOES_ON = "##"
LONGEST_WORD = 100  # characters; a longer one is [UNK]

# Ideographs are words of their own, Hangul and kana are not. 0x2B920 is that of `tokenizers`, BERT's own is 0x2B820.
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
               (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F))  # fmt: skip


class WordPieceTokenizer(PieceTokenizer):
    """BERT's tokenizer; equal to Hugging Face's `tokenizers` on the same vocabulary.

    What is a letter, a mark or punctuation is Python's Unicode database's to say, as in BERT. That of `tokenizers` is
    Unicode 8's: about a hundred marks of scripts that came later are punctuation here, and not there.

    Args:
        vocabulary: token -> id.
        lowercase: lower case, one character at a time.
        strip_accents: remove marks that a letter carries; None does so where `lowercase` does.
        space_ideographs: make each Chinese character a word.
        special_tokens: among the tokens of the vocabulary.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        space_ideographs: bool = True,
        added_tokens: Mapping[str, int] | None = None,
        special_tokens: Iterable[str] = SPECIAL,
        template: Template | None = None,
    ) -> None:
        if added_tokens is None:
            special_tokens = list(special_tokens)
            if missing := [token for token in special_tokens if token not in vocabulary]:
                raise ValueError(f"the vocabulary lacks the special token {missing[0]!r}")
            added_tokens = {token: vocabulary[token] for token in special_tokens}
        if template is None:
            template = Template.parse(*AROUND, {name: vocabulary[name] for name in ("[CLS]", "[SEP]")})
        super().__init__(
            vocabulary, unknown="[UNK]", added_tokens=added_tokens, special_tokens=special_tokens, template=template
        )
        self.lowercase, self.strip_accents, self.space_ideographs = lowercase, strip_accents, space_ideographs

    @classmethod
    def train(
        cls,
        text: str,
        vocab_size: int,
        *,
        special_tokens: Iterable[str] = (),
        lowercase: bool = True,
        min_count: int = 2,
        max_characters: int = 1000,
    ) -> "WordPieceTokenizer":
        """Learns pieces from `text` until there are `vocab_size` tokens; first come BERT's special ones and yours.

        Of the text's characters the `max_characters` most frequent are tokens. There are fewer tokens where no pair is
        left that occurs `min_count` times.

        Raises:
            ValueError: `vocab_size` has no room for the special tokens and the characters.
        """
        special = list(dict.fromkeys([*SPECIAL, *special_tokens]))
        empty = cls({token: index for index, token in enumerate(SPECIAL)}, lowercase=lowercase)
        counts = Counter("".join([character for character, *_ in word]) for word in empty._words(text))
        pieces = learn_pieces(counts, vocab_size - len(special), min_count, max_characters)
        tokens = {token: index for index, token in enumerate([*special, *pieces])}
        return cls(tokens, lowercase=lowercase, special_tokens=special)

    def _words(self, text: str) -> Iterator[list[Origin]]:
        for word in cut_at_spaces(self._clean(text)):
            start = 0
            for end, (character, *_) in enumerate(word):
                if is_punctuation(character) or (self.space_ideographs and is_ideograph(character)):
                    yield from (part for part in (word[start:end], word[end : end + 1]) if part)
                    start = end + 1
            if word[start:]:
                yield word[start:]

    def _clean(self, text: str) -> Iterator[Origin]:
        """Without control characters, white space as spaces, accents off and in lower case if wanted."""
        kept = (
            (" " if is_space(character) else character, place, place + 1)
            for place, character in enumerate(text)
            if is_space(character) or not is_removed(character)
        )
        strip = self.lowercase if self.strip_accents is None else self.strip_accents
        for character, start, end in decomposed(kept) if strip else kept:
            if not (strip and unicodedata.category(character) == "Mn"):
                for lower in character.lower() if self.lowercase else character:
                    yield lower, start, end

    def _cut(self, word: str) -> list[tuple[int, int]]:
        pieces: list[tuple[int, int]] = []
        start = 0
        while start < len(word):
            mark = GOES_ON if start else ""
            for end in range(len(word) if len(word) <= LONGEST_WORD else start, start, -1):
                index = self.vocabulary.get(mark + word[start:end])
                if index is not None:
                    pieces.append((index, end - start))
                    start = end
                    break
            else:
                return [(self.unknown_id, len(word))]
        return pieces

    def _join(self, pieces: list[str]) -> str:
        """Pieces joined to words, words with spaces between, none before a stop or in a short form (it 's)."""
        text = []
        for index, piece in enumerate(pieces):
            if index and piece.startswith(GOES_ON):
                piece = piece.removeprefix(GOES_ON)
            elif index:
                piece = " " + piece
            text.append(tightened(piece))
        return "".join(text)

    def to_json(self) -> str:
        from glassformer.text.piece_json import dump_wordpiece  # it knows this module: only one can be first

        return dump_wordpiece(self)


def learn_pieces(
    word_counts: Mapping[str, int], vocab_size: int, min_count: int = 2, max_characters: int = 1000
) -> list[str]:
    """The pieces of byte-pair encoding over characters: those that begin words, those that go on, then the merged."""
    characters: Counter[str] = Counter()
    for word, times in word_counts.items():
        for character in word:
            characters[character] += times
    alphabet = frozenset(character for character, _ in characters.most_common(max_characters))
    cut = [
        [GOES_ON + character if place else character for place, character in enumerate(word) if character in alphabet]
        for word in word_counts
    ]
    tokens = sorted({*alphabet, *(symbol for word in cut for symbol in word)}, key=lambda token: (len(token), token))
    if len(tokens) > vocab_size:
        raise ValueError(
            f"vocab_size leaves room for {vocab_size} pieces beside the special tokens, but the text has {len(tokens)} "
            "characters, those at a word's beginning and those within words counted apart"
        )
    ids = {token: index for index, token in enumerate(tokens)}
    words, times = [[ids[symbol] for symbol in word] for word in cut], list(word_counts.values())
    for left, right in merge_pairs(words, times, len(tokens), vocab_size, min_count):
        tokens.append(tokens[left] + tokens[right].removeprefix(GOES_ON))
    return tokens


def tightened(piece: str) -> str:
    """A word without the space before it where it is a stop or the end of a short form."""
    for ending in (" .", " ?", " !", " ,"):
        piece = piece.replace(ending, ending[1:])
    piece = piece.replace(" ' ", "'")
    for ending in (" n't", " 'm", " 's", " 've", " 're"):
        piece = piece.replace(ending, ending[1:])
    return piece


def decomposed(characters: Iterable[Origin]) -> Iterator[Origin]:
    """Unicode's form D: letters and their marks apart, marks on one letter in canonical order."""
    marks: list[Origin] = []
    for character, start, end in characters:
        for part in unicodedata.normalize("NFD", character):
            if unicodedata.combining(part):
                marks.append((part, start, end))
                continue
            yield from sorted(marks, key=lambda mark: unicodedata.combining(mark[0]))
            marks = []
            yield part, start, end
    yield from sorted(marks, key=lambda mark: unicodedata.combining(mark[0]))


def is_space(character: str) -> bool:
    """White space; of the control characters these three alone."""
    return character in "\t\n\r" or (character.isspace() and not unicodedata.category(character).startswith("C"))


def is_removed(character: str) -> bool:
    """Control and format characters, private ones, and the mark of a character that could not be read."""
    return character == "\N{REPLACEMENT CHARACTER}" or unicodedata.category(character) in ("Cc", "Cf", "Co")


def is_punctuation(character: str) -> bool:
    """Unicode's punctuation, and every ASCII character that is no letter, digit, space or control, as $ and ^."""
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")


def is_ideograph(character: str) -> bool:
    """A Chinese character, of the main block and its extensions."""
    return any(first <= ord(character) <= last for first, last in _IDEOGRAPHS)
