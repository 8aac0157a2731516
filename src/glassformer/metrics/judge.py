"""The metrics of a task, by the names that runs and reports give them."""

from collections.abc import Mapping, Sequence
from typing import Any

from glassformer.foundation.suggest import did_you_mean
from glassformer.metrics.answers import exact_match, squad_f1
from glassformer.metrics.entities import entity_f1
from glassformer.metrics.labels import accuracy, f1, top_k
from glassformer.metrics.overlap import bleu, rouge

METRICS = {
    "classification": ("accuracy", "f1"),
    "tagging": ("f1", "precision", "recall", "accuracy"),
    "question_answering": ("exact_match", "f1"),
    "image_classification": ("accuracy", "top_5", "f1"),
    "translation": ("exact_match", "bleu", "bleu_lowercased", "rouge1", "rouge2", "rougeL"),
}
"""What each task is judged by: `f1` is over labels (macro), entities (micro), or the words of an answer."""


def judge(
    task: str, predictions: Sequence[Any], examples: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None = None
) -> dict[str, float]:
    """Each metric's value for predictions of a task's examples; all that the task has, if none are chosen.

    A prediction is a label, a list of tags, an answer, a text, or of a picture its labels, the most probable first.

    Raises:
        ValueError: an unknown task or metric. ImportError: "bleu" without sacrebleu.
    """
    if task not in METRICS:
        raise ValueError(f"there is no task {task!r}{did_you_mean(task, METRICS)}")
    chosen = METRICS[task] if metrics is None else tuple(metrics)
    for name in chosen:
        if name not in METRICS[task]:
            raise ValueError(f"{task} has no metric {name!r}{did_you_mean(name, METRICS[task])}")
    values = _VALUES[task](predictions, examples, chosen)
    return {name: values[name] for name in chosen}


def _classification(predictions: Sequence[str], examples: Sequence[Mapping], _: Sequence[str]) -> dict[str, float]:
    labels = [example["label"] for example in examples]
    return {"accuracy": accuracy(predictions, labels), "f1": f1(predictions, labels)}


def _pictures(rankings: Sequence[Sequence[str]], examples: Sequence[Mapping], _: Sequence[str]) -> dict[str, float]:
    labels = [example["label"] for example in examples]
    return {**_classification([ranking[0] for ranking in rankings], examples, _), "top_5": top_k(rankings, labels, 5)}


def _tagging(predictions: Sequence[Sequence[str]], examples: Sequence[Mapping], _: Sequence[str]) -> dict[str, float]:
    tags = [example["tags"] for example in examples]
    values = entity_f1(predictions, tags)
    flat = [[tag for row in rows for tag in row] for rows in (predictions, tags)]
    return {**values, "accuracy": accuracy(*flat)}


def _answers(predictions: Sequence[str], examples: Sequence[Mapping], _: Sequence[str]) -> dict[str, float]:
    answers = [[answer["text"] for answer in example["answers"]] for example in examples]
    return {"exact_match": exact_match(predictions, answers), "f1": squad_f1(predictions, answers)}


def _translation(predictions: Sequence[str], examples: Sequence[Mapping], chosen: Sequence[str]) -> dict[str, float]:
    targets = [example["target"] for example in examples]
    values = {"exact_match": accuracy([text.strip() for text in predictions], [text.strip() for text in targets])}
    for name in {"bleu", "bleu_lowercased"} & set(chosen):
        values[name] = bleu(predictions, targets, lowercase=name != "bleu")
    if any(name.startswith("rouge") for name in chosen):
        values |= rouge(predictions, targets)
    return values


_VALUES = {
    "classification": _classification,
    "tagging": _tagging,
    "question_answering": _answers,
    "image_classification": _pictures,
    "translation": _translation,
}
