"""How far a run has come, and how long it took."""

import time
from dataclasses import dataclass, field


@dataclass
class Progress:
    """How far a run has come; every checkpoint holds it."""

    step: int = 0
    units: int = 0  # that the model has read: tokens, pictures
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    loss_sum: float = 0.0  # since the last word
    loss_count: int = 0
    validation_loss: float | None = None  # the latest
    metrics: dict[str, float] = field(default_factory=dict)  # beside it
    best: float | None = None  # of the task's metric


class Clock:
    """Adds the time that passes to a run's progress; tells the speed of the steps, evaluations left out."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.wall, self.cpu = progress, time.perf_counter(), time.process_time()
        self.step_units, self.step_seconds = 0, 0.0

    def settle(self) -> float:
        """Count what has passed since the last time; gives the seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        passed = wall - self.wall
        self.progress.seconds += passed
        self.progress.cpu_seconds += cpu - self.cpu
        self.wall, self.cpu = wall, cpu
        return passed

    def count_step(self, units: int) -> None:
        self.step_seconds += self.settle()
        self.step_units += units

    def units_per_second(self) -> float:
        """Of the steps since this was last asked."""
        speed = self.step_units / max(self.step_seconds, 1e-9)
        self.step_units, self.step_seconds = 0, 0.0
        return speed
