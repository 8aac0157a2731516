"""`glassformer train RECIPE`"""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tyro.conf import Positional

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model by a recipe.

    On your own text: glassformer train llama_char --data.corpus my.txt. Any setting of the recipe can be changed:
    --model.num-layers 6 --training.steps 500 --schedule.warmup-steps 10; recipe.toml in the run folder has them
    all.

    The recipes: bart_summarize, bert_mlm, bert_qa, bert_sentiment, bert_tagging, deit_distill, demo, detr_scenes,
    detr_scenes_plain, gpt2_bpe, gpt_char, llama_char, llama_pretrain, mae_pretrain, mae_probe, mask2former_scenes,
    mixtral_small, multi30k, segformer_scenes, shakespeare_char, shakespeare_char_fast, swin_digits, t5_denoise,
    timesformer_motion, transformer_translate, videomae_motion, videomae_pretrain, vit_digits.
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

    console = Console()
    recipe = load_recipe(options.recipe, parse_overrides(settings))
    step = options.resume_step
    done = train(
        recipe,
        resume=options.resume if step is None else step,
        overwrite=options.overwrite,
        run_folder=options.run_folder,
        console=console,
    )
    if done.signal is not None:
        print(f"stopped by {done.signal} after a checkpoint; --resume goes on", file=sys.stderr)
        return 128 + signal.Signals[done.signal]
    if done.result is not None:
        console.print(report(done.result))
    print(done.recipe.task.next_command(done.folder))
    return 0


def report(result: dict[str, Any]) -> "Table":
    """What the best weights reach on the validation data, and on the test data if there is some, each beside the
    baseline; and the time it took."""
    from datetime import timedelta

    from rich.table import Table

    found = {"validation": ({"loss": result["validation_loss"]} | result["metrics"], result["baseline"])}
    if "test" in result:
        found["test"] = result["test"], result["test_baseline"]
    table = Table(title=f"the weights of step {result['step']:,}", title_justify="left")
    table.add_column("metric")
    columns = []
    for part, pair in found.items():
        for kind, values in zip((part, f"baseline, {part}"), pair, strict=True):
            if values:
                table.add_column(kind, justify="right")
                columns.append(values)
    for name in found["validation"][0]:
        shown = [f"{values[name]:.4f}" if name in values else "" for values in columns]
        table.add_row(name.replace("_", " "), *shown)
    wall, cpu = (timedelta(seconds=round(result[kind])) for kind in ("seconds", "cpu_seconds"))
    table.caption = f"{wall} of wall time, {cpu} of CPU time"
    table.caption_justify = "left"
    return table
