"""Frozen dataclasses from TOML tables and from text, strictly; and back to TOML.

What a table may hold follows from the annotations of a dataclass and from nothing else: `int`, `float`, `bool`, `str`,
tuples of them, another dataclass, or `X | None`, whose None is written "none" (TOML has no null). A field annotated
with an abstract class or a union is a table whose `name` picks one of the classes that `choices` gives for it. A field
whose name cannot be a word of Python's has the one for the table in its metadata, as "key".
"""

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from glassformer.foundation.suggest import did_you_mean

T = TypeVar("T")
Choices = Mapping[Any, Mapping[str, type]]  # abstract class or union -> name -> concrete dataclass
NONE = "none"


class Text(str):
    """A value that came as text (from the command line), still to be read as whatever its field wants."""


@dataclass(frozen=True)
class Location:
    """Where a value stands, for messages: the file, and the dotted path in it."""

    source: str
    path: tuple[str, ...] = ()

    def __truediv__(self, key: str) -> "Location":
        return Location(self.source, (*self.path, key))

    def __str__(self) -> str:
        *section, key = self.path or ("",)
        return f"{self.source}: [{'.'.join(section)}] {key}" if section else f"{self.source}: {key or 'the file'}"

    def of(self, value: object) -> "Location":
        """The same place, its source corrected where the value came from the command line."""
        return Location("--" + ".".join(self.path).replace("_", "-"), self.path) if isinstance(value, Text) else self


def read(kind: type[T], table: object, place: Location, choices: Choices) -> T:
    """The dataclass `kind` with the values of `table`; fields that are not there keep their defaults.

    Raises:
        ValueError: an unknown key (with the nearest right one), or a refusal by the dataclass itself.
        TypeError: a value of the wrong type.
    """
    if not isinstance(table, Mapping):
        raise TypeError(f"{place.of(table)} is {table!r}; expected a table of settings")
    hints = typing.get_type_hints(kind)
    known = {key_of(field): field for field in fields(kind) if field.init}  # pyright: ignore[reportArgumentType]
    values: dict[str, Any] = {}
    for key, value in table.items():
        here = (place / key).of(value)
        if key not in known:
            section = ".".join(place.path)
            raise ValueError(f"{here.source}: {f'[{section}]' if section else 'a recipe'} has no key {key!r}"
                             f"{did_you_mean(key, known)}")  # fmt: skip
        wanted = hints[known[key].name]
        values[known[key].name] = read_value(wanted, named(known[key], wanted, value, choices), here, choices)
    try:
        return kind(**values)
    except TypeError as error:
        missing = [field.name for field in fields(kind) if field.name not in values and is_required(field)]  # pyright: ignore[reportArgumentType]
        if not missing:
            raise
        raise ValueError(f"{place} lacks {', '.join(missing)}") from error
    except ValueError as error:
        raise ValueError(f"{place.source}: [{'.'.join(place.path)}] {error}") from error


def named(field: Any, kind: Any, value: object, choices: Choices) -> object:
    """A table that picks nothing is of the kind that the field has where nothing at all is said."""
    if kind not in choices or not isinstance(value, Mapping) or "name" in value:
        return value
    names = [name for name, made in choices[kind].items() if made is field.default_factory]
    return {"name": names[0], **value} if names else value


def key_of(field: Any) -> str:
    """What a dataclass's field is called in a table."""
    return field.metadata.get("key", field.name)


def is_default(config: Any, name: str) -> bool:
    """Whether a setting of a config is there and has its default."""
    known = {field.name: field.default for field in fields(config)}
    return name in known and getattr(config, name) == known[name]


def is_required(field: Any) -> bool:
    """Whether a dataclass's field has no default."""
    return field.default is field.default_factory  # both MISSING


