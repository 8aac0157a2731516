"""What the benchmarks print: tables, ratios with their goals, progress."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Timing, ratio

console = Console()
Results = dict[str, Any]


class Board:
    """A printed table of one race: who, how long, how many times faster than each baseline, and the goal."""

    def __init__(self, title: str, timings: dict[str, Timing], work: float, unit: str) -> None:
        self.title, self.timings, self.work, self.unit = title, timings, work, unit
        self.rows: list[dict[str, Any]] = []

    def against(self, name: str, baseline: str, goal: float | None = None) -> None:
        """Record how many times faster `name` is than `baseline`."""
        times, low, high = ratio(self.timings[baseline], self.timings[name])
        self.rows.append(dict(name=name, baseline=baseline, times=times, low=low, high=high, goal=goal))

    def show(self) -> Results:
        """Print, and return what was measured."""
        table = Table(title=self.title, title_justify="left")
        for heading in ("", self.unit, "ms", "CPU ms", "clean samples"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name, timing in sorted(self.timings.items(), key=lambda item: item[1].seconds):
            table.add_row(name, f"{self.work / timing.seconds:,.0f}", f"{1e3 * timing.seconds:,.1f}",
                          f"{1e3 * sorted(timing.cpu)[len(timing.cpu) // 2]:,.1f}", f"{timing.clean:.0%}")  # fmt: skip
        console.print(table)
        for row in self.rows:
            verdict = (
                ""
                if row["goal"] is None
                else f", goal {row['goal']}×: "
                + ("[green]reached[/]" if row["times"] >= row["goal"] else "[red]missed[/]")
            )
            console.print(
                f"  {row['name']} is [bold]{row['times']:.2f}×[/] as fast as {row['baseline']} "
                f"(80 % of rounds: {row['low']:.2f} to {row['high']:.2f}){verdict}"
            )
        console.print()
        seconds = {name: timing.seconds for name, timing in self.timings.items()}
        return {"title": self.title, "seconds": seconds, "ratios": self.rows}


def tell(text: str) -> None:
    """Progress, on standard error, over itself."""
    end = "\n" if not sys.stderr.isatty() else "\r"
    print(f"{text:<60}", end=end, file=sys.stderr, flush=True)
