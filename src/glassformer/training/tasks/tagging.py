"""A tag for each word: where names begin and end (Devlin et al. 2018, section 5.3).

A word's tag stands at its first token; the others of it are not counted.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from glassformer.text import Tokenizer
from glassformer.text.fields import Example
from glassformer.text.loader import IGNORED
from glassformer.training.batches import Batch, padded, presence
from glassformer.training.readers import Readers
from glassformer.training.tasks.examples import (
    PredictedExamples,
    described,
    examples_of,
    judged,
    labels_of,
    loader_of,
    tokenizer_for,
)
from glassformer.training.tasks.heads import encoder_flops, head_of
from glassformer.training.tasks.task import Prepared, Task, special_ids

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

OUTSIDE = "O"
Row = tuple[list[int], list[int]]  # ids, a tag's number at the first token of each word and −100 elsewhere


class Tagged(PredictedExamples):
    """Sentences, each word with the tag that is most probable at its first token; past the context, outside."""

    def keep(self, batch: Batch, output: Any) -> list[list[int]]:
        return output.logits.argmax(-1).tolist()

    def predict(self, rows: Sequence[Row], kept: list[list[int]]) -> list[list[str]]:
        return [[self.labels[best] for best, tag in zip(each, tags, strict=False) if tag != IGNORED]
                for (_, tags), each in zip(rows, kept, strict=True)]  # fmt: skip

    def join(self, example: Example, predictions: list[list[str]]) -> list[str]:
        missing = len(example["tags"]) - len(predictions[0])
        return predictions[0] + [OUTSIDE] * missing

    def shown(self, example: Example, prediction: list[str]) -> str:
        return " ".join(word if tag == OUTSIDE else f"{word}/{tag}" for word, tag in
                        zip(example["tokens"][:16], prediction, strict=False))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tagging(Task):
    """An encoder with a head on every token learns the tags of words; the baseline tags a word as most often seen."""

    metric: ClassVar[str] = "f1"

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        examples = examples_of(recipe, "tagging")
        labels = labels_of(recipe.model, examples)
        tokenizer = readers.tokenizer or tokenizer_for(recipe, examples, lambda example: [" ".join(example["tokens"])])
        ids = special_ids(tokenizer, "tagging", "cls", "sep", "unk")
        encode = word_encoder(tokenizer)

        def encoded(example: Example) -> Row:
            words = [encode(word, place) for place, word in enumerate(example["tokens"])]
            return tagged_row(words, [labels.index(tag) for tag in example["tags"]], ids, recipe.texts.context)

        make = tagged(tokenizer.special.get("pad", 0))
        validation = Tagged("tagging", examples.validation, list(map(encoded, examples.validation)), make,
                            batch_size=recipe.evaluation.batch_size, labels=labels)  # fmt: skip
        usual = usual_tags(examples.train)
        guesses = [[usual.get(word, OUTSIDE) for word in example["tokens"]] for example in examples.validation]
        return Prepared(
            readers=Readers(tokenizer=tokenizer),
            batches=loader_of(recipe, list(map(encoded, examples.train)), make),
            validation=validation,
            data=described(examples),
            settings={"labels": labels},
            baseline=judged("tagging", examples.validation, guesses, validation.shown).metrics,
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "token_classification")

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> float:
        return encoder_flops(model, recipe)


def usual_tags(examples: Sequence[Example]) -> dict[str, str]:
    """Each word's most frequent tag."""
    seen: dict[str, Counter[str]] = {}
    for example in examples:
        for word, tag in zip(example["tokens"], example["tags"], strict=True):
            seen.setdefault(word, Counter())[tag] += 1
    return {word: tags.most_common(1)[0][0] for word, tags in seen.items()}


def word_encoder(tokenizer: Tokenizer) -> Callable[[str, int], list[int]]:
    """A word's ids by its place, with a space before all but the first where the tokenizer minds spaces."""
    minds = tokenizer.encode("a a") != tokenizer.encode("a") * 2
    return lambda word, place: tokenizer.encode(" " + word if minds and place else word)


def tagged_row(words: list[list[int]], tags: list[int], ids: dict[str, int], context: int) -> Row:
    """[CLS] words [SEP], in at most `context` tokens: a word that does not fit whole is left out, and all after it."""
    row, at = [ids["cls"]], [IGNORED]
    for word, tag in zip(words, tags, strict=True):
        word = word or [ids["unk"]]  # what the tokenizer drops has a tag all the same
        if len(row) + len(word) + 1 > context:
            break
        row += word
        at += [tag] + [IGNORED] * (len(word) - 1)
    return [*row, ids["sep"]], [*at, IGNORED]


def tagged(pad: int) -> Callable[[Sequence[Row]], Batch]:
    """What makes a batch of rows."""

    def make(rows: Sequence[Row]) -> Batch:
        ids = [row[0] for row in rows]
        inputs = {
            "input_ids": padded(ids, pad),
            "attention_mask": presence(ids),
            "labels": padded([row[1] for row in rows], IGNORED),
        }
        return Batch(inputs=inputs, target="labels", units=sum(map(len, ids)))

    return make
