"""One text into another: translation, summaries, dates in words to dates in digits. An encoder-decoder learns it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.metrics import judge
from glassformer.ops.cross_entropy import IGNORE, reference
from glassformer.text import Tokenizer
from glassformer.text.fields import Example
from glassformer.text.loader import IGNORED
from glassformer.training.batches import Batch, SortedBatches, padded, presence
from glassformer.training.readers import Readers
from glassformer.training.tasks.examples import described, examples_of, judged, loader_of, tokenizer_for
from glassformer.training.tasks.heads import encoder_decoder
from glassformer.training.tasks.sources import ENDS, seq2seq_settings
from glassformer.training.tasks.task import Measures, Prepared, Task, Validation, special_ids

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

Row = tuple[list[int], list[int]]  # source ids, target ids, each with its end
SEARCHED = 64  # texts written at a time


class Written(Validation):
    """Validation examples, judged by what the model writes: greedily for some on the way, by beam search in the end."""

    more_in_the_end = True

    def __init__(
        self,
        task: "Translation",
        recipe: "Recipe",
        examples: Sequence[Example],
        rows: Sequence[Row],
        tokenizer: Tokenizer,
    ) -> None:
        self.task, self.limit, self.examples, self.rows = task, recipe.evaluation.examples, examples, rows
        self.tokenizer = tokenizer
        self.sorted = SortedBatches([len(row[0]) for row in rows], lambda numbers: pairs([rows[i] for i in numbers],
                                    tokenizer.special["pad"]), batch_size=recipe.evaluation.batch_size)  # fmt: skip

    def batches(self) -> Iterable[Batch]:
        return self.sorted

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        """The metrics of what is written, for the first examples or all."""
        count = len(self.rows) if final or self.limit is None else min(self.limit, len(self.rows))
        found = self.write(model, [row[0] for row in self.rows[:count]], self.task.num_beams if final else 1)
        return judged("translation", self.examples[:count], found, shown, self.task.metrics)

    def write(self, model: Any, sources: Sequence[list[int]], num_beams: int) -> list[str]:
        """What the model writes for each source."""
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        texts = [""] * len(sources)
        for start in range(0, len(order), SEARCHED):
            some = order[start : start + SEARCHED]
            found = model.generate([sources[i] for i in some], num_beams=num_beams, **self.task.limits())
            for i, ids in zip(some, found.tolist(), strict=True):
                texts[i] = written(self.tokenizer, ids)
        return texts


def written(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of generated ids, without the special tokens around it."""
    special = set(tokenizer.special.values())
    return tokenizer.decode([token for token in ids if token not in special]).strip()


def shown(example: Example, prediction: str) -> str:
    """An example with what was written for it."""
    right = "" if prediction == example["target"] else f", not {example['target'][:70]!r}"
    return f"{example['source'][:70]!r} → {prediction[:70]!r}{right}"


@dataclass(frozen=True, kw_only=True)
class Translation(Task):
    """An encoder-decoder learns p(target | source). `best_by` chooses the weights; the end is measured with beams."""

    best_by: str = "bleu"  # or exact_match, bleu_lowercased, rouge1, rouge2, rougeL, loss
    metrics: tuple[str, ...] = ("bleu",)
    target_context: int | None = None  # tokens of a target at most; none: as many as of a source
    max_new_tokens: int = 64
    num_beams: int = 4
    length_penalty: float = 1.0
    label_smoothing: float = 0.0  # Szegedy et al. 2016, section 7

    @property
    def metric(self) -> str:  # type: ignore[override]
        return self.best_by

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        examples = examples_of(recipe, "translation")
        tokenizer = readers.tokenizer or tokenizer_for(
            recipe, examples, lambda each: [each["source"], each["target"]], ENDS
        )
        ids = special_ids(tokenizer, "translation", "pad", "eos")
        room = recipe.texts.context - 1, (self.target_context or recipe.texts.context) - 1

        def encoded(example: Example) -> Row:
            source, target = tokenizer.encode(example["source"]), tokenizer.encode(example["target"])
            return [*source[: room[0]], ids["eos"]], [*target[: room[1]], ids["eos"]]

        return Prepared(
            readers=Readers(tokenizer=tokenizer),
            batches=loader_of(recipe, list(map(encoded, examples.train)), lambda rows: pairs(rows, ids["pad"])),
            validation=Written(self, recipe, examples.validation, list(map(encoded, examples.validation)), tokenizer),
            data=described(examples),
            baseline=first_sentence(examples.validation, self.metrics),
        )

    def build(self, config: Any) -> Any:
        model: Any = encoder_decoder(config, "translation")
        if self.label_smoothing:
            model.cross_entropy = SmoothedCrossEntropy(self.label_smoothing)
        return model

    def limits(self) -> dict[str, Any]:
        """Options of generation."""
        return {"max_new_tokens": self.max_new_tokens} | (
            {"length_penalty": self.length_penalty} if self.length_penalty != 1.0 else {}
        )

    def model_settings(self, recipe: "Recipe", readers: Readers) -> dict[str, Any]:
        return seq2seq_settings(recipe, readers.tokenizer, "translation")

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> None:
        """Source and target pass through different parts."""

    def check(self, recipe: "Recipe") -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"[task] label_smoothing={self.label_smoothing} must lie between 0 and 1, 1 excluded")
        if self.best_by not in ("loss", *self.metrics):
            raise ValueError(f"[task] best_by is {self.best_by!r}, which is not among its metrics: "
                             f"{', '.join(('loss', *self.metrics))}")  # fmt: skip

    def next_command(self, folder: Path) -> str:
        return f"glassformer generate --model {folder} --prompt 'a source text' --num-beams {self.num_beams}"


class SmoothedCrossEntropy:
    """(1 − ε) of the cross-entropy, and ε of that to a uniform distribution; plain where no gradient flows."""

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing

    def __call__(
        self, hidden: Tensor, head: nn.Module, targets: Tensor, *, ignore_index: int = IGNORE
    ) -> tuple[Tensor, Tensor]:
        if not torch.is_grad_enabled():
            return reference(hidden, head, targets, ignore_index=ignore_index)
        logits = head(hidden)
        rows = logits.flatten(0, -2).float()
        total = F.cross_entropy(
            rows, targets.flatten(), ignore_index=ignore_index, reduction="sum", label_smoothing=self.smoothing
        )
        return total / (targets != ignore_index).sum().clamp(min=1), logits


def pairs(rows: Sequence[Row], pad: int) -> Batch:
    """The batch of some rows: the sources with their mask, the targets as labels."""
    sources, targets = [row[0] for row in rows], [row[1] for row in rows]
    inputs = {
        "input_ids": padded(sources, pad),
        "attention_mask": presence(sources),
        "labels": padded(targets, IGNORED),
    }
    return Batch(inputs=inputs, target="labels", units=sum(map(len, sources)) + sum(map(len, targets)))


def first_sentence(examples: Sequence[Example], metrics: Sequence[str]) -> dict[str, float]:
    """What the source's first sentence reaches where summaries are judged (the lead); nothing for other metrics."""
    chosen = [name for name in metrics if name.startswith("rouge")]
    if not chosen:
        return {}
    leads = [example["source"].strip().partition(". ")[0] for example in examples]
    return judge("translation", leads, examples, chosen)
