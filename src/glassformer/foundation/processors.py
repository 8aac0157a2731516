"""How busy the machine is: what was measured beside others means less."""

import os
from pathlib import Path


def processor_seconds() -> tuple[float, float]:
    """Seconds that all processors were busy, and seconds in all, since the start; 0 where the system does not tell."""
    try:
        numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):  # not Linux: nobody can tell
        return 0.0, 0.0
    tick = os.sysconf("SC_CLK_TCK")
    return (sum(numbers) - numbers[3] - numbers[4]) / tick, sum(numbers) / tick
