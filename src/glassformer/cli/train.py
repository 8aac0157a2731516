"""`glassformer train RECIPE`"""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model by a recipe.

    Any setting of the recipe can be changed: glassformer train demo --model.num-layers 6 --training.steps 500
    """

    passes_on: ClassVar[str] = "dotted"

    recipe: Positional[str]
    """the name of a recipe that comes with the package, or a TOML file"""
    run_folder: Path | None = None
    """where the run goes; runs/NAME if not given"""
    resume: bool = False
    """go on from the newest checkpoint in the run folder"""
    resume_step: int | None = None
    """go on from the checkpoint of this step"""
    overwrite: bool = False
    """remove an earlier run in the run folder"""


def run(options: Train, settings: list[str]) -> int:
    """Train, live on a terminal; 130 or 143 where a signal ended it early, after a checkpoint."""
    from rich.console import Console

    from glassformer.training import load_recipe, parse_overrides, train

    recipe = load_recipe(options.recipe, parse_overrides(settings))
    step = options.resume_step
    done = train(
        recipe,
        resume=options.resume if step is None else step,
        overwrite=options.overwrite,
        run_folder=options.run_folder,
        console=Console(),
    )
    if done.signal is not None:
        print(f"stopped by {done.signal} after a checkpoint; --resume goes on", file=sys.stderr)
        return 128 + signal.Signals[done.signal]
    print(f"glassformer generate --model {done.folder}   # lets it write")
    return 0
