"""`glassformer eval --model FOLDER`"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from glassformer.cli.models import Opened


@dataclass(frozen=True, kw_only=True)
class Eval:
    """How good a model is: what it is for decides what is measured.

    Decoders: loss, perplexity, bits per byte of a text. Masked language models: loss and accuracy at 15 of 100 tokens
    of a text, which are hidden (the same ones each time, for one batch size) and predicted from those on both sides.
    Classifiers: accuracy, F1. Taggers: F1 of entities. Question answering: exact match, F1. Encoder-decoders: exact
    match, BLEU, ROUGE of what they write. Classifiers of pictures or clips: accuracy, also among the first five, F1.
    Detectors: COCO's average precision, of each class too. Models of pixels: the mean IoU. Models of masks: the average
    precision of masks. The last two at the size the model sees.
    """

    model: str
    """a run folder, a Hugging Face folder, or a hub id"""
    data: str | None = None
    """a text or examples (a name, a file; columns as in 'a.csv?text=body&label=stars'); pictures (digits, scenes, a
    folder with a folder for each class, a COCO .json, PICTURES::MASKS, hf:NAME); clips (motions, a folder with a folder
    for each class, a .csv); a run's own if not given"""
    split: str | None = None
    """validation, train, all, or test (of pictures and clips with such a part); if not given, all of your own files,
    else validation (of a text the last tenth)"""
    output: Path | None = None
    """of pictures and clips: a folder for the sheets of what was predicted"""
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
    "masked_lm": ("context",),
    "classification": (),
    "tagging": (),
    "question_answering": ("context", "stride"),
    "translation": ("num_beams", "max_new_tokens", "prefix"),
}
"""Options that have a meaning for some tasks alone."""


def run(options: Eval, _: list[str]) -> None:
    """Print what was measured."""
    from rich.console import Console

    from glassformer.cli.models import open_model
    from glassformer.ops.threads import patient_threads

    if options.split not in (None, "validation", "train", "all", "test"):
        raise ValueError(f"--split is {options.split!r}; expected validation, train, all or test")
    opened = open_model(options.model, dtype=options.dtype, device=options.device)
    start = time.perf_counter()
    with patient_threads():
        measured = measure(opened, options)
    measured["seconds"] = time.perf_counter() - start
    if options.json:
        print(json.dumps(measured, indent=2))
        return
    Console(highlight=False).print(written(measured), markup=False, soft_wrap=True)


def measure(opened: "Opened", options: Eval) -> dict[str, Any]:
    """The metrics of the model's task on the data, and what these were."""
    from glassformer.prediction import task_of
    from glassformer.prediction.held_against import is_seeing
    from glassformer.training.tasks.language_model import LanguageModelling

    own = opened.run is not None and not isinstance(opened.run.recipe.task, LanguageModelling)
    if own and options.data is None:
        refuse(
            options, "a run's own validation, without --data, is measured as in training", *sum(OF_TASK.values(), ())
        )
        return measure_run(opened, options)
    if is_seeing(opened.model):
        refuse(options, f"{type(opened.model).__name__} reads no text", *sum(OF_TASK.values(), ()))
        return measure_seen(opened, options)
    task = task_of(opened.model)
    others = {name for names in OF_TASK.values() for name in names} - set(OF_TASK[task])
    refuse(options, f"{type(opened.model).__name__} is for {task}", *sorted(others), "output")
    if options.split == "test":
        raise ValueError("--split is 'test'; of texts there are validation, train and all")
    if task == "masked_lm":
        return measure_masked(opened, options)
    return measure_text(opened, options) if task == "language_model" else measure_examples(opened, options, task)


def measure_run(opened: "Opened", options: Eval) -> dict[str, Any]:
    """What training measures of a run that is no language model's: its task's metrics on its own validation data, or
    on that which was put aside to test on."""
    from glassformer.training.data import Pictures
    from glassformer.training.loop import validate
    from glassformer.training.tasks import TASKS

    run, split = opened.run, options.split or "validation"
    assert run is not None
    if run.recipe.task.data is not Pictures:
        refuse(options, "what was predicted is drawn of pictures and clips alone", "output")
    prepared = run.recipe.task.prepare(run.recipe, run.readers)
    validation, baseline = {
        "validation": (prepared.validation, prepared.baseline), "test": (prepared.test, prepared.test_baseline)
    }.get(split, (None, {}))  # fmt: skip
    if validation is None:
        has = "has no data to test on" if split == "test" else "is measured on its validation or its test data"
        raise ValueError(f"--split is {split}; {options.model} {has}")
    device, recipe = next(opened.model.parameters()).device, run.recipe
    limit = recipe.evaluation.batches if split == "validation" else None
    loss, found = validate(
        opened.model, validation, device, precision=recipe.training.precision, limit=limit, final=True, track=shown
    )
    write_sheets(found.pictures, options)
    task = next(name for name, kind in TASKS.items() if kind is type(run.recipe.task))
    return {
        "loss": loss, **found.metrics, "baseline": dict(baseline), "task": task, "data": prepared.data, "split": split
    }  # fmt: skip


