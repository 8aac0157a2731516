"""Rows of a file: .csv, .tsv, .jsonl, .json, .txt, each also .gz, and pairs of files line by line.

A row is a mapping of columns to values, and knows where it stands, for messages.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassformer.foundation.suggest import did_you_mean
from glassformer.text.plain import decoded

KINDS = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".conll")
PAIR = "::"


@dataclass(frozen=True)
class Row:
    """One example as it was found: `place` is "reviews.csv, line 12"."""

    place: str
    values: Mapping[str, Any]


def read_rows(source: str, columns: tuple[str, ...]) -> list[Row]:
    """The rows of a file, or of a pair "SRC::TGT" whose n-th lines belong together.

    - .csv, .tsv: the first line names the columns;
    - .jsonl: an object a line; .json: a list of objects, an object with such a list under "data", or SQuAD's nesting;
    - .txt: the columns in the order of `columns`, tabs between them; of tokens and tags (.conll too), a token and its
      tag a line and an empty line after each sentence.

    Raises:
        FileNotFoundError, OSError: a file is not there, or cannot be read.
        ValueError: it is empty or damaged, or of a kind that is not read; says where.
    """
    if PAIR in source:
        rows = list(pairs(source, columns))
    else:
        path = Path(source).expanduser()
        text, kind = content(path), kind_of(path)
        if kind in (".csv", ".tsv"):
            rows = list(separated(path, text, "," if kind == ".csv" else "\t"))
        elif kind == ".jsonl":
            rows = list(json_lines(path, text))
        elif kind == ".json":
            rows = list(json_list(path, text))
        elif kind == ".conll" or columns == ("tokens", "tags"):
            rows = list(tagged(path, text))
        else:
            rows = list(tabbed(path, text, columns))
    if not rows:
        raise ValueError(f"{source} is empty: there are no examples in it")
    return rows


def is_file(source: str) -> bool:
    """Whether `source` names a file that is there, or looks like one, or a pair of files."""
    return PAIR in source or Path(source).expanduser().is_file() or kind_of(Path(source)) in KINDS


def kind_of(path: Path) -> str:
    """The suffix that says what a file holds: ".csv" of "a.csv.gz"."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def content(path: Path) -> str:
    """The text of a file, unpacked where it ends in .gz."""
    if kind_of(path) not in KINDS and path.suffix != ".gz" and not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}") from error
    if path.suffix != ".gz":
        return decoded(packed, path)
    try:
        return decoded(gzip.decompress(packed), path)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error


def lines_of(text: str) -> list[str]:
    """Lines as editors count them: a form feed or U+2028 inside a line ends none."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def pairs(source: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """The lines of two files, side by side."""
    names = source.split(PAIR)
    if len(names) != 2 or not all(names):
        raise ValueError(f"{source!r} is not a pair of files; expected SOURCE{PAIR}TARGET")
    if len(columns) != 2:
        raise ValueError(f"{source!r} is a pair of files, which gives two columns, and {', '.join(columns)} are needed")
    first, second = (lines_of(content(Path(name).expanduser())) for name in names)
    if len(first) != len(second):
        raise ValueError(
            f"{names[0]} has {len(first)} lines and {names[1]} has {len(second)}; the lines of a pair belong together"
        )
    for number, both in enumerate(zip(first, second, strict=True), 1):
        if not all(line.strip() for line in both):
            raise ValueError(
                f"{names[0 if not both[0].strip() else 1]}, line {number} is empty, its partner may not be"
            )
        yield Row(f"{names[0]}, line {number}", dict(zip(columns, both, strict=True)))


def separated(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    """The rows of a table whose first line names the columns; a field in quotes may hold line ends."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    start = 1
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num} is damaged: {error}") from error
        if fields is None:
            return
        if not header:
            header = [name.strip() for name in fields]
            doubled = next((name for name in header if header.count(name) > 1), None)
            if doubled is not None:
                raise ValueError(f"{path}, line {start} names the column {doubled!r} twice")
        elif fields:  # an empty line is none
            if len(fields) != len(header):
                raise ValueError(
                    f"{path}, line {start} has {len(fields)} columns, and the first line names {len(header)}"
                )
            yield Row(f"{path}, line {start}", dict(zip(header, fields, strict=True)))
        start = reader.line_num + 1


def json_lines(path: Path, text: str) -> Iterator[Row]:
    """An object a line."""
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{place} is not JSON: {error.msg} at character {error.colno}") from error
        yield Row(place, mapping(values, place))


def json_list(path: Path, text: str) -> Iterator[Row]:
    """A list of objects, bare or under "data"; SQuAD's articles are taken apart into questions."""
    if not text.strip():
        return
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno} is not JSON: {error.msg} at character {error.colno}") from error
    if isinstance(found, Mapping) and isinstance(found.get("data"), list):
        found = found["data"]
    if not isinstance(found, list):
        raise ValueError(f"{path} holds no list of examples: a list of objects, or an object with one under 'data'")
    for number, values in enumerate(found, 1):
        place = f"{path}, example {number}"
        if isinstance(values, Mapping) and "paragraphs" in values:
            yield from squad_questions(values, f"{path}, article {number}")
        else:
            yield Row(place, mapping(values, place))


def squad_questions(article: Mapping[str, Any], place: str) -> Iterator[Row]:
    """The questions of one article in SQuAD's format (Rajpurkar et al. 2016); those without an answer are left out."""
    try:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = [{"text": a["text"], "start": a["answer_start"]} for a in asked["answers"]]
                here = f"{place}, question {asked.get('id', asked['question'])!r}"
                if answers:
                    values = {"context": paragraph["context"], "question": asked["question"], "answers": answers}
                    yield Row(here, values)
    except (KeyError, TypeError, AttributeError) as error:
        missing = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{place} is not in SQuAD's format: {missing}") from error


def tabbed(path: Path, text: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """The columns in their order, tabs between them."""
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) != len(columns):
            raise ValueError(
                f"{path}, line {number} has {len(fields)} columns with tabs between them; "
                f"expected {len(columns)}: {', '.join(columns)}"
            )
        yield Row(f"{path}, line {number}", dict(zip(columns, fields, strict=True)))


def tagged(path: Path, text: str) -> Iterator[Row]:
    """Sentences of CoNLL: on each line a token first and its tag last, an empty line after each sentence."""
    tokens: list[str] = []
    tags: list[str] = []
    first = 1
    for number, line in enumerate([*lines_of(text), ""], 1):
        fields = line.split()
        if not fields or fields[0] == "-DOCSTART-":
            if tokens:
                yield Row(f"{path}, line {first}", {"tokens": tokens, "tags": tags})
            tokens, tags, first = [], [], number + 1
        elif len(fields) == 1:
            raise ValueError(f"{path}, line {number} has a token, {fields[0]!r}, and no tag")
        else:
            tokens.append(fields[0])
            tags.append(fields[-1])


def mapping(values: Any, place: str) -> Mapping[str, Any]:
    """`values`, which must be an object."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{place} is {str(values)[:40]!r}; expected an object with a value for each column")
    return values


def column(row: Row, name: str, way: str = "") -> Any:
    """The value of a column; "translation.de" looks into an object.

    Raises ValueError where there is none, with a way out of it if there is one.
    """
    values: Any = row.values
    for part in [name] if name in values else name.split("."):
        if not isinstance(values, Mapping) or part not in values:
            known = values if isinstance(values, Mapping) else row.values
            raise ValueError(f"{row.place} has no column {name!r}{did_you_mean(part, map(str, known))}{way}")
        values = values[part]
    return values
