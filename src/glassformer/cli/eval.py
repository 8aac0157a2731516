"""`glassformer eval --model FOLDER`"""

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from glassformer.cli.models import Opened


@dataclass(frozen=True, kw_only=True)
class Eval:
    """How good a model is: what it is for decides what is measured.

    Decoders: loss, perplexity, bits per byte of a text. Classifiers: accuracy, F1. Taggers: F1 of entities. Question
    answering: exact match, F1. Encoder-decoders: exact match, BLEU, ROUGE of what they write. Classifiers of pictures:
    accuracy, also among the first five, F1.
    """

    model: str
    """a run folder, a Hugging Face folder, or a hub id"""
    data: str | None = None
    """a text or examples (a name, a file; columns as in 'a.csv?text=body&label=stars'), or pictures (digits, a folder
    with a folder for each class, hf:NAME); a run's own if not given"""
    split: str | None = None
    """validation, train or all; if not given all of a file of examples or of a folder of classes, else validation (of a
    text the last tenth)"""
    context: int | None = None
    """tokens in a row; the run's, or as many as the model has positions, if not given"""
    stride: int | None = None
    """of a long text, tokens from one window to the next; --context if not given, so that none is computed twice"""
    num_beams: int | None = None
    """of an encoder-decoder: above 1, search for the most probable target; 1 if not given"""
    max_new_tokens: int | None = None
    """of an encoder-decoder: tokens of a target at most; 128 if not given"""
    prefix: str | None = None
    """of an encoder-decoder: what stands before each source, as 'summarize: '"""
    batch_size: int = 16
    """rows at a time"""
    device: str = "auto"
    """auto, cpu, cuda"""
    dtype: str | None = None
    """float32, bfloat16 or float16; the weights' own if not given"""
    json: bool = False
    """print JSON"""


OF_TASK = {
    "language_model": ("context", "stride"),
    "classification": (),
    "tagging": (),
    "question_answering": ("context", "stride"),
    "image_classification": (),
    "translation": ("num_beams", "max_new_tokens", "prefix"),
}
"""Options that have a meaning for some tasks alone."""


def run(options: Eval, _: list[str]) -> None:
    """Print what was measured."""
    from rich.console import Console

    from glassformer.cli.models import open_model

    if options.split not in (None, "validation", "train", "all"):
        raise ValueError(f"--split is {options.split!r}; expected validation, train or all")
    opened = open_model(options.model, dtype=options.dtype, device=options.device)
    start = time.perf_counter()
    measured = measure(opened, options)
    measured["seconds"] = time.perf_counter() - start
    if options.json:
        print(json.dumps(measured, indent=2))
        return
    Console(highlight=False).print(written(measured), markup=False)


def measure(opened: "Opened", options: Eval) -> dict[str, Any]:
    """The metrics of the model's task on the data, and what these were."""
    from glassformer.prediction import task_of
    from glassformer.training.tasks.language_model import LanguageModelling

    own = opened.run is not None and not isinstance(opened.run.recipe.task, LanguageModelling)
    if own and options.data is None:
        refuse(
            options, "a run's own validation, without --data, is measured as in training", *sum(OF_TASK.values(), ())
        )
        return measure_run(opened)
    task = task_of(opened.model)
    others = {name for names in OF_TASK.values() for name in names} - set(OF_TASK[task])
    refuse(options, f"{type(opened.model).__name__} is for {task}", *sorted(others))
    if task == "image_classification":
        return measure_pictures(opened, options)
    return measure_text(opened, options) if task == "language_model" else measure_examples(opened, options, task)


def measure_run(opened: "Opened") -> dict[str, Any]:
    """What training measures of a run that is no language model's: its task's metrics on its own validation data."""
    from glassformer.training.loop import validate

    run = opened.run
    assert run is not None
    prepared = run.recipe.task.prepare(run.recipe, run.readers)
    device = next(opened.model.parameters()).device
    limit = run.recipe.evaluation.batches
    loss, found = validate(run.recipe, opened.model, prepared.validation, device, limit=limit, final=True)
    return {
        "loss": loss, **found.metrics, "baseline": dict(prepared.baseline), "data": prepared.data, "split": "validation"
    }  # fmt: skip


