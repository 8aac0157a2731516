"""`glassformer plan RECIPE --gpus N --kind h100`"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tyro.conf import Positional

if TYPE_CHECKING:
    from rich.table import Table

    from glassformer.tracing.plan import Plan as Found


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Whether a recipe fits some GPUs, and how: the simplest layout that does, and why simpler ones do not.

    Any setting of the recipe can be changed: glassformer plan demo --gpus 8 --model.num-layers 48
    """

    passes_on: ClassVar[str] = "dotted"

    recipe: Positional[str]
    """the name of a recipe that comes with the package, or a TOML file"""
    gpus: int = 1
    """how many"""
    kind: str = "h100"
    """a100, h100, h200, rtx4090, or this (the CPU here, as measured)"""
    vocab_size: int | None = None
    """the tokenizer's, where the recipe does not say it"""


def run(options: Plan, settings: list[str]) -> int:
    """Print the plan; 1 where nothing fits."""
    from rich.console import Console

    from glassformer.tracing.hardware import hardware
    from glassformer.tracing.plan import plan
    from glassformer.training import load_recipe, parse_overrides

    machine = hardware(options.kind)
    recipe = load_recipe(options.recipe, parse_overrides(settings))
    found = plan(recipe, options.gpus, machine, vocab_size=options.vocab_size)
    console = Console()
    many = f"{found.gpus} × " if found.gpus > 1 else ""
    console.print(f"{found.recipe}: {found.work.parameters:,} parameters on {many}{machine.name}", highlight=False)
    for layout, reason in found.refused:
        console.print(f"  [red]no[/]   {layout}: {reason}", highlight=False)
    if found.layout is None:
        console.print("nothing fits: take more GPUs, larger ones, or a smaller model, batch or context")
        return 1
    console.print(f"  [green]yes[/]  {found.layout}", highlight=False)
    console.print(shares(found), expected(found), sep="\n")
    console.print(f"figures: {machine.source}", highlight=False, style="dim")
    return 0


def shares(found: "Found") -> "Table":
    """Memory of the fullest GPU by kind."""
    from rich.table import Table

    from glassformer.tracing.cost import human
    from glassformer.tracing.plan import USABLE

    assert found.share is not None
    table = Table(title="memory of the fullest GPU", title_justify="left", show_header=False)
    table.add_column("kind")
    table.add_column("bytes", justify="right")
    for kind, size in vars(found.share).items():
        if size:
            table.add_row(kind, human(size))
    table.add_section()
    table.add_row("in all", human(found.share.total))
    table.add_row(f"usable ({USABLE:.0%})", human(USABLE * found.machine.memory_bytes))
    return table


def expected(found: "Found") -> "Table":
    """Speed, and what goes between GPUs."""
    from rich.table import Table

    from glassformer.tracing.cost import human
    from glassformer.tracing.plan import EFFICIENCY

    assert found.traffic is not None
    table = Table(title="a step", title_justify="left", show_header=False)
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_row("tokens", f"{found.tokens_per_step:,}")
    table.add_row("FLOPs that it needs", human(found.work.batch_size * found.work.one.flops_step, ""))
    for name in ("gradients", "weights", "tensor", "pipeline"):
        if size := getattr(found.traffic, name):
            table.add_row(f"each GPU sends, {name}", human(size))
    table.add_row("time of it that nothing hides", f"{1e3 * found.traffic.seconds:.3g} ms")
    table.add_row("expected", f"{1e3 * found.seconds:.4g} ms, {found.tokens_per_second:,.0f} tokens/s")
    table.caption = f"assumed: {EFFICIENCY:.0%} of the peak while it computes; that gives {found.mfu:.0%} MFU"
    table.caption_justify = "left"
    return table
