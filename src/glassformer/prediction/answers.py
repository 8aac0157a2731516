"""Answers as spans of a text, which is read in windows that overlap where it is long."""

from collections.abc import Sequence

from glassformer.models.heads import QuestionAnswering
from glassformer.prediction.batches import Track, outputs, room_of
from glassformer.text import Tokenizer
from glassformer.training.tasks.question_answering import best_span, windows
from glassformer.training.tasks.task import special_ids


def predict_answers(
    model: QuestionAnswering,
    tokenizer: Tokenizer,
    questions_and_contexts: Sequence[tuple[str, str]],
    *,
    context: int | None = None,
    stride: int = 128,
    max_answer: int = 30,
    batch_size: int = 16,
    track: Track = iter,
) -> list[str]:
    """The best span of each context: of all windows, the one whose first and last token score highest together.

    Args:
        context: tokens of a question and a window at most; 384, or as many as the model reads, if not given.
        stride: tokens from the beginning of one window to that of the next.
        max_answer: tokens of an answer at most.

    Raises:
        ValueError: a context is empty, or the tokenizer has no tokens to stand around two texts.
    """
    special_ids(tokenizer, "question_answering", "cls", "sep")
    context = min(384, room_of(model)) if context is None else context
    rows, owners = [], []
    for number, (question, text) in enumerate(questions_and_contexts):
        if not text.strip():
            raise ValueError(f"the context of question {number} is empty; there is no answer in it")
        example = {"context": text, "question": question, "answers": []}
        made = windows(tokenizer, example, context, stride)
        rows += made
        owners += [number] * len(made)
    best: list[tuple[float, int, int]] = [(-float("inf"), 0, 0)] * len(questions_and_contexts)
    inputs = [(row[0], row[1]) for row in rows]
    for numbers, output in outputs(model, tokenizer, inputs, batch_size, track) if rows else ():
        starts, ends = output.start_logits.float().cpu(), output.end_logits.float().cpu()
        for number, start, end in zip(numbers, starts, ends, strict=True):
            best[owners[number]] = max(best[owners[number]], best_span(start, end, rows[number], max_answer))
    return [text[first:last] for (_, text), (_, first, last) in zip(questions_and_contexts, best, strict=True)]
