"""The reference of the Python language that ships inside Python, taken apart into sections and paragraphs."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Made = TypeVar("Made")

SIGNATURE = re.compile(r"(?:class )?((?:\w+\.)*\w+)\(.*\)$")
_SENTENCE_END = re.compile(r"(?<=[.?!])[)\"”’]?\s+(?=[A-Z\"“*(])")
_ABBREVIATIONS = ("e.g.", "i.e.", "etc.", "cf.", "vs.")


@dataclass(frozen=True)
class Section:
    """A title and what stands under it; prose without its line breaks, anything else with them."""

    topic: str
    title: str
    paragraphs: tuple[str, ...]


def sections() -> list[Section]:
    """All sections, the shortest topics first; a paragraph that several topics repeat is in the first of them alone.

    Raises:
        FileNotFoundError: this Python came without its reference.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise FileNotFoundError("this Python has no reference inside (pydoc_data): choose other examples") from error
    found, seen = [], set()
    for topic in sorted(topics, key=lambda name: (len(topics[name]), name)):
        for title, body in titled(topics[topic]):
            paragraphs = [flowed(block) for block in re.split(r"\n\s*\n", body) if block.strip()]
            new = [text for text in paragraphs if len(text) < 40 or text not in seen]
            seen.update(new)
            if new:
                found.append(Section(topic, title, tuple(new)))
    return found


def titled(text: str) -> list[tuple[str, str]]:
    """Each title, which is underlined, with what follows it."""
    parts = re.split(r"^([^\n]+)\n([*=\-~^])\2{2,}\n", text, flags=re.MULTILINE)
    return [(parts[i].replace('"', ""), parts[i + 2]) for i in range(1, len(parts), 3)]


def flowed(block: str) -> str:
    """A paragraph in one line where it is prose, else line by line."""
    lines = [line.strip() for line in block.splitlines() if line.strip()]
    text = re.sub(r"(?<=\w-) (?=[a-z])", "", " ".join(lines))
    return text if is_prose(text) or SIGNATURE.match(text) else "\n".join(lines)


def is_prose(text: str) -> bool:
    """Whether a paragraph is sentences: no grammar, table or code."""
    return "::=" not in text and text[0] not in "|+>#[]{}" and text[-1] in ".:;?!)" and text.count(" ") >= 3


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph."""
    found: list[str] = []
    for part in _SENTENCE_END.split(text):
        if found and found[-1].endswith(_ABBREVIATIONS):
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def by_topic(found: Sequence[tuple[str, Made]], seed: int, part: float = 0.15) -> tuple[list[Made], list[Made]]:
    """Training and validation: whole topics, drawn until a `part` of all is in the validation."""
    topics = sorted({topic for topic, _ in found})
    random.Random(seed).shuffle(topics)
    held: set[str] = set()
    for topic in topics:
        inside = sum(each in held for each, _ in found)
        if inside >= part * len(found):
            break
        if inside + sum(each == topic for each, _ in found) <= 2 * part * len(found):  # none that is half of it all
            held.add(topic)
    pick: Callable[[bool], list[Made]] = lambda wanted: [made for topic, made in found if (topic in held) == wanted]  # noqa: E731
    return pick(False), pick(True)
