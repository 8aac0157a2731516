"""What `glassformer draw` draws: places, heads, the stream, gradients, and time against length.

Each function draws numbers that another file computes: positions.py, depth.py, complexity.py, and the x-ray's weights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glassformer.tracing.complexity import Curves
from glassformer.tracing.depth import Flow, ResidualStream
from glassformer.tracing.plots import BLUE, GREEN, ORANGE, figure, heads
from glassformer.tracing.positions import AddedVectors, Positions, ScoreBias, Turns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 4
"""Kinds of positions in one picture at most."""
MOST_LINES = 12
PURPLE = "#cc79a7"


# ---------------------------------------------------------------------------------------------- positions


def positional_encoding(found: Sequence[Positions], of: str) -> "Figure":
    """For each kind of positions: what the places get, at which frequencies, and how alike they are by distance."""
    shown = found[:MOST_ROWS]
    made, axes = figure(len(shown), 3, (12.5, 3.7 * len(shown) + 0.5))
    for row, position in zip(axes, shown, strict=True):
        draw: Any = {AddedVectors: _added, Turns: _turns, ScoreBias: _bias}[type(position)]
        draw(made, row, position)
    left = f" ({len(found) - MOST_ROWS} more are alike)" if len(found) > MOST_ROWS else ""
    made.suptitle(f"How {of} tells places apart{left}", fontsize=13)
    return made


def _added(made: "Figure", axes: Any, position: AddedVectors) -> None:
    pattern, frequencies, products = axes
    reach = float(position.vectors.abs().quantile(0.99)) or 1.0
    image = pattern.imshow(position.vectors.numpy(), cmap="cividis", aspect="auto", vmin=-reach, vmax=reach)
    made.colorbar(image, ax=pattern, label="value")
    pattern.set(title=f"{position.kind}: {position.name}", xlabel="dimension", ylabel="place")
    turns, share = position.spectrum()
    frequencies.loglog(turns.numpy(), share.clamp(min=1e-12).numpy(), color=BLUE, marker="o", ms=3, lw=1)
    most, least = float(share.max()), float(share.min())
    frequencies.set_ylim(max(min(least / 2, most / 100), most * 1e-6), 2 * most)
    frequencies.set(title="frequencies along the places", xlabel="turns per place", ylabel="share of the variation")
    mean, lowest, highest = position.dot_products().T.numpy()
    distance = range(len(mean))
    products.fill_between(distance, lowest, highest, color=BLUE, alpha=0.25, label="least to most, over i")
    products.plot(distance, mean, color=BLUE, label="mean over i")
    products.axhline(0, color="black", lw=0.6)
    products.set(title="dot product of two places", xlabel="distance Δ", ylabel="p(i) · p(i+Δ) / |p|²")
    products.legend(fontsize=8)


def _turns(made: "Figure", axes: Any, position: Turns) -> None:
    pattern, frequencies, products = axes
    image = pattern.imshow(position.pattern().numpy(), cmap="cividis", aspect="auto", vmin=-1, vmax=1)
    made.colorbar(image, ax=pattern, label="cos(place · frequency)")
    pattern.set(title=f"rotary: {position.name}", xlabel="pair of coordinates", ylabel="place")
    waves = position.wavelengths()
    frequencies.semilogy(waves.numpy(), color=BLUE, marker="o", ms=3, lw=1)
    frequencies.axhline(position.length, color=ORANGE, ls="--", lw=1.2, label=f"{position.length} places, as drawn")
    frequencies.set(title="wavelength of each pair", xlabel="pair of coordinates", ylabel="places for one turn")
    frequencies.legend(fontsize=8)
    products.plot(position.dot_products().numpy(), color=BLUE)
    products.axhline(0, color="black", lw=0.6)
    products.set(title="dot product of equal vectors, turned", xlabel="distance Δ", ylabel="q(i) · k(i+Δ) / q · k")


def _bias(made: "Figure", axes: Any, position: ScoreBias) -> None:
    pattern, middle, products = axes
    distances, (num_heads, _) = position.distances.numpy(), position.bias.shape
    ends = (distances[0] - 0.5, distances[-1] + 0.5, num_heads + 0.5, 0.5)
    image = pattern.imshow(position.bias.numpy(), cmap="cividis", aspect="auto", extent=ends, interpolation="nearest")
    made.colorbar(image, ax=pattern, label="added to the score")
    pattern.set(title=f"{position.kind}: {position.name}", xlabel="distance, key − query", ylabel="head")
    if position.slopes is not None:
        numbers = range(1, num_heads + 1)
        middle.semilogy(numbers, position.slopes.numpy(), color=BLUE, marker="o", ms=4, lw=1)
        middle.set(title="slope of each head", xlabel="head", ylabel="taken from the score per place")
    elif position.buckets is not None:
        middle.plot(distances, position.buckets.numpy(), color=BLUE, drawstyle="steps-mid")
        middle.set(title="which learned number a distance has", xlabel="distance, key − query", ylabel="bucket")
    lines(made, products, distances, position.share(), "head")
    products.set(title="weight, were all scores equal", xlabel="distance, key − query", ylabel="beside the best place")
    products.set_ylim(0, 1.05)


def lines(made: "Figure", axis: Any, x: Any, rows: Tensor, of: str) -> None:
    """A line for each row, at most 12 of them, told apart by a scale of colours."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    count = len(rows)
    chosen = torch.linspace(0, count - 1, min(count, MOST_LINES)).round().int().tolist()
    scale = Normalize(1, max(count, 2))
    for i in chosen:
        axis.plot(x, rows[i].numpy(), color=colormaps["viridis"](scale(i + 1) * 0.9), lw=1.2)
    made.colorbar(ScalarMappable(scale, "viridis"), ax=axis, label=of)


