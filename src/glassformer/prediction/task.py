"""What a model is for, and its predictions for examples of that task."""

from collections.abc import Sequence
from typing import Any

from glassformer.models.heads import MaskedLM, QuestionAnswering, SequenceClassification, TokenClassification
from glassformer.models.language_model import LanguageModel
from glassformer.models.sequence_to_sequence import SequenceToSequenceModel
from glassformer.models.vision import ImageClassification
from glassformer.prediction.answers import predict_answers
from glassformer.prediction.labels import predict_classes, predict_tags
from glassformer.prediction.targets import predict_targets
from glassformer.text import Tokenizer
from glassformer.text.fields import Example

TASKS: dict[type, str] = {
    LanguageModel: "language_model",
    MaskedLM: "masked_lm",
    SequenceClassification: "classification",
    TokenClassification: "tagging",
    QuestionAnswering: "question_answering",
    SequenceToSequenceModel: "translation",
    ImageClassification: "image_classification",
}
"""The kinds of models that predict something, and their tasks."""


def task_of(model: Any) -> str:
    """The task that a model is for. Raises ValueError for one without a head that predicts something."""
    for kind, task in TASKS.items():
        if isinstance(model, kind):
            return task
    raise ValueError(
        f"{type(model).__name__} predicts none of {', '.join(TASKS.values())}: it has no head for one of them, nor for "
        "one of pictures or clips"
    )


def predict(model: Any, tokenizer: Tokenizer, examples: Sequence[Example], **options: Any) -> list[Any]:
    """The prediction for each example of the model's task: a class, tags, an answer or a target."""
    task = task_of(model)
    if task == "classification":
        return predict_classes(model, tokenizer, [example["text"] for example in examples], **options)
    if task == "tagging":
        return predict_tags(model, tokenizer, [example["tokens"] for example in examples], **options)
    if task == "question_answering":
        asked = [(example["question"], example["context"]) for example in examples]
        return predict_answers(model, tokenizer, asked, **options)
    if task == "translation":
        return predict_targets(model, tokenizer, [example["source"] for example in examples], **options)
    raise ValueError(f"{type(model).__name__} is for the task {task!r}, which has no examples")
