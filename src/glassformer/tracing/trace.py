"""What an x-ray found, and the ways to look at it."""

import json
import os
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float
from torch import Tensor

from glassformer.foundation.atomic import atomic_file
from glassformer.foundation.suggest import did_you_mean
from glassformer.tracing import page, show
from glassformer.tracing.failure import Failure
from glassformer.tracing.statistics import Statistics
from glassformer.tracing.tree import ModuleCall, Operation

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table


@dataclass(eq=False)
class Trace:
    """The tree of module calls with their operations, and what was kept.

    root        the call of the model; see `ModuleCall` and `Operation`
    output      what the model returned
    error       where and why it failed, or None
    objective   what was differentiated, or None without a backward pass
    gradients   statistics of each parameter's gradient, by its name
    tensors     the activations that were kept, by name
    weights     attention weights (b, h, t, s), by the path of the layer, in the order in which the layers ran
    tokens      what the places are called in pictures; may be set
    """

    root: ModuleCall
    output: Any = None
    error: Failure | None = None
    objective: str | None = None
    gradients: dict[str, Statistics] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Time in operators."""
        return self.root.seconds

    @property
    def flops(self) -> int:
        """FLOPs of products, both passes."""
        return self.root.flops

    @property
    def forward_flops(self) -> int:
        """FLOPs of products, forward."""
        return sum(operation.flops for operation in self.root.forward_operations())

    @property
    def peak(self) -> int:
        """The most bytes of tensors made in the run that were alive at once, seen after each operator."""
        return self.root.peak

    @property
    def operations(self) -> list[Operation]:
        """All operations: forward in order, then those of the backward pass module by module."""
        return list(self.root.operations())

    def find(self, path: str) -> ModuleCall:
        """The first call of the module at `path`. Raises KeyError for one that did not run."""
        for call in self.root.calls():
            if call.path == path:
                return call
        paths = [call.path for call in self.root.calls() if call.path]
        raise KeyError(f"no module {path!r} ran{did_you_mean(path, paths)}")

    def tensor(self, name: str) -> Tensor:
        """A kept activation. Raises KeyError for one that was not."""
        if name not in self.tensors:
            hint = did_you_mean(name, self.tensors) if self.tensors else f"; call xray(..., keep=[{name!r}])"
            raise KeyError(f"{name!r} was not kept{hint}")
        return self.tensors[name]

    def attention(self, layer: int | str) -> Float[Tensor, "b h t s"]:
        """The weights of every head of a layer, by its number in the order of the run or by its path.

        Raises KeyError or IndexError for one that is not there; ValueError where they were not asked for.
        """
        if not self.weights:
            raise ValueError("no attention weights were kept; call xray(..., attention=True), on a model that attends")
        if isinstance(layer, str):
            if layer not in self.weights:
                raise KeyError(f"{layer!r} is no layer that attended{did_you_mean(layer, self.weights)}")
            return self.weights[layer]
        if not -len(self.weights) <= layer < len(self.weights):
            raise IndexError(f"layer {layer} is not there: {len(self.weights)} layers attended")
        return list(self.weights.values())[layer]

    # ------------------------------------------------------------------ in the terminal

    def show(self, depth: int | None = 3, *, operations: bool = True, views: bool = False) -> None:
        """Print the tree down to `depth` modules below the model; what lies deeper is summed up in a line.

        `operations=False` leaves modules only; `views=True` adds operators that only look at memory differently.
        """
        show.tree(self, depth, operations=operations, views=views)

    def table(self, by: Literal["operator", "module", "kind"] = "operator") -> "Table":
        """What takes how much, the slowest first: by operator, by module (its own operators), or by modules' class."""
        return show.table(self, by)

    def __rich__(self) -> Any:
        return show.rendered(self, 3, operations=True, views=False)

    def __str__(self) -> str:
        return show.plain(self)

    __repr__ = __str__

    # ------------------------------------------------------------------ to keep

    def rows(self) -> list[dict[str, Any]]:
        """One flat mapping for each operation, ready for a table of another library."""
        return [_row(operation) for operation in self.operations]

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The whole tree as JSON; also written to `path` where one is given. Kept tensors stay out."""
        text = json.dumps(page.data(self), allow_nan=False)
        if path is not None:
            with atomic_file(Path(path)) as file:
                file.write(text.encode())
        return text

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write one page that holds everything: searchable, coloured by time, FLOPs or memory; needs no network."""
        with atomic_file(Path(path)) as file:
            file.write(page.html(self).encode())
        return Path(path)

    # ------------------------------------------------------------------ pictures

    def plot_attention(
        self, layer: int | str, *, row: int = 0, tokens: list[str] | None = None, path: str | None = None
    ) -> "Figure":
        """The weights of each head of a layer, for one row of the batch; written to `path` where one is given."""
        from glassformer.tracing import plots

        return plots.attention(self, layer, row, tokens or self.tokens, path)

    def plot_memory(self, *, path: str | None = None) -> "Figure":
        """Bytes alive after each operator."""
        from glassformer.tracing import plots

        return plots.memory(self, path)

    def plot_time(self, *, depth: int = 2, path: str | None = None) -> "Figure":
        """Time and FLOPs of the modules at a depth."""
        from glassformer.tracing import plots

        return plots.time(self, depth, path)

    def plot_statistics(self, pattern: str = "blocks.*", *, path: str | None = None) -> "Figure":
        """Standard deviation and largest value of what the modules of a pattern give, in the order of the run."""
        from glassformer.tracing import plots

        return plots.statistics(self, pattern, path)

    def totals(self, by: str) -> dict[str, dict[str, float]]:
        """`calls, seconds, flops, read, written` summed by operator, module or kind of module, the slowest first."""
        kinds = {call.path: call.kind for call in self.root.calls()}
        keys = {
            "operator": lambda op: op.name,
            "module": lambda op: op.module,
            "kind": lambda op: kinds.get(op.module, self.root.kind),
        }
        if by not in keys:
            raise ValueError(f"a table by {by!r} is not there{did_you_mean(by, keys)}")
        sums: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(show.SUMMED, 0))
        for operation in self.operations:
            found = sums[keys[by](operation)]
            found["calls"] += 1
            for name in show.SUMMED[1:]:
                found[name] += getattr(operation, name)
        return dict(sorted(sums.items(), key=lambda each: -each[1]["seconds"]))


def _row(operation: Operation) -> dict[str, Any]:
    row = {name: value for name, value in vars(operation).items() if name not in ("statistics", "source")}
    row |= {name: " ".join(map(str, row[name])) for name in ("inputs", "outputs", "parameters")}
    row["source"] = None if operation.source is None else str(operation.source)
    return row | (asdict(operation.statistics) if operation.statistics else {})
