"""`glassformer demo`"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train a small GPT in two minutes, let it write, check it against NumPy, and make a page of it."""

    passes_on: ClassVar[str] = "everything"


def run(_: Demo, arguments: list[str]) -> int:
    """Run the demo."""
    from glassformer.explorer.demo import main

    return main(arguments)
