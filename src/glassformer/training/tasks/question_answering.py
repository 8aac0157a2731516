"""Extractive question answering: where in a text the answer stands (Devlin et al. 2018, section 4.2).

A text that is too long is read in windows that overlap, each with the question before it; the answer is the span with
the highest sum of scores in any of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from glassformer.text import Tokenizer
from glassformer.text.fields import Example
from glassformer.training.batches import Batch, padded, presence
from glassformer.training.readers import Readers
from glassformer.training.tasks.best_sentence import best_sentence
from glassformer.training.tasks.examples import PredictedExamples, described, examples_of, loader_of, tokenizer_for
from glassformer.training.tasks.heads import encoder_flops, head_of
from glassformer.training.tasks.task import Prepared, Task, special_ids

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

# ids, token types, first and last token of the answer (0, 0 where it is not in the window), the place of the window's
# first token, and the characters of the text that each of its tokens stands for
Row = tuple[list[int], list[int], int, int, int, list[tuple[int, int]]]
Found = tuple[float, int, int]  # score, first character, the one past the last


class Answered(PredictedExamples):
    """Questions, each with the best span of its text."""

    max_answer: int = 30

    def keep(self, batch: Batch, output: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return output.start_logits.float().cpu(), output.end_logits.float().cpu()

    def predict(self, rows: Sequence[Row], kept: tuple[torch.Tensor, torch.Tensor]) -> list[Found]:
        return [best_span(start, end, row, self.max_answer) for row, start, end in zip(rows, *kept, strict=True)]

    def join(self, example: Example, predictions: list[Found]) -> str:
        _, first, last = max(predictions)
        return example["context"][first:last]

    def shown(self, example: Example, prediction: str) -> str:
        right = example["answers"][0]["text"]
        return f"{example['question']!r} {prediction!r}" + (f", not {right!r}" if prediction != right else "")


def best_span(start: torch.Tensor, end: torch.Tensor, row: Row, max_answer: int) -> Found:
    """The span of the window whose start and end score highest together, at most `max_answer` tokens long."""
    first, spans = row[4], row[5]
    here = slice(first, first + len(spans))
    scores = start[here, None] + end[None, here]
    allowed = torch.ones_like(scores, dtype=torch.bool).triu().tril(max_answer - 1)
    best = int(scores.masked_fill(~allowed, -torch.inf).argmax())
    begin, stop = divmod(best, len(spans))
    return float(scores[begin, stop]), spans[begin][0], spans[stop][1]


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(Task):
    """An encoder learns where answers begin and end; beside it, the sentence that shares most with the question."""

    metric: ClassVar[str] = "f1"

    stride: int = 64  # tokens from the beginning of one window of a long text to that of the next
    max_answer: int = 30  # tokens

    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        examples = examples_of(recipe, "question_answering")
        tokenizer = readers.tokenizer or tokenizer_for(
            recipe, examples, lambda each: [each["context"], each["question"]]
        )
        special_ids(tokenizer, "question_answering", "cls", "sep")

        def encoded(part: Sequence[Example]) -> list[list[Row]]:
            return [windows(tokenizer, example, recipe.texts.context, self.stride) for example in part]

        train, held_out = encoded(examples.train), encoded(examples.validation)
        make = spans(tokenizer.special.get("pad", 0))
        validation = Answered(
            "question_answering", examples.validation, [row for rows in held_out for row in rows], make,
            batch_size=recipe.evaluation.batch_size, owners=[i for i, rows in enumerate(held_out) for _ in rows],
        )  # fmt: skip
        validation.max_answer = self.max_answer
        return Prepared(
            readers=Readers(tokenizer=tokenizer),
            batches=loader_of(recipe, [row for rows in train for row in rows], make),
            validation=validation,
            data=described(examples),
            baseline=best_sentence(examples.validation),
        )

    def build(self, config: Any) -> Any:
        return head_of(config, "question_answering")

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> float:
        return encoder_flops(model, recipe)

    def check(self, recipe: "Recipe") -> None:
        if recipe.texts.context < 16:
            raise ValueError(f"[data] context={recipe.texts.context} is too short for a question and a text")


def windows(tokenizer: Tokenizer, example: Example, context: int, stride: int) -> list[Row]:
    """A question before each window of its text, `context` tokens together at most; the first answer is learned."""
    text, spans = tokenizer.encode_with_offsets(example["context"])
    question = tokenizer.encode(example["question"])[: context // 2]
    place = place_of_second(tokenizer, question)
    room = context - len(tokenizer.template.around(question, [])[0])
    first, last = tokens_of(example, spans)
    rows = []
    for start in range(0, max(1, len(text) - room + min(stride, room)), min(stride, room)):
        some = text[start : start + room]
        ids, types = tokenizer.template.around(question, some)
        inside = start <= first <= last < start + len(some)
        answer = (place + first - start, place + last - start) if inside else (0, 0)
        rows.append((ids, types, *answer, place, spans[start : start + room]))
    return rows


def place_of_second(tokenizer: Tokenizer, first: Sequence[int]) -> int:
    """Where the second of two texts begins, in tokens."""
    place = 0
    for name, _ in tokenizer.template.pair:
        if name == "$B":
            break
        place += len(first) if name == "$A" else len(tokenizer.template.ids[name])
    return place


def tokens_of(example: Example, spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The first and the last token of the answer; (-1, -1) where there is none."""
    if not example["answers"]:
        return -1, -1
    start, text = example["answers"][0]["start"], example["answers"][0]["text"]
    inside = [i for i, (first, last) in enumerate(spans) if first < start + len(text) and last > start]
    return (inside[0], inside[-1]) if inside else (-1, -1)


def spans(pad: int) -> Callable[[Sequence[Row]], Batch]:
    """What makes a batch of rows."""

    def make(rows: Sequence[Row]) -> Batch:
        ids = [row[0] for row in rows]
        inputs = {
            "input_ids": padded(ids, pad),
            "attention_mask": presence(ids),
            "token_type_ids": padded([row[1] for row in rows], 0),
            "start_positions": torch.tensor([row[2] for row in rows]),
            "end_positions": torch.tensor([row[3] for row in rows]),
        }
        return Batch(inputs=inputs, target="start_positions", units=sum(map(len, ids)))

    return make
