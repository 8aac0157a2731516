"""`glassformer sentiment`"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Sentiment:
    """Train an encoder by hand, in NumPy, to tell praise from blame where words are denied; draw where it looks."""

    picture: Path = Path("sentiment.png")
    """where the picture of its attention goes"""
    no_picture: bool = False
    """draw none"""
    steps: int | None = None
    """how long to train; as long as it takes if not given"""
    seed: int = 0
    """of the weights and of the order of the examples"""


def run(options: Sentiment, _: list[str]) -> None:
    """Run the example."""
    from glassformer.by_hand.machine import prepare

    prepare(threads=1)  # small products lose by a second thread where another program keeps its core
    from rich.console import Console

    from glassformer.by_hand.classification import Options
    from glassformer.explorer.sentiment import run as run_example

    steps = {} if options.steps is None else {"steps": options.steps}
    run_example(
        Options(seed=options.seed, **steps), picture=None if options.no_picture else options.picture, console=Console()
    )
