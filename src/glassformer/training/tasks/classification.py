"""A class for a text, from the vector that an encoder makes of it (Devlin et al. 2018, section 4.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from glassformer.text.fields import Example
from glassformer.training.batches import Batch, padded, presence
from glassformer.training.readers import Readers
from glassformer.training.tasks.bag_of_words import bag_of_words
from glassformer.training.tasks.examples import (
    PredictedExamples,
    described,
    examples_of,
    labels_of,
    loader_of,
    tokenizer_for,
)
from glassformer.training.tasks.heads import encoder_flops, head_of
from glassformer.training.tasks.task import Prepared, Task, special_ids

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

Row = tuple[list[int], int]  # ids, class


class Labelled(PredictedExamples):
    """Texts, each with the class that the model finds most probable."""

    def keep(self, batch: Batch, output: Any) -> list[int]:
        return output.logits.argmax(-1).tolist()

    def predict(self, rows: Sequence[Row], kept: list[int]) -> list[str]:
        return [self.labels[best] for best in kept]

    def shown(self, example: Example, prediction: str) -> str:
        right = "" if prediction == example["label"] else f", not {example['label']}"
        return f"{example['text'][:90]!r}: {prediction}{right}"


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """An encoder with a head over the whole text learns its label; beside it a bag of words is fitted."""

    metric: ClassVar[str] = "accuracy"

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        examples = examples_of(recipe, "classification")
        labels = labels_of(recipe.model, examples)
        tokenizer = readers.tokenizer or tokenizer_for(recipe, examples, lambda example: [example["text"]])
        special_ids(tokenizer, "classification", "cls", "sep")
        room = recipe.texts.context - sum(tokenizer.template.lengths())

        def encoded(example: Example) -> Row:
            row = tokenizer.template.around(tokenizer.encode(example["text"])[:room])[0]
            return row, labels.index(example["label"])

        make = classified(tokenizer.special.get("pad", 0))
        validation = Labelled("classification", examples.validation, list(map(encoded, examples.validation)), make,
                              batch_size=recipe.evaluation.batch_size, labels=labels)  # fmt: skip
        return Prepared(
            readers=Readers(tokenizer=tokenizer),
            batches=loader_of(recipe, list(map(encoded, examples.train)), make),
            validation=validation,
            data=described(examples),
            settings={"labels": labels},
            baseline=bag_of_words(examples),
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "sequence_classification")

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> float:
        return encoder_flops(model, recipe)


def classified(pad: int) -> Any:
    """What makes a batch of rows."""

    def make(rows: Sequence[Row]) -> Batch:
        ids = [row[0] for row in rows]
        inputs = {
            "input_ids": padded(ids, pad),
            "attention_mask": presence(ids),
            "labels": torch.tensor([row[1] for row in rows]),
        }
        return Batch(inputs=inputs, target="labels", units=sum(map(len, ids)))

    return make
