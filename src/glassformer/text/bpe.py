"""Byte-level byte-pair encoding, as GPT-2 does it, written to be read.

Text is bytes (UTF-8), and every byte is a token: nothing is ever unknown. Training looks for the two neighbouring
tokens that occur together most often, makes one new token of them, and repeats. Encoding repeats the same merges
in the same order. Neighbours are sought within words only (`split.py`), so no token runs across a word's end.

    train:   "low low lower"  ->  lo, low, " low", ...        (the merges, in order of their discovery)
    encode:  " lowest"        ->  " low" "e" "s" "t"

Sources: Sennrich, Haddow and Birch 2016 (arXiv 1508.07909), algorithm 1; Radford et al. 2019 (GPT-2), section 2.2.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

from glassformer.text.split import split
from glassformer.text.tokenizer import END_OF_TEXT, BytesTokenizer, numbered_after

Pair = tuple[int, int]

_LONG_WORD = 50  # symbols; from here on the heap is faster than looking through all pairs again
_CACHED_WORDS = 100_000


def _byte_to_character() -> dict[int, str]:
    """How GPT-2 shows any byte as a visible character: itself where Latin-1 prints it, else one from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + index) for index, byte in enumerate(hidden)}


BYTE_TO_CHARACTER = _byte_to_character()
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}
# The ids of the single bytes, in GPT-2 and here: "!" is 0.
_FIRST_TOKENS = {bytes([byte]): index for index, byte in enumerate(BYTE_TO_CHARACTER)}


class BPETokenizer(BytesTokenizer):
    """Byte-level BPE with GPT-2's pattern; equal to Hugging Face's `tokenizers` on the same `tokenizer.json`.

    `vocabulary` maps bytes to ids and holds all 256 single bytes; `merges` are the pairs to join, the first one first;
    `added_tokens` are found before anything else, those named in `special_tokens` only where `encode` allows it.
    """

    file_name = "tokenizer.json"

    def __init__(
        self,
        vocabulary: Mapping[bytes, int],
        merges: Iterable[tuple[bytes, bytes]],
        *,
        added_tokens: Mapping[str, int] | None = None,
        special_tokens: Iterable[str] = (),
    ) -> None:
        super().__init__(vocabulary, added_tokens or {}, special_tokens)
        self.merges = list(merges)
        for byte in range(256):
            if bytes([byte]) not in self.vocabulary:
                raise ValueError(f"the vocabulary lacks the single byte 0x{byte:02x}, so not every text can be encoded")
        for left, right in self.merges:
            for token in (left, right, left + right):
                if token not in self.vocabulary:
                    raise ValueError(f"the merge of {left!r} and {right!r} needs {token!r}: not in the vocabulary")
        self._byte_ids = [self.vocabulary[bytes([byte])] for byte in range(256)]
        self._rules = {
            (self.vocabulary[left], self.vocabulary[right]): (rank, self.vocabulary[left + right])
            for rank, (left, right) in enumerate(self.merges)
        }
        self._words: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls, text: str, vocab_size: int, *, special_tokens: Iterable[str] = (END_OF_TEXT,), min_count: int = 2
    ) -> "BPETokenizer":
        """Learns merges from `text` until there are `vocab_size` tokens, the special ones (with the last ids) included.

        There are fewer where no pair is left that occurs `min_count` times: `tokenizer.vocab_size` tells.

        Raises:
            ValueError: `vocab_size` has no room for the 256 bytes and the special tokens.
        """
        special_tokens = checked_specials(special_tokens, vocab_size)
        vocabulary, merges = learn_merges(Counter(split(text)), vocab_size - len(special_tokens), min_count)
        added = numbered_after(vocabulary, special_tokens)
        return cls(vocabulary, merges, added_tokens=added, special_tokens=added)

    def _encode_ordinary(self, text: str, position: int) -> list[int]:
        ids: list[int] = []
        for word in split(text):
            known = self._words.get(word)  # most words of a text come again and again
            ids += self._encode_word(word) if known is None else known
        return ids

    def _encode_word(self, word: str) -> list[int]:
        symbols = [self._byte_ids[byte] for byte in word.encode()]
        ids = (apply_rules if len(symbols) < _LONG_WORD else apply_rules_to_long)(symbols, self._rules)
        if len(self._words) >= _CACHED_WORDS:
            self._words.clear()
        self._words[word] = ids
        return ids

    def to_json(self) -> str:
        from glassformer.text.tokenizer_json import dump_tokenizer  # it knows this module: only one can be first

        return dump_tokenizer(self)