def measure_text(opened: "Opened", options: Eval) -> dict[str, Any]:
    """The mean of −log p over the text's tokens, and what follows from it."""
    from glassformer.metrics import bits_per_byte
    from glassformer.prediction import text_likelihood
    from glassformer.text import load_corpus

    run, tokenizer, config = opened.run, opened.tokenizer(), opened.model.config
    data = options.data or (None if run is None else run.recipe.texts.corpus)
    if data is None:
        raise ValueError(f"--data is not given, and {options.model} is no run folder that would name its corpus")
    context = options.context or (min(config.max_positions or 1024, 1024) if run is None else run.recipe.texts.context)
    if opened.model.has_position_table and context > config.max_positions:
        raise ValueError(f"--context {context} is more than the model's {config.max_positions} positions")
    corpus, split = load_corpus(data), options.split or "validation"
    text = {"validation": corpus.validation, "train": corpus.train, "all": corpus.train + corpus.validation}[split]
    ids = tokenizer.encode(text)
    found = text_likelihood(
        opened.model, ids, context=context, stride=options.stride, batch_size=options.batch_size, track=shown
    )
    num_bytes = len(text.encode()) - len(tokenizer.decode(ids[:1]).encode())
    return {
        "loss": found.loss, "perplexity": found.perplexity, "bits_per_byte": bits_per_byte(found.nats, num_bytes),
        "tokens": found.tokens, "bytes": num_bytes, "data": corpus.name, "split": split, "context": context,
        "stride": options.stride or context,
    }  # fmt: skip


def measure_examples(opened: "Opened", options: Eval, task: str) -> dict[str, Any]:
    """The task's metrics of the model's predictions for examples."""
    from glassformer.metrics import METRICS, judge
    from glassformer.prediction import predict
    from glassformer.prediction.labels import label_names
    from glassformer.text.fields import FIELDS

    if options.data is None:
        raise ValueError(f"--data is not given; {type(opened.model).__name__} is measured on examples of {task}, with "
                         f"{', '.join(FIELDS[task])}")  # fmt: skip
    examples, split = examples_of(options.data, options.split, FIELDS[task])
    metrics = METRICS[task]
    if task in ("classification", "tagging"):
        check_labels(options.data, examples, label_names(opened.model.config))
    if task == "translation" and missing_sacrebleu():
        metrics = tuple(name for name in metrics if not name.startswith("bleu"))
        print("BLEU is left out: it needs pip install 'glassformer[metrics]'", file=sys.stderr)
    chosen = {name: getattr(options, name) for name in OF_TASK[task] if getattr(options, name) is not None}
    predictions = predict(
        opened.model, opened.tokenizer(), examples, batch_size=options.batch_size, track=shown, **chosen
    )
    return {
        **judge(task, predictions, examples, metrics), "examples": len(examples), "data": options.data, "split": split
    }  # fmt: skip


def measure_pictures(opened: "Opened", options: Eval) -> dict[str, Any]:
    """The metrics of a classifier of pictures."""
    from glassformer.metrics import judge
    from glassformer.prediction import predict_image_classes
    from glassformer.prediction.pictures import class_names

    if options.data is None:
        raise ValueError(f"--data is not given; {type(opened.model).__name__} is measured on pictures with their "
                         "classes: a folder with a folder for each, say")  # fmt: skip
    records, labels, split = pictures_of(options.data, options.split)
    names, processor = class_names(opened.model.config), opened.processor()
    rankings: list[tuple[str, ...]] = []
    there = []
    check_labels(options.data, [{"label": label} for label in labels], names)
    for start in shown(range(0, len(records), options.batch_size)):
        some = [part[i] for part, i in records[start : start + options.batch_size]]
        found = predict_image_classes(opened.model, processor, [record.picture for record in some], top=None)
        rankings += [each.labels for each in found]
        there += [{"label": labels[record.label]} for record in some]
    metrics = ("accuracy", "top_5", "f1") if len(names) > 5 else ("accuracy", "f1")
    return {
        **judge("image_classification", rankings, there, metrics),
        "pictures": len(records), "data": options.data, "split": split,
    }  # fmt: skip


