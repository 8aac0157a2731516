"""Predicting the next token of a text, each from those before it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.models.catalog import build
from glassformer.models.language_model import LanguageModel
from glassformer.text import SequentialLoader, TokenLoader, cached_tokens, load_corpus
from glassformer.training.batches import Batch, Rows, next_token_batch
from glassformer.training.readers import Readers
from glassformer.training.tasks.task import Prepared, Task, Validation, make_tokenizer

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe


class NextTokens(Validation):
    """Every token of the validation text but the first, in order."""

    def __init__(self, rows: SequentialLoader) -> None:
        self.rows = rows

    def batches(self) -> Iterable[Batch]:
        return map(next_token_batch, self.rows)


@dataclass(frozen=True, kw_only=True)
class LanguageModelling(Task):
    """A decoder learns p(token t | tokens before t) on the windows of a text."""

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        data = recipe.texts
        corpus = load_corpus(data.corpus)
        tokenizer = readers.tokenizer or make_tokenizer(recipe, corpus)
        train, validation = cached_tokens(corpus.train, tokenizer), cached_tokens(corpus.validation, tokenizer)
        windows = TokenLoader(train, batch_size=data.batch_size, length=data.context, seed=recipe.training.seed)
        held_out = SequentialLoader(validation, batch_size=recipe.evaluation.batch_size, length=data.context)
        return Prepared(
            readers=Readers(tokenizer=tokenizer),
            batches=Rows(windows, lambda batch, _: next_token_batch(batch)),
            validation=NextTokens(held_out),
            data=f"{data.corpus}: {len(train):,} tokens, {len(validation):,} more to validate on",
        )

    def build(self, config: Any) -> LanguageModel:
        model = build(config)
        if not isinstance(model, LanguageModel):
            raise ValueError(f"the task 'language_model' trains a decoder, and {type(model).__name__} is none; choose "
                             "for example the [model] 'llama', or another [task]")  # fmt: skip
        return model

    def next_command(self, folder: Path) -> str:
        return f"glassformer generate --model {folder}   # lets it write"
