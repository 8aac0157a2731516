"""How busy the machine is: what was measured beside others means less."""

import os
from collections.abc import Collection
from pathlib import Path


def processor_seconds(of: Collection[int] | None = None) -> tuple[float, float]:
    """Seconds that the processors were busy, and seconds in all, since the start; 0 where the system does not tell.

    `of` names the processors that count (all, if not given), by their numbers.
    """
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        rows = [line.split() for line in lines if line.startswith("cpu")]
        wanted = {"cpu"} if of is None else {f"cpu{number}" for number in of}
        numbers = [
            sum(column) for column in zip(*(map(int, row[1:9]) for row in rows if row[0] in wanted), strict=True)
        ]
        tick = os.sysconf("SC_CLK_TCK")
        return (sum(numbers) - numbers[3] - numbers[4]) / tick, sum(numbers) / tick
    except (OSError, ValueError, IndexError):  # not Linux: nobody can tell
        return 0.0, 0.0


def usable_processors() -> set[int]:
    """The numbers of the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
