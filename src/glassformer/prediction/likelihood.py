"""How probable a decoder finds a text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from glassformer.metrics import perplexity
from glassformer.models.language_model import LanguageModel
from glassformer.prediction.batches import Track, predicting
from glassformer.text.loader import IGNORED
from glassformer.training.batches import padded


@dataclass(frozen=True)
class Likelihood:
    """−log p of a text in nats, over its predicted tokens: all but the first."""

    nats: float
    tokens: int

    @property
    def loss(self) -> float:
        """The mean over tokens."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.nats, self.tokens)


def windows(count: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(first, last, counted) of each window: the tokens read, and how many predictions at its end are new."""
    predicted = 0  # so many predictions are made, of tokens 1 … predicted
    for first in range(0, count - 1, stride):
        last = min(first + context, count - 1)
        yield first, last, last - predicted
        predicted = last
        if last == count - 1:
            return


def text_likelihood(
    model: LanguageModel,
    ids: Sequence[int],
    *,
    context: int,
    stride: int | None = None,
    batch_size: int = 16,
    track: Track = iter,
) -> Likelihood:
    """Σ −log p(token | the tokens before it in its window), each token but the first predicted once.

    Windows of `context` tokens begin every `stride` tokens (`context`, if not given): the smaller the stride, the more
    each prediction sees, context − stride tokens at least, and the more is computed.

    Raises:
        ValueError: fewer than two tokens, a context or stride that is not positive, a stride longer than the context,
            a context longer than the model's positions.
    """
    stride = context if stride is None else stride
    if len(ids) < 2:
        raise ValueError(f"{len(ids)} tokens are too few to evaluate on: it takes two to predict one")
    if not 1 <= stride <= context:
        raise ValueError(f"stride={stride} must lie between 1 and the context of {context} tokens")
    if model.has_position_table and context > model.config.max_positions:
        raise ValueError(
            f"a context of {context} tokens is more than the model's {model.config.max_positions} positions"
        )
    rows = list(windows(len(ids), context, stride))
    nats, tokens = 0.0, 0
    with predicting(model) as device:
        for some in track([rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]):
            inputs = padded([ids[first:last] for first, last, _ in some], 0).to(device)
            targets = padded([new_targets(ids, *row) for row in some], IGNORED).to(device)
            counted = int((targets != IGNORED).sum())
            loss = model(inputs, targets=targets).loss
            assert loss is not None
            nats, tokens = nats + loss.item() * counted, tokens + counted
    return Likelihood(nats, tokens)


def new_targets(ids: Sequence[int], first: int, last: int, new: int) -> list[int]:
    """What a window must predict: the last `new` of the tokens after its own, the others not counted again."""
    return [IGNORED] * (last - first - new) + list(ids[last - new + 1 : last + 1])
