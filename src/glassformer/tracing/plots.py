"""Pictures of a trace, by matplotlib: titled, labelled, in colours that everybody can tell apart."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.foundation.atomic import atomic_file
from glassformer.tracing.patterns import resolve
from glassformer.tracing.show import counted, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from glassformer.tracing.trace import Trace

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe & Ito 2008
MOST_LABELS = 32
"""Tokens written along an axis at most."""


def figure(rows: int, columns: int, size: tuple[float, float]) -> tuple["Figure", Any]:
    """A figure that belongs to no window. Raises ImportError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'glassformer[course]'") from error
    made = Figure(figsize=size, layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False)


def finished(made: "Figure", path: str | None) -> "Figure":
    """The figure, written to `path` where one is given."""
    if path is not None:
        write_figure(Path(path), made)
    return made


def write_figure(path: Path, made: "Figure", dpi: int = 150) -> None:
    """Write a figure, whole or not at all; the suffix says the format (PNG, where there is none)."""
    path = path if path.suffix else path.with_suffix(".png")
    with atomic_file(path) as file:
        made.savefig(file, format=path.suffix[1:], dpi=dpi)


def attention(trace: "Trace", layer: int | str, row: int, tokens: list[str], path: str | None) -> "Figure":
    """One square for each head: rows ask, columns are looked at. All have the same scale, 0 to 1."""
    weights = trace.attention(layer)
    if not 0 <= row < weights.shape[0]:
        raise IndexError(f"row {row} is not there: the batch has {weights.shape[0]}")
    name = layer if isinstance(layer, str) else list(trace.weights)[layer]
    title = f"{name} of {trace.root.kind}: where each head looks"
    return finished(heads(weights[row].float().cpu(), title, tokens, tokens), path)


def heads(weights: "Tensor", title: str, asking: list[str], seen: list[str]) -> "Figure":
    """Weights (h, t, s) of the heads of one layer; the tokens that ask, and those that are looked at."""
    num_heads, t, s = weights.shape
    columns = min(num_heads, 4)
    rows = math.ceil(num_heads / columns)
    made, axes = figure(rows, columns, (3.0 * columns + 0.8, 3.1 * rows + 0.6))
    image: Any = None
    for head, axis in enumerate(axes.flat):
        if head >= num_heads:
            axis.set_axis_off()
            continue
        image = axis.imshow(weights[head].numpy(), cmap="cividis", vmin=0, vmax=1, aspect="equal")
        axis.set_title(f"head {head + 1}", fontsize=10)
        _ticks(axis, asking, seen, t, s)
        if head % columns == 0:
            axis.set_ylabel("query")
        if head + columns >= num_heads:
            axis.set_xlabel("key")
    made.colorbar(image, ax=axes, label="attention weight", shrink=0.7)
    made.suptitle(title)
    return made


def _ticks(axis: Any, asking: list[str], seen: list[str], t: int, s: int) -> None:
    """Tokens along the axes where they are few enough to be read."""
    for tokens, size, ticks in ((seen, s, axis.set_xticks), (asking, t, axis.set_yticks)):
        if len(tokens) == size <= MOST_LABELS:
            vertical = {"rotation": 90} if ticks == axis.set_xticks else {}
            ticks(range(size), [readable(token) for token in tokens], fontsize=7, **vertical)


def readable(token: str) -> str:
    """A token that can be seen: spaces and line ends as signs, and so are the marks that vocabularies have for them."""
    return token.replace("\n", "⏎").translate({ord(sign): "␣" for sign in " Ġ▁"}).replace("Ċ", "⏎") or "∅"


