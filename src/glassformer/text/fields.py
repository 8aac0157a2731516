"""What an example of each task has, and a row of a file as such an example."""

from collections.abc import Mapping, Sequence
from typing import Any

from glassformer.text.rows import Row, column

Example = dict[str, Any]

FIELDS: dict[str, tuple[str, ...]] = {
    "classification": ("text", "label"),
    "tagging": ("tokens", "tags"),
    "question_answering": ("context", "question", "answers"),
    "translation": ("source", "target"),
}
"""What an example of each task has; a summary is a translation."""


def example_of(row: Row, fields: tuple[str, ...], columns: Mapping[str, str]) -> Example:
    """A row as an example: its columns as what the fields hold. Raises ValueError, saying where, for anything else."""
    if "answers" in fields:
        return question_of(row, columns)
    example = {field: field_of(row, field, columns) for field in fields}
    for field, value in example.items():
        if field in ("tokens", "tags"):
            example[field] = words_of(value, row.place, field)
        else:
            example[field] = text_of(value, row.place, field)
    if "tags" in fields and len(example["tokens"]) != len(example["tags"]):
        raise ValueError(f"{row.place} has {len(example['tokens'])} tokens and {len(example['tags'])} tags")
    return example


def field_of(row: Row, field: str, columns: Mapping[str, str]) -> Any:
    """What a row holds for a field: in the column of its name, or in that which `columns` says."""
    way = "" if field in columns else f"; say which holds it: 'FILE?{field}=COLUMN'"
    return column(row, columns.get(field, field), way)


def text_of(value: Any, place: str, field: str) -> str:
    """A text that is not empty; a label may be a number."""
    if field == "label" and isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{place} has {str(value)[:40]!r} as {field}; expected a text")
    value = value.strip() if field == "label" else value
    if not value.strip():
        raise ValueError(f"{place} has an empty {field}")
    return value


def words_of(value: Any, place: str, field: str) -> list[str]:
    """A list of words, or a text that spaces cut into words."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, Sequence) or not words or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f"{place} has {str(value)[:40]!r} as {field}; expected a list of words, or words with spaces")
    return list(words)


def question_of(row: Row, columns: Mapping[str, str]) -> Example:
    """A context, a question, and answers that are spans of the context.

    The answers may be a text (its first occurrence is meant), a list of {"text", "start"}, or SQuAD's
    {"text": [...], "answer_start": [...]}.
    """
    context, question = (text_of(field_of(row, name, columns), row.place, name) for name in ("context", "question"))
    name = columns.get("answers", "answers")
    given = column(row, name if name in row.values or "answer" not in row.values else "answer")
    if isinstance(given, Mapping) and not isinstance(given.get("text"), str):
        starts = given.get("answer_start", given.get("start"))
        texts = given.get("text")
        if not isinstance(texts, Sequence) or not isinstance(starts, Sequence) or len(starts) != len(texts):
            raise ValueError(f"{row.place} has answers {str(given)[:60]!r}; expected as many texts as starts")
        given = [{"text": text, "start": start} for text, start in zip(texts, starts, strict=True)]
    listed = given if isinstance(given, list) else [given]
    if not listed:
        raise ValueError(f"{row.place} has no answer")
    return {"context": context, "question": question, "answers": [answer_of(one, context, row.place) for one in listed]}


def answer_of(given: Any, context: str, place: str) -> Example:
    """One answer, which stands in the context where it says."""
    text, start = (given.get("text"), given.get("start")) if isinstance(given, Mapping) else (given, None)
    text = text_of(text, place, "answer")
    if start is None:
        start = context.find(text)
    if not isinstance(start, int) or start < 0 or context[start : start + len(text)] != text:
        raise ValueError(f"{place}: the answer {text[:40]!r} does not stand in the context at {start}")
    return {"text": text, "start": start}
