"""Span corruption: runs of tokens are taken out of a text, and the model says what stood there.

Raffel et al. 2020 ("T5"), section 3.1.4 and figure 2: each run is replaced by a sentinel token of its own; the target
is the sentinels, each with what it stands for, and one more sentinel at the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from glassformer.text import Tokenizer, TokenLoader, cached_tokens, load_corpus
from glassformer.training.batches import Batch, Rows, cut
from glassformer.training.readers import Readers
from glassformer.training.tasks.heads import encoder_decoder
from glassformer.training.tasks.sources import ENDS, seq2seq_settings
from glassformer.training.tasks.task import Measures, Prepared, Task, Validation, make_tokenizer, special_ids

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

SENTINEL = "<extra_id_{}>"  # as T5's vocabulary calls them


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """What is taken out of rows of `length` tokens: always as many tokens, in as many runs, so that nothing is padded.

    `num_hidden` = rate · length tokens, in `num_spans` = num_hidden / mean_span runs, both rounded.
    """

    length: int
    num_hidden: int
    num_spans: int
    sentinels: tuple[int, ...]
    eos: int

    @property
    def source_length(self) -> int:
        """Of the inputs: what stays, a sentinel for each run, and the end."""
        return self.length - self.num_hidden + self.num_spans + 1

    @property
    def target_length(self) -> int:
        """Of the targets: what was taken out, a sentinel before each run, one more, and the end."""
        return self.num_hidden + self.num_spans + 2

    def __call__(self, windows: NDArray[np.int64], random: np.random.Generator) -> Batch:
        """(b, length) tokens as inputs (b, source_length) and labels (b, target_length)."""
        pairs = [self.corrupt(row, random) for row in windows]
        inputs, labels = (torch.tensor(np.stack(side)) for side in zip(*pairs, strict=True))
        return Batch(
            inputs={"input_ids": inputs, "labels": labels},
            target="labels",
            units=inputs.numel() + labels.numel(),
        )

    def corrupt(
        self, row: NDArray[np.int64], random: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One row's input and target."""
        source: list[NDArray[np.int64]] = []
        target: list[NDArray[np.int64]] = []
        hidden = pieces(self.num_hidden, self.num_spans, random)
        # Runs have at least one token between them; there may be none before the first and after the last.
        kept = pieces(self.length - self.num_hidden + 2, self.num_spans + 1, random)
        kept[[0, -1]] -= 1
        start = 0
        for stays, goes, sentinel in zip(kept, hidden, self.sentinels, strict=False):
            source += [row[start : start + stays], np.array([sentinel])]
            target += [np.array([sentinel]), row[start + stays : start + stays + goes]]
            start += stays + goes
        source += [row[start:], np.array([self.eos])]
        target += [np.array([self.sentinels[self.num_spans], self.eos])]
        return np.concatenate(source), np.concatenate(target)

    def restore(self, source: Sequence[int], target: Sequence[int]) -> list[int]:
        """The text again: each sentinel of the source replaced by what follows it in the target."""
        sentinels, spans, current = set(self.sentinels), {}, None
        for token in target:
            if token in sentinels:
                current = spans.setdefault(token, [])
            elif current is not None and token != self.eos:
                current.append(token)
        return [t for token in source if token != self.eos for t in (spans.get(token, []) if token in sentinels
                                                                     else [token])]  # fmt: skip