def memory(trace: "Trace", path: str | None) -> "Figure":
    """Bytes alive after each operator, the backward pass behind the forward."""
    forward = [op.live for op in trace.root.forward_operations() if not op.is_backward]
    made, axes = figure(1, 1, (8, 3.6))
    axis = axes[0, 0]
    axis.fill_between(range(len(forward)), [live / 1e6 for live in forward], step="post", color=BLUE, alpha=0.35)
    axis.plot(range(len(forward)), [live / 1e6 for live in forward], drawstyle="steps-post", color=BLUE, lw=1.2)
    most = max(range(len(forward)), key=forward.__getitem__, default=0)
    if forward:
        operation = [op for op in trace.root.forward_operations() if not op.is_backward][most]
        after = f"after {operation.name.removeprefix('aten.')}\nin {operation.module or 'the model'}"
        axis.annotate(
            f"{counted(forward[most], 'B')} {after}",
            (most, forward[most] / 1e6), xytext=(0.02, 0.97), textcoords="axes fraction", va="top", fontsize=8,
            arrowprops={"arrowstyle": "-", "color": ORANGE}, color=ORANGE,
        )  # fmt: skip
    axis.set_ylim(bottom=0, top=1.25 * max(forward, default=1) / 1e6)
    axis.set(
        xlabel="operator, in the order of the run",
        ylabel="alive, MB",
        title=f"Memory of a forward pass of {trace.root.kind}",
    )
    return finished(made, path)


def time(trace: "Trace", depth: int, path: str | None) -> "Figure":
    """Time, and FLOPs beside it, of the modules `depth` below the model, the slowest first; the rest as one bar."""
    calls = [call for call in trace.root.calls() if len(_above(trace, call.path)) == depth and call.seconds]
    found = sorted(((call.path, call.seconds, call.flops) for call in calls), key=lambda each: -each[1])[:24]
    if not found:
        raise ValueError(f"no module of {trace.root.kind} ran at depth {depth}; give another depth")
    made, axes = figure(1, 2, (9, 0.28 * len(found) + 1.6))
    places = range(len(found))
    for axis, values, colour, label in (
        (axes[0, 0], [seconds * 1e3 for _, seconds, _ in found], BLUE, "time, ms"),
        (axes[0, 1], [flops / 1e6 for _, _, flops in found], GREEN, "products, MFLOP"),
    ):
        axis.barh(places, values, color=colour)
        axis.invert_yaxis()
        axis.set_xlabel(label)
    axes[0, 0].set_yticks(places, [name for name, _, _ in found], fontsize=8)
    axes[0, 1].set_yticks(places, [""] * len(found))
    made.suptitle(summary(trace), fontsize=9)
    return finished(made, path)


def _above(trace: "Trace", path: str) -> list[str]:
    """The called modules from the first below the model down to this one."""
    called = {call.path for call in trace.root.calls() if call.path}
    parts = path.split(".")
    return [name for i in range(1, len(parts) + 1) if (name := ".".join(parts[:i])) in called]


def statistics(trace: "Trace", pattern: str, path: str | None) -> "Figure":
    """How large the numbers are that flow: standard deviation and largest |x| of each module's output."""
    calls = {call.path: call for call in trace.root.calls() if call.path and call.statistics is not None}
    names = resolve([pattern], list(calls))
    found = [calls[name].statistics for name in names]
    made, axes = figure(1, 1, (max(5.0, 0.28 * len(names) + 2), 4))
    axis = axes[0, 0]
    places = range(len(names))
    axis.plot(places, [each.abs_max for each in found if each], color=ORANGE, marker="s", ms=4, label="largest |x|")
    axis.plot(places, [each.std for each in found if each], color=BLUE, marker="o", ms=4, label="standard deviation")
    bad = [i for i, each in enumerate(found) if each and each.non_finite]
    for i in bad:
        axis.axvline(i, color="black", ls=":", lw=1)
    axis.set_yscale("log")
    axis.set_xticks(places, names, rotation=90, fontsize=7)
    axis.set(ylabel="size of the output", title=f"Numbers that flow through {trace.root.kind}")
    axis.legend(title=f"dotted: not finite ({len(bad)})" if bad else None, fontsize=8)
    return finished(made, path)
