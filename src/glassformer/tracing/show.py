"""A trace in the terminal: a tree of modules, a table of totals."""

from typing import TYPE_CHECKING, Any

from glassformer.tracing.tree import ModuleCall, Operation

if TYPE_CHECKING:
    from rich.table import Table
    from rich.tree import Tree

    from glassformer.tracing.trace import Trace

SUMMED = ("calls", "seconds", "flops", "read", "written")


def seconds_text(seconds: float) -> str:
    """`1.23 ms`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds / size < 1000 else f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


def counted(number: float, unit: str) -> str:
    """`1.23 MFLOP`, `4.5 kB`: in powers of a thousand."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {prefix}{unit}"
    return f"{number:.0f} {unit}"


def summary(trace: "Trace") -> str:
    """What the whole took, in one line."""
    operations = trace.operations
    passes = "forward and backward" if trace.objective else "forward"
    return (
        f"{trace.root.kind}, {passes}: {seconds_text(trace.seconds)} in {len(operations):,} operators, "
        f"{counted(trace.flops, 'FLOP')}, at most {counted(trace.peak, 'B')} alive, "
        f"{trace.root.num_parameters:,} parameters"
    )


def tree(trace: "Trace", depth: int | None, *, operations: bool, views: bool) -> None:
    """Print the tree."""
    from rich.console import Console

    Console(highlight=False).print(rendered(trace, depth, operations=operations, views=views))


def plain(trace: "Trace") -> str:
    """The modules as text, without colours."""
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    Console(file=out, width=140, highlight=False).print(rendered(trace, 2, operations=False, views=False))
    return out.getvalue().rstrip()


def rendered(trace: "Trace", depth: int | None, *, operations: bool, views: bool) -> Any:
    """The tree as rich draws it."""
    from rich.console import Group
    from rich.text import Text
    from rich.tree import Tree

    whole = max(trace.seconds, 1e-12)
    root = Tree(_line(trace.root, whole), guide_style="dim")
    _grow(root, trace.root, whole, depth, operations=operations, views=views)
    parts: list[Any] = [Text(summary(trace), style="bold"), root]
    if trace.error is not None:
        parts.append(Text(str(trace.error), style="bold red"))
    return Group(*parts)


def _grow(node: "Tree", call: ModuleCall, whole: float, depth: int | None, *, operations: bool, views: bool) -> None:
    for item in call.items:
        if isinstance(item, Operation):
            if item.error is not None or (operations and (views or not item.is_view)):
                node.add(_operation(item, whole))
            continue
        below = node.add(_line(item, whole, call.path))
        # Of a pass that failed, what went well takes one line each.
        deeper = depth is None or (depth > 1 and not call.failed)
        if item.failed or deeper:
            _grow(below, item, whole, None if depth is None else depth - 1, operations=operations, views=views)
    if call.backward and operations:
        below = node.add(_backward(call, whole))
        for operation in call.backward:
            if views or not operation.is_view:
                below.add(_operation(operation, whole))


def _line(call: ModuleCall, whole: float, parent: str = "") -> Any:
    """One module: name, class, shapes, what it takes."""
    from rich.text import Text

    failed, name = call.failed, call.path.removeprefix(f"{parent}.") or call.kind
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(name, style="bold red" if failed else "bold cyan").append(
        f" {call.kind}" if call.path else "", style="dim"
    )
    if call.call:
        line.append(f" (call {call.call + 1})", style="dim")
    line.append(f"  {_shapes(call.inputs)} → {_shapes(call.outputs) if call.outputs else '?' if failed else '–'}")
    seconds = call.seconds
    line.append(f"  {seconds_text(seconds)}", style=_heat(seconds / whole))
    if seconds:
        line.append(f" {seconds / whole:.0%}", style=_heat(seconds / whole))
    if call.flops:
        line.append(f"  {counted(call.flops, 'FLOP')}", style="green")
    line.append(f"  peak {counted(call.peak, 'B')}" if call.peak else "", style="dim")
    return line


def _operation(operation: Operation, whole: float) -> Any:
    from rich.text import Text

    style = "bold red" if operation.error else "yellow" if not operation.is_backward else "magenta"
    line = Text(operation.name.removeprefix("aten."), style=style, no_wrap=True, overflow="ellipsis")
    out = "FAILED" if operation.error else _shapes(operation.outputs)
    line.append(f"  {_shapes(operation.inputs)} → {out}", style="bold red" if operation.error else "default")
    line.append(f"  {seconds_text(operation.seconds)}", style=_heat(operation.seconds / whole))
    if operation.flops:
        line.append(f"  {counted(operation.flops, 'FLOP')}", style="green")
    if operation.read + operation.written:
        line.append(f"  {counted(operation.read + operation.written, 'B')} moved", style="dim")
    if operation.statistics is not None and operation.statistics.non_finite:
        line.append(f"  {operation.statistics.non_finite:,} not finite", style="red")
    if operation.source is not None:
        line.append(f"  {operation.source}", style="dim")
    return line


def _backward(call: ModuleCall, whole: float) -> Any:
    from rich.text import Text

    seconds = sum(operation.seconds for operation in call.backward)
    flops = sum(operation.flops for operation in call.backward)
    line = Text("backward", style="italic magenta")
    line.append(f"  {len(call.backward)} operators  ")
    line.append(seconds_text(seconds), style=_heat(seconds / whole))
    return line.append(f"  {counted(flops, 'FLOP')}" if flops else "", style="green")


def _shapes(found: tuple[Any, ...]) -> str:
    shown = " ".join(map(str, found[:3]))
    return (shown + (f" +{len(found) - 3}" if len(found) > 3 else "")) or "–"


def _heat(share: float) -> str:
    return "bold red" if share >= 0.3 else "yellow" if share >= 0.1 else "white" if share >= 0.01 else "dim"


def table(trace: "Trace", by: str) -> "Table":
    """Totals, the slowest first."""
    from rich.table import Table

    whole = max(trace.seconds, 1e-12)
    out = Table(title=summary(trace), title_justify="left")
    out.add_column(by, overflow="fold")
    for name in ("calls", "time", "share", "FLOPs", "bytes moved", "FLOPs per byte"):
        out.add_column(name, justify="right")
    for name, found in trace.totals(by).items():
        moved = found["read"] + found["written"]
        intensity = f"{found['flops'] / moved:.1f}" if moved and found["flops"] else ""
        out.add_row(
            name or trace.root.kind, f"{found['calls']:,}", seconds_text(found["seconds"]),
            f"{found['seconds'] / whole:.1%}", counted(found["flops"], "") if found["flops"] else "",
            counted(moved, "B"), intensity,
        )  # fmt: skip
    return out