# ---------------------------------------------------------------------------------------------- heads


def attention_pattern(weights: Tensor, name: str, asking: list[str], seen: list[str], of: str) -> "Figure":
    """Every head (h, t, s) of one layer, with the tokens that ask and those that are looked at."""
    return heads(weights, f"{of}, {name}: where each head looks", asking, seen)


def attention_of_all(weights: Mapping[str, Tensor], of: str) -> "Figure":
    """Every head (h, t, s) of every layer: a row for each layer, a column for each head."""
    most = max(len(each) for each in weights.values())
    side = min(1.3, max(0.6, 9 / most))
    made, axes = figure(len(weights), most, (side * most + 2.6, side * len(weights) + 1.4))
    image: Any = None
    for row, (name, each) in zip(axes, weights.items(), strict=True):
        for head, axis in enumerate(row):
            axis.set_xticks([])
            axis.set_yticks([])
            if head >= len(each):
                axis.set_axis_off()
                continue
            image = axis.imshow(each[head].numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
            if axis in axes[0]:
                axis.set_title(f"head {head + 1}", fontsize=9)
        label = name.replace(".", ".\n", 1) if len(name) > 16 else name
        row[0].set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center")
    made.colorbar(image, ax=axes, label="attention weight", shrink=min(1.0, 4 / len(weights)))
    made.suptitle(f"{of}: where each head of each layer looks\n(rows ask, columns are looked at)", fontsize=10)
    return made


# ---------------------------------------------------------------------------------------------- depth


def residual_stream(found: Sequence[ResidualStream], of: str) -> "Figure":
    """‖x‖ by depth, and what each block adds: the median token, and all but the tenth at either end."""
    made, axes = figure(1, len(found), (5.6 * len(found) + 1.2, 4.2))
    for axis, stream in zip(axes[0], found, strict=True):
        depth = range(len(stream.norms))
        for values, places, colour, label in (
            (stream.norms, depth, BLUE, "the stream, ‖x‖"),
            (stream.added, [i + 1 for i in range(len(stream.added))], ORANGE, "what the block adds"),
        ):
            low, middle, high = (values.quantile(share, dim=-1).clamp(min=1e-12).numpy() for share in (0.1, 0.5, 0.9))
            axis.fill_between(places, low, high, color=colour, alpha=0.22)
            axis.plot(places, middle, color=colour, marker="o" if colour == BLUE else "s", ms=4, label=label)
        axis.set_yscale("log")
        _whole(axis, len(stream.added))
        axis.set(xlabel="after block (0: before the first)", ylabel="norm over the tokens", title=stream.stack)
        axis.legend(title="median token; band: 10 to 90 %", fontsize=8, title_fontsize=8)
    made.suptitle(f"{of}: the residual stream by depth")
    return made


def gradient_flow(found: Sequence[Flow], objective: str, of: str) -> "Figure":
    """Gradient norms by depth: of the stream, and of the blocks' parameters beside the parameters themselves."""
    made, axes = figure(2, len(found), (5.6 * len(found) + 1.2, 7.2))
    for (top, bottom), flow in zip(axes.T, found, strict=True):
        blocks = [i + 1 for i in range(len(flow.gradients))]
        top.plot(range(len(flow.stream)), _shown(flow.stream), color=BLUE, marker="o", ms=4)
        top.set(xlabel="after block (0: before the first)", ylabel="‖gradient‖ of a token's x", title=flow.stack)
        bottom.plot(blocks, _shown(flow.gradients), color=ORANGE, marker="s", ms=4, label="gradient")
        bottom.plot(blocks, _shown(flow.parameters), color=GREEN, marker="^", ms=4, ls="--", label="parameters")
        ratio = flow.gradients / flow.parameters.clamp(min=1e-30)
        bottom.plot(blocks, _shown(ratio), color=PURPLE, marker="d", ms=4, ls=":", label="one over the other")
        bottom.set(xlabel="block", ylabel="norm over a block's parameters")
        bottom.legend(fontsize=8)
        for axis in (top, bottom):
            axis.set_yscale("log")
            _whole(axis, len(blocks))
    made.suptitle(f"{of}: the gradient of {objective}, by depth")
    return made


def _shown(values: Tensor) -> Any:
    return values.where(values > 0, torch.nan).numpy()


def _whole(axis: Any, last: int) -> None:
    """Ticks at whole depths."""
    step = max(1, math.ceil(last / 12))
    axis.set_xticks(range(0, last + 1, step))


# ---------------------------------------------------------------------------------------------- time


def complexity(curves: Curves, of: str) -> "Figure":
    """Seconds of attention and of the products against length, the formulas beside them, and where they cross."""
    made, axes = figure(1, 1, (8.2, 5.2))
    axis, shape = axes[0, 0], curves.shape
    rates = curves.rates()
    ends = [curves.lengths[0], max(1.5 * curves.crossing, 1.5 * shape.crossing, curves.lengths[-1])]
    span = torch.logspace(math.log10(ends[0]), math.log10(ends[1]), 60, dtype=torch.float64).tolist()
    for seconds, formula, rate, colour, mark, label, order in (
        (curves.attention, shape.attention_flops, rates[0], BLUE, "o", "attention", "n²d"),
        (curves.products, shape.product_flops, rates[1], ORANGE, "s", "projections and feed-forward", "nd²"),
    ):
        times = [1e3 * each for each in seconds]
        axis.loglog(curves.lengths, times, mark, color=colour, ms=5, label=f"{label}, measured")
        said = [1e3 * formula(n) / rate for n in span]
        axis.loglog(span, said, color=colour, lw=1, label=f"O({order}) at {rate / 1e9:.3g} GFLOP/s")
    for place, style, label in (
        (curves.crossing, "-", "times cross" + ("" if curves.is_measured else ", extrapolated")),
        (shape.crossing, ":", "FLOPs cross"),
    ):
        axis.axvline(place, color="black", ls=style, lw=1.1, label=f"{label}: n = {place:,.0f}")
    size = f"{shape.num_heads} heads of {shape.head_dim}, d = {shape.num_heads * shape.head_dim}, no mask"
    axis.set(xlabel="length n, tokens", ylabel="time of a forward pass, ms", title=f"{of}: {shape.name}\n({size})")
    axis.grid(alpha=0.25, which="major")
    axis.legend(fontsize=8)
    return made