def measure_seen(opened: "Opened", options: Eval) -> dict[str, Any]:
    """The loss and the metrics of a model that says something of pictures or clips."""
    from glassformer.prediction.held_against import held_against
    from glassformer.training.loop import validate

    if options.data is None:
        raise ValueError(f"--data is not given; {type(opened.model).__name__} is measured on pictures or clips whose "
                         "right answers are known")  # fmt: skip
    held = held_against(
        opened.model, opened.processor(), options.data, split=options.split, batch_size=options.batch_size
    )
    device = next(opened.model.parameters()).device
    loss, found = validate(opened.model, held.validation, device, final=True, track=shown)
    write_sheets(found.pictures, options)
    return {"loss": loss, **found.metrics, held.unit: held.count, "data": options.data, "split": held.split}


def write_sheets(pictures: "Mapping[str, Tensor]", options: Eval) -> None:
    """Write the pictures of the predictions where they are wanted."""
    from glassformer.image.files import write_image

    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            write_image(options.output / name, picture)


def measure_text(opened: "Opened", options: Eval) -> dict[str, Any]:
    """The mean of −log p over the text's tokens, and what follows from it."""
    from glassformer.metrics import bits_per_byte
    from glassformer.prediction import text_likelihood

    run, tokenizer, config = opened.run, opened.tokenizer(), opened.model.config
    data = options.data or (None if run is None else run.recipe.texts.corpus)
    if data is None:
        raise ValueError(f"--data is not given, and {options.model} is no run folder that would name its corpus")
    context = options.context or (min(config.max_positions or 1024, 1024) if run is None else run.recipe.texts.context)
    if opened.model.has_position_table and context > config.max_positions:
        raise ValueError(f"--context {context} is more than the model's {config.max_positions} positions")
    text, name, split = text_of(data, options.split)
    ids = tokenizer.encode(text)
    found = text_likelihood(
        opened.model, ids, context=context, stride=options.stride, batch_size=options.batch_size, track=shown
    )
    num_bytes = len(text.encode()) - len(tokenizer.decode(ids[:1]).encode())
    return {
        "loss": found.loss, "perplexity": found.perplexity, "bits_per_byte": bits_per_byte(found.nats, num_bytes),
        "tokens": found.tokens, "bytes": num_bytes, "data": name, "split": split, "context": context,
        "stride": options.stride or context,
    }  # fmt: skip


def measure_masked(opened: "Opened", options: Eval) -> dict[str, Any]:
    """The mean of −log p over tokens of the text that are hidden, given those on both sides; how many are found."""
    from glassformer.prediction.batches import LONGEST, check_vocabulary, room_of
    from glassformer.training.batches import cut
    from glassformer.training.loop import validate
    from glassformer.training.tasks.masked_lm import MaskedRows, masking_for, rows_of

    if options.data is None:
        raise ValueError(f"--data is not given; {type(opened.model).__name__} is measured on tokens hidden in a text")
    positions, tokenizer = room_of(opened.model), opened.tokenizer()
    check_vocabulary(opened.model, tokenizer)
    context = options.context or (min(positions, LONGEST) if opened.run is None else opened.run.recipe.texts.context)
    if not 3 <= context <= positions:
        raise ValueError(f"--context {context} does not lie between 3, a token between [CLS] and [SEP], and the "
                         f"model's {positions} positions")  # fmt: skip
    text, name, split = text_of(options.data, options.split)
    rows = rows_of(tokenizer.encode(text), context, options.data)
    masked = MaskedRows(cut(rows, options.batch_size), masking_for(tokenizer), tokenizer)
    hidden = sum(batch.counted for batch in masked.batches())
    device = next(opened.model.parameters()).device
    loss, found = validate(opened.model, masked, device, final=True, track=shown)
    return {
        "loss": loss, **found.metrics, "hidden": hidden, "tokens": rows.size, "data": name, "split": split,
        "context": context,
    }  # fmt: skip


def text_of(data: str, split: str | None) -> tuple[str, str, str]:
    """A corpus's text, its name, and the part of it that is meant: validation where none is asked for."""
    from glassformer.text import load_corpus

    corpus, split = load_corpus(data), split or "validation"
    parts = {"validation": corpus.validation, "train": corpus.train, "all": corpus.train + corpus.validation}
    return parts[split], corpus.name, split


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


def shown(batches: "Iterable[Any]") -> "Iterable[Any]":
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
    """What was measured, in lines to read: what is said of the classes ("ap circle") one a line."""
    units = ("tokens", "bytes", "examples", "pictures", "clips")
    about = (*units, "hidden", "task", "data", "split", "context", "stride", "seconds", "baseline")
    metrics = {name: value for name, value in measured.items() if name not in about}
    lines = [values({name: value for name, value in metrics.items() if " " not in name})]
    if measured.get("baseline"):
        lines.append(f"baseline: {values(measured['baseline'])}")
    of_classes = [(*name.split(" ", 1), value) for name, value in metrics.items() if " " in name]
    width = max((len(label) for _, label, _ in of_classes), default=0)
    lines += [f"  {label:<{width}}   {name.replace('_', ' ')} {value:.4f}" for name, label, value in of_classes]
    counts = [f"{measured[name]:,} {name}" for name in units if name in measured]
    counted = f"{', '.join(counts)} of " if counts else ""
    if "hidden" in measured:
        counted = f"{measured['hidden']:,} hidden tokens among {counted}"
    if "task" in measured:
        counted = f"{measured['task']} as in training: "
    data = f"{counted}{measured['data']} ({measured['split']})"
    sizes = [f"{name} {measured[name]}" for name in ("context", "stride") if name in measured]
    lines.append(", ".join([data, *sizes, f"{measured['seconds']:.1f} s"]))
    return "\n".join(lines)


def values(metrics: dict[str, float]) -> str:
    """Metrics on a line."""
    return "   ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())
