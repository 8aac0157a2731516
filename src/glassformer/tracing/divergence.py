"""What `compare` finds."""

import json
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from glassformer.tracing.agreement import Difference
from glassformer.tracing.hypotheses import Finding


@dataclass(frozen=True)
class Compared:
    """One point of both models: its names, how far they are apart, and what is allowed."""

    a: str
    b: str
    error: float
    tolerance: float
    agrees: bool
    shape: tuple[int, ...]
    where: Any = field(repr=False, compare=False, default=None)


@dataclass(frozen=True)
class Divergence:
    """Where two models first differ.

    points        every point that was compared, in the order of a's execution
    aligned       how the modules were paired
    first         the index in `points` of the first that differs; None where all agree
    module        the module of a whose own computation made it ("" is the model itself), `module_b` that of b
    difference    how the values differ there
    findings      the hypotheses that were confirmed, simplest first
    tried         the keys of all that were tried
    output        the models' outputs, where they are among the points
    settled       points that differ, but give the same further on: things are computed in another place
    """

    points: tuple[Compared, ...]
    aligned: str
    output: Compared | None = None
    first: int | None = None
    module: str | None = None
    module_b: str | None = None
    difference: Difference | None = None
    inputs_agree: bool | None = None
    parameters_agree: bool | None = None
    findings: tuple[Finding, ...] = ()
    tried: tuple[str, ...] = ()
    settled: tuple[Compared, ...] = ()

    def __bool__(self) -> bool:
        """Whether they differ."""
        return self.first is not None

    @property
    def finding(self) -> Finding | None:
        """The simplest hypothesis that was confirmed."""
        return self.findings[0] if self.findings else None

    @property
    def sentence(self) -> str:
        """All of it in a sentence or two."""
        if self.first is None or self.difference is None:
            agreeing = [one for one in self.points if one.agrees]
            worst = max(agreeing, key=lambda one: one.error)
            text = f"They agree at {len(agreeing)} points, to {worst.error:.0e} ({worst.a})"
            if not self.settled:
                return f"{text}."
            places = ", ".join(one.a for one in self.settled)
            return f"{text}; of what differs at {places} nothing is left further on."
        at = self.points[self.first]
        agreeing = sum(one.agrees for one in self.points[: self.first])
        text = f"{agreeing} points agree; they first differ at {at.a} ({at.b}), {self.difference}"
        text += f" ({at.tolerance:.0e} is allowed). "
        if self.finding is not None:
            return f"{text}{self.finding.sentence}."
        tried = ", ".join(self.tried) or "nothing fits such a place"
        return f"{text}It is made in {self.module or 'the model itself'}; no hypothesis was confirmed (tried: {tried})."

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        keep = ("a", "b", "error", "tolerance", "agrees", "shape")
        return {
            "differ": self.first is not None,
            "sentence": self.sentence,
            "aligned": self.aligned,
            "first": self.first,
            "module": self.module,
            "module_b": self.module_b,
            "difference": None if self.difference is None else vars(self.difference),
            "inputs_agree": self.inputs_agree,
            "parameters_agree": self.parameters_agree,
            "findings": [vars(finding) for finding in self.findings],
            "tried": list(self.tried),
            "points": [{name: getattr(point, name) for name in keep} for point in self.points],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def table(self, around: int = 6) -> Table:
        """The points around the first that differs; the last ones where none does."""
        middle = len(self.points) if self.first is None else self.first
        start, stop = max(0, middle - around), middle + around // 2 + 1
        table = Table(title=f"{len(self.points)} points, paired {self.aligned}", title_justify="left")
        for name in ("a", "b", "shape", "differ by", "allowed"):
            table.add_column(name, overflow="fold")
        for i, point in enumerate(self.points[start:stop], start):
            style = "" if point.agrees else ("bold red" if i == self.first else "red")
            mark = "" if point.agrees else (" ← first" if i == self.first else "")
            table.add_row(
                Text(point.a), Text(point.b), " × ".join(map(str, point.shape)), f"{point.error:.1e}{mark}",
                f"{point.tolerance:.0e}", style=style,
            )  # fmt: skip
        return table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Group(self.table(), Text(self.sentence))

    def __str__(self) -> str:
        console = Console(width=120, color_system=None, record=False)
        with console.capture() as captured:
            console.print(self)
        return captured.get()
