"""`glassformer demo`"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train a small GPT in two minutes, let it write, check it against NumPy, and make a page of it."""

    run_folder: Path = Path("runs/demo")
    """where the run and its report go"""
    recipe: str = "demo"
    """the recipe to train by"""


def run(options: Demo, _: list[str]) -> None:
    """Run the demo."""
    from glassformer.explorer.demo import main

    main(options.run_folder, recipe=options.recipe)
