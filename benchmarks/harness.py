"""Timing that holds on a shared machine.

One long-lived process per competitor, blocked on a pipe while another runs (thread pools that spin would spoil each
other). Each round runs every competitor once, in a random order; what counts is the ratio within a round, and the
median over rounds. Each sample carries its processor time, and the share of the machine that other processes took
meanwhile.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from glassformer.foundation.processors import processor_seconds

THREADS = 2
WARM_UPS = 2
QUIET = 0.08  # of the machine's processors, taken by others: wait until it is less
CLEAN = 0.04  # a sample with less than this is called clean

Sample = Callable[[], Any]


@dataclass(frozen=True)
class Competitor:
    """`make(**arguments)` in `benchmarks.<module>` prepares; what it returns is called once per sample."""

    name: str
    module: str
    make: str
    arguments: dict[str, Any] = field(default_factory=dict)
    threads: int = THREADS
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Timing:
    """One competitor's samples, in the order of the rounds: seconds of wall clock and of processor."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def seconds(self) -> float:
        """The median of the wall clock."""
        return median(self.wall)

    @property
    def clean(self) -> float:
        """The share of samples during which the machine was otherwise idle."""
        return sum(share < CLEAN for share in self.others) / len(self.others)


class Worker:
    """A process that holds one competitor, ready to run."""

    def __init__(self, competitor: Competitor) -> None:
        threads = str(competitor.threads)
        environment = os.environ | competitor.environment
        environment |= {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "GLASSFORMER_BENCH": threads}
        self.name = competitor.name
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        self.ask({"module": competitor.module, "make": competitor.make, "arguments": competitor.arguments})

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the worker of {self.name!r} ended (exit code {self.process.wait()}); see above")
        return json.loads(answer)

    def run(self, timing: Timing | None) -> None:
        """One sample, recorded in `timing` (None: a warm-up)."""
        wait_until_quiet()
        before = processor_seconds()
        answer = self.ask({"run": True})
        busy, total = (after - first for after, first in zip(processor_seconds(), before, strict=True))
        if timing is None:
            return
        timing.wall.append(answer["wall"])
        timing.cpu.append(answer["cpu"])
        timing.results.append(answer["result"])
        timing.others.append(max(0.0, (busy - answer["cpu"]) / max(total, 1e-9)))
        timing.peak_bytes = answer["peak_bytes"]

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def race(competitors: list[Competitor], *, rounds: int, tell: Callable[[str], None] = print) -> dict[str, Timing]:
    """Every competitor, once per round, in random order."""
    order = random.Random(0)
    timings = {competitor.name: Timing() for competitor in competitors}
    with ExitStack() as stack:
        workers = []
        for competitor in competitors:
            tell(f"preparing {competitor.name}")
            workers.append(Worker(competitor))
            stack.callback(workers[-1].close)
        for worker in workers:
            for _ in range(WARM_UPS):
                worker.run(None)
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}")
            order.shuffle(workers)
            for worker in workers:
                worker.run(timings[worker.name])
    return timings


def ratio(slow: Timing, fast: Timing) -> tuple[float, float, float]:
    """How many times faster: the median of the per-round ratios, and the range that holds the middle 80 % of them."""
    ratios = sorted(a / b for a, b in zip(slow.wall, fast.wall, strict=True))
    cut = len(ratios) // 10
    return median(ratios), ratios[cut], ratios[-1 - cut]


def wait_until_quiet(patience: float = 5.0) -> None:
    """Wait until other processes leave the machine alone, or until patience ends (the sample then says so)."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = processor_seconds()
        time.sleep(0.05)
        busy, total = (after - first for after, first in zip(processor_seconds(), before, strict=True))
        if total <= 0 or busy / total < QUIET:
            return