def pieces(total: int, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """`total` cut into `count` pieces of at least 1, every way equally likely."""
    cuts = np.sort(random.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


class CorruptedRows(Validation):
    """The validation text in rows, the same tokens taken out each time."""

    def __init__(self, rows: list[NDArray[np.int64]], corruption: Corruption, tokenizer: Tokenizer) -> None:
        self.rows, self.corruption, self.tokenizer = rows, corruption, tokenizer

    def batches(self) -> Iterable[Batch]:
        return (self.corruption(rows, np.random.default_rng([i, 0])) for i, rows in enumerate(self.rows))

    def keep(self, batch: Batch, output: Any) -> Any:
        """How many target tokens are right where all before them are given."""
        labels = batch.inputs["labels"]
        best = output.logits.argmax(-1).cpu()
        return (best == labels).sum().item(), labels.numel(), [t[0].tolist() for t in (*batch.inputs.values(), best)]

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        """The share of right target tokens, and a row with what stands for its sentinels."""
        right, counted = (sum(each[i] for each in kept) for i in (0, 1))
        source, target, best = (self.tokenizer.decode(row) for row in kept[0][2])
        usual = super().measure(model, loss, kept, final=final).metrics
        lines = (f"text: {source[:110]!r}", f"hidden: {target[:110]!r}", f"found: {best[:110]!r}")
        return Measures(metrics=usual | {"accuracy": right / max(counted, 1)}, examples=lines)


@dataclass(frozen=True, kw_only=True)
class Denoising(Task):
    """An encoder-decoder learns to fill the gaps in the windows of a text."""

    rate: float = 0.15  # of the tokens, how many are taken out
    mean_span: float = 3.0  # how many at a time

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        data = recipe.texts
        corpus = load_corpus(data.corpus)
        names = [SENTINEL.format(i) for i in range(self.spans(data.context) + 1)]
        tokenizer = readers.tokenizer or make_tokenizer(recipe, corpus, (*ENDS, *names))
        corruption = self.corruption(data.context, tokenizer)
        train, held_out = cached_tokens(corpus.train, tokenizer), cached_tokens(corpus.validation, tokenizer)
        windows = TokenLoader(train, batch_size=data.batch_size, length=data.context, seed=recipe.training.seed)
        count = len(held_out) // data.context
        if not count:
            raise ValueError(f"{data.corpus}: {len(held_out)} tokens to validate on are fewer than a row of "
                             f"{data.context}; take a longer text or a shorter [data] context")  # fmt: skip
        rows = np.asarray(held_out.tokens[: count * data.context], dtype=np.int64).reshape(count, data.context)
        return Prepared(
            readers=Readers(tokenizer=tokenizer),
            batches=Rows(windows, lambda batch, random: corruption(batch.inputs.numpy(), random)),
            validation=CorruptedRows(cut(rows, recipe.evaluation.batch_size), corruption, tokenizer),
            data=f"{data.corpus}: {len(train):,} tokens, {len(held_out):,} more to validate on",
        )

    def spans(self, context: int) -> int:
        """How many runs are taken out of so many tokens."""
        return max(1, round(round(context * self.rate) / self.mean_span))

    def corruption(self, context: int, tokenizer: Tokenizer) -> Corruption:
        """What is done to rows of `context` tokens."""
        spans = self.spans(context)
        try:
            sentinels = tuple(tokenizer.token_to_id(SENTINEL.format(i)) for i in range(spans + 1))
        except KeyError as error:
            raise ValueError(f"the task 'denoising' needs {spans + 1} sentinels, and the tokenizer has no "
                             f"{error.args[0]}") from error  # fmt: skip
        hidden = max(spans, round(context * self.rate))
        return Corruption(length=context, num_hidden=hidden, num_spans=spans, sentinels=sentinels,
                          **special_ids(tokenizer, "denoising", "eos"))  # fmt: skip

    def build(self, config: Any) -> Any:
        return encoder_decoder(config, "denoising")

    def model_settings(self, recipe: "Recipe", readers: Readers) -> dict[str, Any]:
        return seq2seq_settings(recipe, readers.tokenizer, "denoising")

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> None:
        """Source and target pass through different parts."""

    def check(self, recipe: "Recipe") -> None:
        if not 0 < self.rate < 1 or not self.mean_span >= 1:
            raise ValueError(f"[task] rate={self.rate} must lie between 0 and 1, and mean_span={self.mean_span} be 1 "
                             "or more")  # fmt: skip
        context = recipe.texts.context
        if context - max(1, round(context * self.rate)) < self.spans(context):
            raise ValueError(f"[data] context={context} is too short to take out {self.rate:.0%} of it")

    def next_command(self, folder: Any) -> str:
        return f"glassformer eval --model {folder}"
