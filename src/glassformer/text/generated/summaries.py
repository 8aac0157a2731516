"""Sections of the reference of the Python language, and descriptions of its methods, to their first sentence.

The source is what follows that sentence; the target is the sentence. Whole topics are kept for validation.
"""

from collections.abc import Iterator

from glassformer.text.generated.python_docs import SIGNATURE, Section, by_topic, is_prose, sections, sentences
from glassformer.text.generated.split import Example

SHORTEST_SOURCE, SHORTEST_TARGET, LONGEST_TARGET = 80, 25, 250  # characters


def make(seed: int) -> tuple[list[Example], list[Example]]:
    """Training and validation examples, source and target."""
    return by_topic([(section.topic, example) for section in sections() for example in units(section)], seed)


def units(section: Section) -> Iterator[Example]:
    """A section up to its first method, and then each method with what is said of it."""
    heading, prose = section.title, []
    for text in (*section.paragraphs, None):
        if text is None or (SIGNATURE.match(text) and "\n" not in text):
            yield from summarized(heading, prose)
            heading, prose = text or "", []
        elif is_prose(text):
            prose.append(text)


def summarized(heading: str, prose: list[str]) -> Iterator[Example]:
    """One example, where there is enough to summarize."""
    if not prose:
        return
    target, *rest = sentences(prose[0])
    source = " ".join([*rest, *prose[1:]])
    if len(source) >= SHORTEST_SOURCE and SHORTEST_TARGET <= len(target) <= LONGEST_TARGET and target[-1] == ".":
        yield {"source": f"{heading}: {source}", "target": target}
