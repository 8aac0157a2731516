"""Masked language modelling: some tokens of a text are hidden, and predicted from those on both sides.

Devlin et al. 2018 ("BERT"), section 3.1, task 1; drawn anew each time a row is seen, as Liu et al. 2019 ("RoBERTa"),
section 4.1, do; without their next-sentence task.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glassformer.ops.cross_entropy import IGNORE, reference
from glassformer.text import Tokenizer, TokenLoader, cached_tokens, load_corpus
from glassformer.text.loader import IGNORED
from glassformer.training.batches import Batch, Rows, cut
from glassformer.training.readers import Readers
from glassformer.training.tasks.heads import encoder_flops, head_of
from glassformer.training.tasks.task import Measures, Prepared, Task, Validation, make_tokenizer, special_ids

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

RATE = 0.15  # of the tokens are to be predicted
MASKED, RANDOM = 0.8, 0.1  # of the tokens to predict; the rest stay as they are
SHOWN = 24  # tokens of an example


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Rows of a text between [CLS] and [SEP], with tokens to predict drawn."""

    rate: float
    cls: int
    sep: int
    mask: int
    ordinary: NDArray[np.int64]  # ids that may stand in for another

    def __call__(self, windows: NDArray[np.int64], random: np.random.Generator) -> Batch:
        """Each token is one to predict with probability `rate`: 80 % become [MASK], 10 % any token, 10 % stay.

        (b, t) tokens become (b, t + 2) inputs; labels are −100 where nothing is to be predicted.
        """
        predicted = random.random(windows.shape) < self.rate
        dice, others = random.random(windows.shape), random.choice(self.ordinary, windows.shape)
        seen = np.where(predicted & (dice < MASKED), self.mask, windows)
        seen = np.where(predicted & (dice >= MASKED) & (dice < MASKED + RANDOM), others, seen)
        ends = ((0, 0), (1, 1))
        inputs = np.pad(seen, ends)
        inputs[:, 0], inputs[:, -1] = self.cls, self.sep
        labels = np.pad(np.where(predicted, windows, IGNORED), ends, constant_values=IGNORED)
        return Batch(
            inputs={"input_ids": torch.from_numpy(inputs), "labels": torch.from_numpy(labels)},
            target="labels",
            units=inputs.size,
        )


def masking_for(tokenizer: Tokenizer, rate: float = RATE) -> Masking:
    """With the tokenizer's special tokens. ValueError where it lacks one."""
    ids = special_ids(tokenizer, "masked_lm", "cls", "sep", "mask")
    ordinary = np.array(sorted(set(range(tokenizer.vocab_size)) - set(tokenizer.special_tokens.values())))
    return Masking(rate=rate, ordinary=ordinary, **ids)


def rows_of(tokens: Any, context: int, source: str) -> NDArray[np.int64]:
    """Whole rows with room for [CLS] and [SEP]; what is left at the end is left out. ValueError where there is none."""
    length = context - 2
    count = len(tokens) // length
    if not count:
        raise ValueError(f"{source}: {len(tokens)} tokens to validate on are fewer than a row of {length}; "
                         "take a longer text or a shorter context")  # fmt: skip
    return np.asarray(tokens[: count * length], dtype=np.int64).reshape(count, length)


class MaskedRows(Validation):
    """The validation text in rows, the same tokens hidden each time."""

    def __init__(self, rows: list[NDArray[np.int64]], masking: Masking, tokenizer: Tokenizer) -> None:
        self.rows, self.masking, self.tokenizer = rows, masking, tokenizer

    def batches(self) -> Iterable[Batch]:
        return (self.masking(rows, np.random.default_rng([i, 0])) for i, rows in enumerate(self.rows))

    def keep(self, batch: Batch, output: Any) -> Any:
        """Right ones, all, and a row to look at."""
        labels, best = batch.inputs["labels"], output.logits.argmax(-1).cpu()
        right, counted = (best == labels).sum().item(), batch.counted
        row = [(int(i), int(p), int(y)) for i, p, y in zip(batch.inputs["input_ids"][0], best[0], labels[0],
                                                           strict=True)]  # fmt: skip
        return right, counted, row[1 : SHOWN + 1]

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        """How many of the hidden tokens are found; a row with what stands for them."""
        right, counted = (sum(each[i] for each in kept) for i in (0, 1))
        shown = " ".join(self.shown(*token) for token in kept[0][2])
        usual = super().measure(model, loss, kept, final=final).metrics
        return Measures(metrics=usual | {"accuracy": right / max(counted, 1)}, examples=(shown,))

    def shown(self, token: int, best: int, label: int) -> str:
        """A token as it is; [found] or [found, not what stood there] where it was to be predicted."""
        if label == IGNORED:
            return self.tokenizer.decode([token]).strip()
        found, right = (self.tokenizer.decode([each]).strip() for each in (best, label))
        return f"[{found}]" if best == label else f"[{found}, not {right}]"


def counted_only(
    hidden: Tensor, head: nn.Module, targets: Tensor, *, ignore_index: int = IGNORE
) -> tuple[Tensor, Tensor | None]:
    """The cross-entropy without the logits of what is not counted, six of seven places; whole in evaluation."""
    counted = targets != ignore_index
    if not torch.is_grad_enabled() or not counted.any():
        return reference(hidden, head, targets, ignore_index=ignore_index)
    return reference(hidden[counted], head, targets[counted])[0], None


@dataclass(frozen=True, kw_only=True)
class MaskedLanguageModelling(Task):
    """An encoder learns p(hidden token | the text around it) on the windows of a text."""

    rate: float = RATE

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        data = recipe.texts
        corpus = load_corpus(data.corpus)
        tokenizer = readers.tokenizer or make_tokenizer(recipe, corpus)
        masking = masking_for(tokenizer, self.rate)
        train, held_out = cached_tokens(corpus.train, tokenizer), cached_tokens(corpus.validation, tokenizer)
        windows = TokenLoader(train, batch_size=data.batch_size, length=data.context - 2, seed=recipe.training.seed)
        rows = rows_of(held_out.tokens, data.context, data.corpus)
        values, times = np.unique(train.tokens, return_counts=True)
        frequent = values[times.argmax()]
        return Prepared(
            readers=Readers(tokenizer=tokenizer),
            batches=Rows(windows, lambda batch, random: masking(batch.inputs.numpy(), random)),
            validation=MaskedRows(cut(rows, recipe.evaluation.batch_size), masking, tokenizer),
            data=f"{data.corpus}: {len(train):,} tokens, {len(held_out):,} more to validate on",
            baseline={"accuracy": float((rows == frequent).mean())},  # always the most frequent token
        )

    def build(self, config: Any) -> Any:
        model: Any = head_of(config, "masked_lm")
        model.cross_entropy = counted_only
        return model

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> float:
        config: Any = recipe.model
        return encoder_flops(model, recipe) + 6.0 * self.rate * config.vocab_size * config.dim

    def check(self, recipe: "Recipe") -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"[task] rate={self.rate} must lie between 0 and 1")
        if recipe.texts.context < 3:
            raise ValueError(f"[data] context={recipe.texts.context} has no room for a token between [CLS] and [SEP]")