def checked_specials(special_tokens: Iterable[str], vocab_size: int) -> list[str]:
    """The names of the special tokens, after a look at whether `vocab_size` has room for them and the 256 bytes."""
    names = list(numbered_after({}, special_tokens))
    if vocab_size < 256 + len(names):
        raise ValueError(f"vocab_size={vocab_size} has no room for 256 bytes and {len(names)} special tokens")
    return names


def learn_merges(
    word_counts: Mapping[str, int], vocab_size: int, min_count: int = 2
) -> tuple[dict[bytes, int], list[tuple[bytes, bytes]]]:
    """The vocabulary and merges of byte-pair encoding, from how often each word occurs."""
    vocabulary = dict(_FIRST_TOKENS)
    tokens = list(vocabulary)
    merges: list[tuple[bytes, bytes]] = []
    words = [[vocabulary[bytes([byte])] for byte in word.encode()] for word in word_counts]
    for first, second in merge_pairs(words, list(word_counts.values()), len(tokens), vocab_size, min_count):
        left, right = tokens[first], tokens[second]
        merges.append((left, right))
        vocabulary[left + right] = len(tokens)  # always bytes not seen before: equal bytes are merged equally
        tokens.append(left + right)
    return vocabulary, merges


def merge_pairs(
    words: list[list[int]], times: list[int], num_symbols: int, vocab_size: int, min_count: int
) -> list[Pair]:
    """The pairs of symbols that byte-pair encoding merges, in order; each makes the next symbol, up to `vocab_size`.

    `words` are rows of symbols below `num_symbols`, which are merged in place, and `times` how often each occurs.
    Pairs are counted once. A merge then changes only the counts of pairs in the words that hold it, and `places` knows
    which those are. The heap has every pair under a count that may be out of date, but never too low.
    Of pairs equally frequent the one with the smaller symbols goes first.
    """
    merged: list[Pair] = []
    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            counts[pair] += times[index]
            places[pair].add(index)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)

    while heap and num_symbols + len(merged) < vocab_size:
        promised, pair = heappop(heap)
        count = counts[pair]
        if count < min_count:
            continue
        if count != -promised:  # out of date: back into the queue under its true count
            heappush(heap, (-count, pair))
            continue
        new = num_symbols + len(merged)
        merged.append(pair)
        risen = set()
        for index in places.pop(pair):
            for old in pairwise(words[index]):
                counts[old] -= times[index]
            words[index] = join(words[index], pair, new)
            for now in pairwise(words[index]):
                counts[now] += times[index]
                if new in now:
                    places[now].add(index)
                    risen.add(now)
        for now in risen:
            heappush(heap, (-counts[now], now))
    return merged


def join(symbols: list[int], pair: Pair, new: int) -> list[int]:
    """`symbols` with every occurrence of `pair`, from left to right, replaced by `new`."""
    joined, index = [], 0
    while index < len(symbols):
        if symbols[index] == pair[0] and index + 1 < len(symbols) and symbols[index + 1] == pair[1]:
            joined.append(new)
            index += 2
        else:
            joined.append(symbols[index])
            index += 1
    return joined


def apply_rules(symbols: list[int], rules: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Joins the neighbours whose rule (rank, new token) comes first, the leftmost first, until no rule applies."""
    symbols = list(symbols)
    while found := [(rules[pair], index) for index, pair in enumerate(pairwise(symbols)) if pair in rules]:
        (_, new), index = min(found)
        symbols[index : index + 2] = [new]
    return symbols


def apply_rules_to_long(symbols: list[int], rules: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """`apply_rules` in n log n steps instead of n², for words that are a page long (a line of dashes, Chinese, base64).

    Symbols stay where they are, linked to their neighbours; one that was joined to the symbol before becomes -1.
    """
    row = list(symbols)
    before = list(range(-1, len(row) - 1))
    after = list(range(1, len(row) + 1))
    heap: list[tuple[int, int, Pair, int]] = []

    def offer(left: int, right: int) -> None:
        if left >= 0 and right < len(row):
            pair = (row[left], row[right])
            if pair in rules:
                rank, new = rules[pair]
                heappush(heap, (rank, left, pair, new))

    for left in range(len(row) - 1):
        offer(left, left + 1)
    while heap:
        _, left, pair, new = heappop(heap)
        right = after[left]
        if right == len(row) or (row[left], row[right]) != pair:
            continue  # one of the two has been joined to another symbol since
        row[left], row[right] = new, -1
        after[left] = after[right]
        if after[left] < len(row):
            before[after[left]] = left
        offer(before[left], left)
        offer(left, after[left])
    return [symbol for symbol in row if symbol != -1]