def read_value(kind: Any, value: object, place: Location, choices: Choices) -> Any:
    """`value` as `kind`, read from text where it is text."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and kind not in choices:
        if isinstance(value, str) and value.lower() == NONE and type(None) in typing.get_args(kind):
            return None
        (kind,) = (argument for argument in typing.get_args(kind) if argument is not type(None))
    if kind in choices:
        return read_choice(kind, value, place, choices)
    if typing.get_origin(kind) is tuple:
        kinds, parts = typing.get_args(kind), value
        if isinstance(value, Text):
            parts = [Text(part.strip().strip("\"'")) for part in value.strip("[]()").split(",") if part.strip()]
        if kinds[1:] == (...,) and isinstance(parts, list | tuple):
            kinds = kinds[:1] * len(parts)
        if not isinstance(parts, list | tuple) or len(parts) != len(kinds):
            raise TypeError(f"{place} is {value!r}; expected {len(kinds)} values")
        return tuple(read_value(kind, part, place, choices) for kind, part in zip(kinds, parts, strict=True))
    if is_dataclass(kind) and isinstance(kind, type):
        return read(kind, value, place, choices)
    return read_plain(kind, value, place)


def read_choice(kind: Any, value: object, place: Location, choices: Choices) -> Any:
    """The dataclass that the table's `name` picks."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{place} is {value!r}; expected a table with a name")
    table, options = dict(value), choices[kind]
    name = table.pop("name", None)
    here = (place / "name").of(name)
    if name is None:
        raise ValueError(
            f"{place.source}: [{'.'.join(place.path)}] has no name; choose from {', '.join(sorted(options))}"
        )
    if name not in options:
        raise ValueError(f"{here} is {name!r}{did_you_mean(str(name), options)}")
    return read(options[name], table, place, choices)


def read_plain(kind: Any, value: object, place: Location) -> Any:
    """A number, a truth value or a text."""
    wanted = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    if kind not in wanted:
        raise TypeError(f"{place}: a field of type {kind} cannot be set from a recipe")
    if isinstance(value, Text) and kind is not str:
        try:
            if kind is bool:
                return {"true": True, "false": False}[value.lower()]
            return kind(value)
        except (ValueError, KeyError):
            raise TypeError(f"{place} is {str(value)!r}; expected {wanted[kind]}") from None
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise TypeError(f"{place} is {value!r}; expected {wanted[kind]}")
    return str(value) if kind is str else value


def table_of(settings: Any, choices: Choices) -> dict[str, Any]:
    """The table that `read` reads as these settings, every field written out."""
    hints = typing.get_type_hints(type(settings))
    table = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            names = {made: name for options in choices.values() for name, made in options.items()}
            picked = type(value) in names and hints[field.name] is not type(value)  # else nothing is to be picked
            named = {"name": names[type(value)]} if picked else {}
            value = named | table_of(value, choices)
        elif value is None:
            value = NONE
        elif hints[field.name] is float:
            value = float(value)
        table[key_of(field)] = value
    return table


def flatten(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flatten(value, f"{before}{key}.") if isinstance(value, Mapping) else {before + key: value}
    return flat


def to_toml(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """A table of tables, texts, numbers, truth values and rows of them, as TOML."""
    lines = [f"[{'.'.join(path)}]"] if path else []
    lines += [f"{key} = {toml_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    parts = ["\n".join(lines)] if lines else []
    parts += [to_toml(value, (*path, key)) for key, value in table.items() if isinstance(value, Mapping)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def toml_value(value: Any) -> str:
    """One value as TOML. Raises TypeError for what a recipe cannot hold."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)  # inf and nan are spelt alike in TOML
        case str():
            escaped = {'"': '\\"', "\\": "\\\\"} | {chr(i): f"\\u{i:04X}" for i in (*range(32), 127)}
            return '"' + "".join(escaped.get(character, character) for character in value) + '"'
        case list() | tuple():
            return "[" + ", ".join(toml_value(item) for item in value) + "]"
    raise TypeError(f"{value!r} cannot be written as TOML")
