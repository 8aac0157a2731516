"""Two parts of different examples."""

from collections.abc import Callable, Hashable, Iterator
from typing import Any

Example = dict[str, Any]


def in_two(
    groups: Iterator[list[Example]], *, train: int, validation: int, key: Callable[[Example], Hashable]
) -> tuple[list[Example], list[Example]]:
    """The first `validation` examples and the next `train` ones, taken in whole groups, none with the key of another.

    Returns training and validation. A part is cut at its size, which may leave its last group incomplete.
    """
    seen: set[Hashable] = set()
    parts: list[list[Example]] = []
    for size in (validation, train):
        part: list[Example] = []
        while len(part) < size:
            group = next(groups)
            keys = {key(example) for example in group}
            if len(keys) == len(group) and not keys & seen:
                seen |= keys
                part += group
        parts.append(part[:size])
    return parts[1], parts[0]
