"""How PyTorch's threads wait for one another while other programs want the processors too.

A parallel operation is over when the last of its threads is. GNU's OpenMP, which PyTorch brings along on Linux, lets
the others wait awake for some milliseconds, so that the next operation begins at once. But where another program has
taken the processor of the one that is missing, waiting awake keeps it from being moved to a free one: a training step
of hundreds of small operations takes five to a hundred times as long. Asleep, they would double the step of a small
model on a quiet machine, as each has to be woken.

So they wait awake on a quiet machine, and asleep on a crowded one. The variables OMP_WAIT_POLICY and GOMP_SPINCOUNT are
read only once; but GNU's OpenMP also waits next to nothing while it has more threads than there are processors (its
manual says so under GOMP_SPINCOUNT). A second team of threads, all of them asleep, sees to that. What is computed, and
by how many threads, stays the same to the bit.
"""

import os
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch

from glassformer.foundation.processors import processor_seconds, usable_processors

EVERY = 0.25  # seconds between looks at the machine
TAKEN = 0.3  # processors that others take of those that our threads need
GRAIN = 1 << 15  # elements that PyTorch gives each thread of a parallel operation at least
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def waiting() -> str:
    """How threads wait for one another under `patient_threads`, in words."""
    for name in VARIABLES:
        if name in os.environ:
            return f"as {name}={os.environ[name]} says"
    if not _gnu_openmp():
        return "as this PyTorch's threads do: they are not those of GNU's OpenMP"
    return "awake, and asleep while other programs want the processors"


class patient_threads:
    """While entered, PyTorch's threads wait asleep for one another as long as other programs want the processors.

    It looks four times a second. It does nothing where somebody has said how threads wait (by OMP_WAIT_POLICY or
    GOMP_SPINCOUNT), where PyTorch has one thread, and with another OpenMP than GNU's.
    """

    def __init__(self) -> None:
        self.teams: list[Thread] = []
        self._leave, self._stop = Event(), Event()
        self._watch: Thread | None = None

    def __enter__(self) -> "patient_threads":
        if torch.get_num_threads() > 1 and _gnu_openmp() and not any(name in os.environ for name in VARIABLES):
            self._stop.clear()
            self._watch = Thread(target=self._look, name="glassformer-watch", daemon=True)
            self._watch.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._watch is not None:
            self._stop.set()
            self._watch.join()
            self._watch = None

    def _look(self) -> None:
        processors, threads = usable_processors(), torch.get_num_threads()
        spare = max(0, len(processors) - threads)
        before = _seconds(processors)
        while not self._stop.wait(EVERY):
            now = _seconds(processors)
            busy, own, passed = (after - first for after, first in zip(now, before, strict=True))
            self._hold(_teams(threads, len(processors)) if (busy - own) / passed > spare + TAKEN else 0, threads)
            before = now
        self._hold(0, threads)

    def _hold(self, count: int, threads: int) -> None:
        """Have so many teams of sleeping threads. A team belongs to the thread that made it, and ends with it."""
        if count == len(self.teams):
            return
        if count == 0:
            self._leave.set()
            for team in self.teams:
                team.join()
            self.teams.clear()
            return
        self._leave.clear()
        made = [Event() for _ in range(count)]
        for event in made:
            self.teams.append(Thread(target=_team, args=(threads, event, self._leave), daemon=True))
            self.teams[-1].start()
        for event in made:
            event.wait()


def _team(threads: int, made: Event, leave: Event) -> None:
    """A parallel operation makes a team of threads; after it they sleep."""
    torch.zeros(threads * GRAIN).add_(1)
    made.set()
    leave.wait()


def _teams(threads: int, processors: int) -> int:
    """How many more teams make more threads than processors: each adds all of its threads but the one that asks."""
    return max(0, (processors - threads) // (threads - 1) + 1)


def _seconds(processors: set[int]) -> tuple[float, float, float]:
    """That the processors were busy, that this process has used, that have passed."""
    return processor_seconds(processors)[0], time.process_time(), time.perf_counter()


def _gnu_openmp() -> bool:
    """Whether GNU's OpenMP, and no other, is loaded into this process."""
    try:
        names = {line.rsplit("/", 1)[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    except OSError:  # not Linux
        return False
    return any(name.startswith("libgomp") for name in names) and not any(
        name.startswith(("libiomp", "libomp")) for name in names
    )
