"""Training of the Unigram language model: which pieces, and how probable each is.

    begin   with all substrings that are frequent, far too many
    repeat  E: how often each piece is expected, over all segmentations of each word (forward and backward sums)
            M: its probability is that count's share (slightly less, for rare ones: a Dirichlet prior)
            prune: keep the 3/4 whose removal would cost most likelihood; single characters always

Source: Kudo 2018, "Subword Regularization" (arXiv 1804.10959), section 3.2; its code, SentencePiece, for the numbers.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping

SEEDS_PER_PIECE = 10  # substrings to begin with, for each piece that is wanted
KEPT = 0.75  # of the pieces, by each pruning
ROUNDS = 2  # of expectation and maximisation between two prunings
LEAST = 0.5  # expected count below which a piece goes at once
LONGEST_WORD = 100  # characters; the rest of a longer word is another word here


def learn_pieces(word_counts: Mapping[str, int], num_pieces: int, max_length: int = 16) -> list[tuple[str, float]]:
    """The best `num_pieces` pieces with their log-probabilities, the most probable first.

    Raises:
        ValueError: there are more characters than that.
    """
    words = Counter[str]()
    for word, times in word_counts.items():
        for start in range(0, len(word), LONGEST_WORD):
            words[word[start : start + LONGEST_WORD]] += times
    characters = Counter[str]()
    for word, times in words.items():
        for character in word:
            characters[character] += times
    if len(characters) > num_pieces:
        raise ValueError(
            f"vocab_size leaves room for {num_pieces} pieces beside the special tokens, but the text has "
            f"{len(characters)} characters"
        )
    scores = seeds(words, characters, SEEDS_PER_PIECE * num_pieces, max_length)
    while True:
        for _ in range(ROUNDS):
            scores = maximised(expected(words, scores), characters)
        if len(scores) <= max(num_pieces * 1.1, len(characters)):
            break
        scores = pruned(words, scores, max(int(KEPT * len(scores)), int(num_pieces * 1.1)))
    longer = sorted((piece for piece in scores if len(piece) > 1), key=lambda piece: -scores[piece])
    kept = [*characters, *longer[: num_pieces - len(characters)]]
    return sorted(((piece, scores[piece]) for piece in kept), key=lambda item: (-item[1], item[0]))


def seeds(words: Mapping[str, int], characters: Mapping[str, int], count: int, max_length: int) -> dict[str, float]:
    """The characters, and the substrings that cover most of the text (frequency times length) and occur twice."""
    found = Counter[str]()
    for word, times in words.items():
        for start in range(len(word)):
            for end in range(start + 2, min(len(word), start + max_length) + 1):
                found[word[start:end]] += times
    covered = {piece: times * len(piece) for piece, times in found.items() if times > 1}
    best = sorted(covered, key=lambda piece: (-covered[piece], piece))[:count]
    weights = dict(characters) | {piece: covered[piece] for piece in best}
    total = math.log(sum(weights.values()))
    return {piece: math.log(weight) - total for piece, weight in weights.items()}


def arcs(word: str, scores: Mapping[str, float], longest: int) -> Iterator[tuple[int, int, str]]:
    """The pieces in a word: where each begins, where it ends, and its text, by their beginnings."""
    for start in range(len(word)):
        for end in range(start + 1, min(len(word), start + longest) + 1):
            if (piece := word[start:end]) in scores:
                yield start, end, piece


def expected(words: Mapping[str, int], scores: Mapping[str, float]) -> dict[str, float]:
    """How often each piece is expected: sum over words of times · forward[i] · p(piece) · backward[j] / forward[n].

    A factor per character, the same on every path of a word, keeps the sums within the range of a float.
    """
    longest = max(map(len, scores))
    per_character = -min(score / len(piece) for piece, score in scores.items() if len(piece) == longest)
    weights = {piece: math.exp(score + per_character * len(piece)) for piece, score in scores.items()}
    counts = dict.fromkeys(scores, 0.0)
    for word, times in words.items():
        lattice = list(arcs(word, scores, longest))
        forward = [1.0] + [0.0] * len(word)
        for start, end, piece in lattice:
            forward[end] += forward[start] * weights[piece]
        backward = [0.0] * len(word) + [1.0]
        for start, end, piece in reversed(lattice):
            through = weights[piece] * backward[end]
            backward[start] += through
            counts[piece] += times * forward[start] * through / forward[-1]
    return counts


def maximised(counts: Mapping[str, float], characters: Mapping[str, int]) -> dict[str, float]:
    """log p = ψ(count) − ψ(all counts): the mean of log p under a Dirichlet posterior, which lets rare pieces fade."""
    kept = {piece: max(count, LEAST) for piece, count in counts.items() if count >= LEAST or piece in characters}
    total = digamma(sum(kept.values()))
    return {piece: digamma(count) - total for piece, count in kept.items()}


def pruned(words: Mapping[str, int], scores: Mapping[str, float], size: int) -> dict[str, float]:
    """The characters, and the pieces whose loss is largest: by so much the log-likelihood falls without them."""
    longest = max(map(len, scores))
    used = Counter[str]()
    for word, times in words.items():
        for piece in best_path(word, scores, longest):
            used[piece] += times
    total = sum(used.values())
    losses: dict[str, float] = {}
    for piece in scores:
        times = used[piece]
        if len(piece) == 1 or not times:
            continue
        instead = best_path(piece, scores, longest, without=piece)
        then = math.log(total + times * (len(instead) - 1))
        likelihood = sum(math.log(used[part] + times) - then for part in instead)
        losses[piece] = times * (math.log(times) - math.log(total) - likelihood)
    single = [piece for piece in scores if len(piece) == 1]
    best = sorted(losses, key=lambda piece: (-losses[piece], piece))[: max(size - len(single), 0)]
    return {piece: scores[piece] for piece in [*single, *best]}


def best_path(word: str, scores: Mapping[str, float], longest: int, *, without: str | None = None) -> list[str]:
    """The most probable segmentation of a word, where `without` is no piece."""
    best = [0.0] + [-math.inf] * len(word)
    last = [""] * (len(word) + 1)
    for start, end, piece in arcs(word, scores, longest):
        if piece != without and best[start] + scores[piece] > best[end]:
            best[end], last[end] = best[start] + scores[piece], piece
    path, end = [], len(word)
    while end:
        path.append(last[end])
        end -= len(last[end])
    return path[::-1]


def digamma(x: float) -> float:
    """ψ(x), the derivative of log Γ: by ψ(x + 1) = ψ(x) + 1/x up to 6, from where its series is exact to 1e-8."""
    below = 0.0
    while x < 6:
        below -= 1 / x
        x += 1
    square = 1 / (x * x)
    return below + math.log(x) - 0.5 / x - square * (1 / 12 - square * (1 / 120 - square / 252))
