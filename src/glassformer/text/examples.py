"""Examples to learn a task from, in two parts: made on the spot, from a file, a pair of files, or a public data set."""

import inspect
import random
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from glassformer.foundation.suggest import did_you_mean
from glassformer.text.fields import FIELDS, Example, example_of
from glassformer.text.published import from_hub, multi30k
from glassformer.text.rows import PAIR, Row, is_file, read_rows

GENERATED = {
    "sentiment": ("sentiment", FIELDS["classification"]),
    "tagging": ("tagging", FIELDS["tagging"]),
    "python-docs-questions": ("questions", FIELDS["question_answering"]),
    "python-docs-summaries": ("summaries", FIELDS["translation"]),
    "python-stdlib-summaries": ("docstrings", FIELDS["translation"]),
    "dates": ("dates", FIELDS["translation"]),
    "numbers": ("numbers", FIELDS["translation"]),
}
"""Sets that are made on the spot: the module in glassformer.text.generated, and what its examples have."""

TOGETHER = {"translate": "dates+numbers"}
"""Names for several sets at once."""


@dataclass(frozen=True)
class Examples:
    """Examples in two parts, of which no input is in both; an example is a dict of the task's fields."""

    name: str
    fields: tuple[str, ...]
    train: list[Example]
    validation: list[Example]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels (or tags) of the training examples, in alphabetical order; () where the task has none."""
        if "label" in self.fields:
            return tuple(sorted({example["label"] for example in self.train}))
        if "tags" in self.fields:
            return tuple(sorted({tag for example in self.train for tag in example["tags"]}))
        return ()


def load_examples(source: str, *, fields: tuple[str, ...], seed: int = 0) -> Examples:
    """The examples that `source` names, each a dict with these `fields` (see `FIELDS`).

    - a set that is made on the spot: "sentiment", "tagging", "dates", ... (`GENERATED`), "translate" for dates and
      numbers; their sizes can be given: "sentiment?train=20000&validation=2000";
    - a file (.csv .tsv .jsonl .json .txt .conll, also .gz: see `glassformer.text.rows.read_rows`), or a pair of files
      with a line for each example, "train.de::train.en";
    - "multi30k" or "multi30k:FOLDER": captions in German and English ("multi30k?source=en&target=de" turns it round);
    - "hf:NAME" or "hf:NAME:CONFIG": a data set of Hugging Face's hub, by their package `datasets`.

    Several joined by "+" are one. After a "?" stand the columns that differ in name from the fields, and the file to
    validate on: "reviews.csv?text=body&label=stars&validation=more.csv". Without it, a tenth is put aside, drawn by the
    seed, equal inputs together.

    Raises:
        FileNotFoundError, OSError: something is not there or cannot be read.
        ValueError: it is damaged, empty, lacks a column, or its two parts do not fit each other; says where.
    """
    name = full_name(source)
    if is_joined(name):
        parts = [load_examples(part, fields=fields, seed=seed) for part in name.split("+")]
        validation = [example for part in parts for example in part.validation]
        held = {key_of(example, fields) for example in validation}
        train = [example for part in parts for example in part.train if key_of(example, fields) not in held]
        return checked(Examples(source, fields, train, validation))
    path, options = options_of(name)
    if path in GENERATED:
        return generated(path, options, fields, seed)
    validation_source = options.pop("validation", None)
    rows, validation_rows = found(path, fields, options)
    if validation_source is not None:
        validation_rows = found(validation_source, fields, options)[0]
    train = [example_of(row, fields, options) for row in rows]
    if validation_rows is None:
        return checked(Examples(source, fields, *put_aside(train, source, fields, seed)))
    validation = [example_of(row, fields, options) for row in validation_rows]
    return checked(Examples(source, fields, train, validation))


def read_examples(source: str, *, fields: tuple[str, ...], seed: int = 0) -> list[Example]:
    """Every example that `source` names, in order, whatever part it would be in; of a file or of what is joined, too.

    Raises as `load_examples` does; but a single example, or a single label, is enough here.
    """
    name = full_name(source)
    if is_joined(name):
        return [example for part in name.split("+") for example in read_examples(part, fields=fields, seed=seed)]
    path, options = options_of(name)
    if path in GENERATED:
        loaded = generated(path, options, fields, seed)
        return [*loaded.train, *loaded.validation]
    second = options.pop("validation", None)
    rows, more = found(path, fields, options)
    rows = [*rows, *(more or ()), *(found(second, fields, options)[0] if second else ())]
    return [example_of(row, fields, options) for row in rows]


def full_name(source: str) -> str:
    """The name, one for several sets at once written out. Raises ValueError where it is empty."""
    if not source.strip():
        raise ValueError(f"the name of the examples is empty: give one of {', '.join(GENERATED)}, or a file")
    name, question_mark, options = source.partition("?")
    return f"{TOGETHER.get(name, name)}{question_mark}{options}"


def is_joined(name: str) -> bool:
    """Whether a name is of several sources; a file may have a "+" in its name."""
    return "+" in name and not Path(options_of(name)[0]).expanduser().exists()


def options_of(name: str) -> tuple[str, dict[str, str]]:
    """What is named, and {"text": "body", "label": "stars"} where "?text=body&label=stars" follows it."""
    match = re.fullmatch(r"(.*?)\?(\w+=[^&?]+(?:&\w+=[^&?]+)*)", name, re.DOTALL)
    if match is None:
        return name, {}
    return match[1], dict(part.split("=", 1) for part in match[2].split("&"))


def generated(name: str, options: Mapping[str, str], fields: tuple[str, ...], seed: int) -> Examples:
    """A set that is made on the spot."""
    module, has = GENERATED[name]
    if has != fields:
        raise ValueError(f"{name!r} has {', '.join(has)}; {', '.join(fields)} are needed")
    make: Callable[..., tuple[list[Example], list[Example]]]
    make = import_module(f"glassformer.text.generated.{module}").make
    known = [key for key in inspect.signature(make).parameters if key != "seed"]
    for key, value in options.items():
        if key not in known:
            raise ValueError(
                f"{name!r} has no option {key!r}" + (did_you_mean(key, known) if known else ": it has none")
            )
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"{name!r} has {key}={value}; expected a number of examples")
    return Examples(name, fields, *make(seed, **{key: int(value) for key, value in options.items()}))


def found(source: str, fields: tuple[str, ...], columns: dict[str, str]) -> tuple[list[Row], list[Row] | None]:
    """The rows to train on, and those to validate on where the source says so; may say what its columns mean.

    Raises ValueError for columns of fields that there are not.
    """
    unknown = next((field for field in columns if field not in fields), None)
    if unknown is not None:
        near = did_you_mean(unknown, [*fields, "validation"])
        raise ValueError(f"{source!r} is given {unknown}={columns[unknown]}, which is no option{near}")
    kind, _, rest = source.partition(":")
    if kind == "hf" and rest:
        return from_hub(rest)
    if kind == "multi30k" and PAIR not in source:
        columns.update({"source": "de", "target": "en"} | columns)
        return multi30k(rest or None)
    if not is_file(source):
        known = [*GENERATED, *TOGETHER, "multi30k"]
        raise FileNotFoundError(f"{source!r} is neither examples by name nor a file{did_you_mean(source, known)}")
    return read_rows(source, fields), None


def put_aside(
    examples: list[Example], source: str, fields: tuple[str, ...], seed: int
) -> tuple[list[Example], list[Example]]:
    """Nine tenths and one; equal inputs stay together, the order stays as it is."""
    keys = list(dict.fromkeys(key_of(example, fields) for example in examples))
    if len(keys) < 2:
        raise ValueError(f"{source} has {len(keys)} different input: too few to put a tenth aside for validation")
    random.Random(seed).shuffle(keys)
    held = set(keys[: max(len(keys) // 10, 1)])
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        parts[key_of(example, fields) in held].append(example)
    return parts


def key_of(example: Example, fields: tuple[str, ...]) -> Hashable:
    """The input of an example: of a question its context, of which many may be asked."""
    value = example[fields[0]]
    return tuple(value) if isinstance(value, list) else value


def checked(examples: Examples) -> Examples:
    """The examples. Raises ValueError where there is nothing to learn, or nothing learned that could be validated."""
    known = set(examples.labels)
    if examples.labels and "label" in examples.fields:
        strange = {example["label"] for example in examples.validation} - known
    elif examples.labels:
        strange = {tag for example in examples.validation for tag in example["tags"]} - known
    else:
        strange = set()
    if strange:
        label = min(strange)
        raise ValueError(
            f"{examples.name}: the label {label!r} of the validation examples is not among the training examples'"
            f"{did_you_mean(label, known)}"
        )
    if "label" in examples.fields and len(known) < 2:
        raise ValueError(f"{examples.name}: every example has the label {min(known)!r}; at least two are needed")
    return examples
