"""`glassformer cost NAME_OR_FOLDER`"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

if TYPE_CHECKING:
    from rich.table import Table

    from glassformer.tracing.cost import Cost as Said
    from glassformer.tracing.hardware import Hardware


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a model costs: parameters, FLOPs, memory by kind, time on a machine; no weight is made for it."""

    model: Positional[str]
    """the name of a published size, a run folder, a Hugging Face folder, or a hub id"""
    batch_size: int = 1
    """rows"""
    length: int | None = None
    """tokens in each; the model's longest if not given, at most 512"""
    dtype: str = "float32"
    """float32, bfloat16 or float16"""
    training: bool = False
    """a whole training step: backward and optimizer too"""
    optimizer: str = "adamw"
    """adamw, lion, muon or sgd"""
    checkpoint_activations: bool = False
    """blocks keep their input only, and are computed again"""
    cached: bool = False
    """one more token behind LENGTH cached ones"""
    kind: str = "this"
    """the machine that the time is of: a100, h100, h200, rtx4090, or this"""
    check: bool = False
    """run it here and show what is measured beside what is said"""


def run(options: Cost, _: list[str]) -> None:
    """Print the tables."""
    from rich.console import Console

    from glassformer.tracing.cost import cost
    from glassformer.tracing.hardware import THIS, hardware

    machine = hardware(options.kind)
    given = given_model(options.model)
    said = cost(
        given, options.batch_size, options.length, options.dtype, training=options.training,
        optimizer=options.optimizer, checkpoint_activations=options.checkpoint_activations, cached=options.cached,
        device="cpu" if options.kind == THIS or options.check else "cuda",
    )  # fmt: skip
    console = Console()
    console.print(parts(said), quantities(said, machine), sep="\n")
    console.print(f"{machine.name}: {machine.source}", highlight=False, style="dim")
    if options.check:
        console.print(checked(given, said))


def given_model(name: str) -> Any:
    """The config of a published size, or the model of a folder. Raises OSError or ValueError where it is neither."""
    from glassformer.models.catalog import CONFIGS, model_config

    if name in CONFIGS:
        return CONFIGS[name]
    from glassformer.training import is_run

    if is_run(name) or Path(name).expanduser().exists() or "/" in name:
        from glassformer.cli.models import open_model

        return open_model(name, device="cpu").model
    return model_config(name)  # says which is near


def parts(said: "Said") -> "Table":
    """A row for each kind of part."""
    from rich.table import Table

    from glassformer.tracing.cost import human

    table = Table(title=f"{said.name}, {said.batch_size} × {said.length}, forward", title_justify="left")
    table.add_column("part")
    for name in ("parameters", "FLOPs", "share", "bytes moved"):
        table.add_column(name, justify="right")
    for row in said.rows:
        share = f"{row.flops / max(said.flops_forward, 1):.1%}" if row.flops else ""
        flops = human(row.flops, "") if row.flops else ""
        table.add_row(row.kind, f"{row.parameters:,}" if row.parameters else "", flops, share, human(row.moved))
    active = "" if said.active_parameters == said.parameters else f" ({said.active_parameters:,} for each token)"
    table.caption, table.caption_justify = f"{said.parameters:,} parameters{active}", "left"
    return table


def quantities(said: "Said", machine: "Hardware") -> "Table":
    """Memory by kind, FLOPs and time of what was asked for."""
    from rich.table import Table

    from glassformer.tracing.cost import human

    memory = said.memory
    rows = {"weights": memory.weights}
    if said.training:
        rows |= {"gradients": memory.gradients, "optimizer state": memory.optimizer,
                 "activations": memory.activations, "activations, checkpointed": memory.checkpointed}  # fmt: skip
    rows |= {"logits": memory.logits, "key-value cache": memory.kv_cache, "inputs": memory.inputs}
    table = Table(
        title="a training step" if said.training else "a forward pass", title_justify="left", show_header=False
    )
    table.add_column("quantity")
    table.add_column("value", justify="right")
    for name, size in rows.items():
        if size:
            table.add_row(name, human(size))
    if said.training:
        table.add_row("peak" + (" (checkpointed)" if said.checkpointing else ""), human(said.peak_bytes))
    table.add_section()
    table.add_row("FLOPs", human(said.flops, ""))
    table.add_row("bytes moved", human(said.moved))
    table.add_row("arithmetic intensity", f"{said.intensity:.1f} FLOP/B")
    table.add_row("least time", f"{1e3 * said.seconds(machine):.4g} ms")
    return table


def checked(given: Any, said: "Said") -> "Table":
    """What the formulas say beside what a real run shows. Raises MemoryError's sentence where it would not fit here."""
    from rich.table import Table
    from torch import nn

    from glassformer.models.catalog import build
    from glassformer.tracing.cost import human
    from glassformer.tracing.cost_check import check
    from glassformer.tracing.hardware import this_machine

    room = this_machine().memory_bytes / 2
    if said.peak_bytes > room:
        raise ValueError(f"a real run takes {human(said.peak_bytes)}, and this machine has {human(room)} to spare; "
                         "choose fewer rows, fewer tokens, or a smaller model")  # fmt: skip
    table = Table(title="measured here", title_justify="left")
    for name in ("quantity", "by formula", "measured", "difference"):
        table.add_column(name, justify="left" if name == "quantity" else "right")
    for row in check(given if isinstance(given, nn.Module) else build(given), said):
        if row.unit:
            both = human(row.said, row.unit), human(row.measured, row.unit)
        else:
            both = f"{row.said:,}", f"{row.measured:,}"
        table.add_row(row.name, *both, f"{row.difference:+.2%}")
    return table