def pictures_of(data: str, split: str | None) -> "tuple[list[tuple[Any, int]], tuple[str, ...], str]":
    """Where the pictures of a split are to be read, the names of their classes, and the split's.

    It is all of a folder without parts, else the validation, where none is asked for.
    """
    from pathlib import Path

    from glassformer.image.datasets import load_pictures
    from glassformer.image.folders import PARTS, all_of_classes
    from glassformer.text.examples import options_of

    path, choices = options_of(data)
    folder = Path(path).expanduser()
    in_parts = "validation" in choices or any((folder / name).is_dir() for name in PARTS["train"])
    split = split or ("all" if folder.is_dir() and not in_parts else "validation")
    if folder.is_dir() and split == "all" and not in_parts:
        labels, records = all_of_classes(folder)
        return [(records, i) for i in range(len(records))], labels, split
    found = load_pictures(data)
    parts = {"train": [found.train], "validation": [found.validation], "all": [found.train, found.validation]}[split]
    return [(part, i) for part in parts for i in range(len(part))], found.labels, split


def examples_of(data: str, split: str | None, fields: tuple[str, ...]) -> tuple[list[dict[str, Any]], str]:
    """The examples of a split, and its name: all of a file, else the validation, where none is asked for."""
    from glassformer.text import load_examples
    from glassformer.text.examples import options_of, read_examples
    from glassformer.text.rows import is_file

    path, columns = options_of(data)
    split = split or ("all" if is_file(path) and "validation" not in columns else "validation")
    if split == "all":
        return read_examples(data, fields=fields), split
    return getattr(load_examples(data, fields=fields), split), split


def check_labels(data: str, examples: "Sequence[dict[str, Any]]", names: "Sequence[str]") -> None:
    """Raise ValueError where an example has a label that the model does not know."""
    from glassformer.foundation.suggest import did_you_mean

    found = {label for example in examples for label in example.get("tags", [example.get("label")])}
    if strange := found - set(names):
        label = min(strange)
        raise ValueError(f"{data} has the label {label!r}, which the model does not know{did_you_mean(label, names)}")


def missing_sacrebleu() -> bool:
    """Whether BLEU cannot be computed here."""
    from importlib.util import find_spec

    return find_spec("sacrebleu") is None


def shown(batches: "Sequence[Any]") -> "Iterable[Any]":
    """The batches, with a bar on standard error."""
    from rich.console import Console
    from rich.progress import track

    return track(batches, "evaluating", console=Console(stderr=True), transient=True)


def refuse(options: Eval, reason: str, *names: str) -> None:
    """Raise ValueError where one of these options was given."""
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(options, name)} has no effect: {reason}")


def written(measured: dict[str, Any]) -> str:
    """What was measured, in lines to read."""
    about = ("tokens", "bytes", "examples", "pictures", "data", "split", "context", "stride", "seconds", "baseline")
    lines = [values({name: value for name, value in measured.items() if name not in about})]
    if measured.get("baseline"):
        lines.append(f"baseline: {values(measured['baseline'])}")
    counts = [f"{measured[name]:,} {name}" for name in ("tokens", "bytes", "examples", "pictures") if name in measured]
    counted = f"{', '.join(counts)} of " if counts else ""
    data = f"{counted}{measured['data']} ({measured['split']})"
    sizes = [f"{name} {measured[name]}" for name in ("context", "stride") if name in measured]
    lines.append(", ".join([data, *sizes, f"{measured['seconds']:.1f} s"]))
    return "\n".join(lines)


def values(metrics: dict[str, float]) -> str:
    """Metrics on a line."""
    return "   ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())
