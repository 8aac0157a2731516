"""Learning-rate schedules: pure functions from the step to a factor of the peak rate.

Each warms up in a straight line over `warmup_steps` (step 0 has 1/(warmup_steps + 1) of the peak, so that no step is
wasted), then comes down to `final_fraction` of the peak, which it reaches at the last step.

    >>> schedule = Cosine(warmup_steps=100)
    >>> schedule(step=500, steps=2000)          # the factor for step 500 of 2000
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A factor between 0 and 1 for every step."""

    warmup_steps: int = 0

    @abstractmethod
    def after_warmup(self, progress: float) -> float:
        """The factor where `progress` of the way from the end of the warm-up to the last step is done (0 … 1)."""

    def __call__(self, step: int, steps: int) -> float:
        """The factor for step `step` of `steps`, both counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return self.after_warmup(min(1.0, (step - self.warmup_steps) / max(1, steps - 1 - self.warmup_steps)))

    def check(self, steps: int) -> None:
        """Raise ValueError where the schedule does not fit into `steps` steps."""
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps={self.warmup_steps} must not be negative")
        if self.warmup_steps >= steps:
            raise ValueError(f"warmup_steps={self.warmup_steps} does not fit into training.steps={steps}; make "
                             "it less, by --schedule.warmup-steps")  # fmt: skip
        for name in ("final_fraction", "decay_fraction"):
            if not 0.0 <= getattr(self, name, 0.0) <= 1.0:
                raise ValueError(f"{name}={getattr(self, name)} must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The peak rate all the way."""

    def after_warmup(self, progress: float) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine wave from 1 to `final_fraction`  (Loshchilov & Hutter 2017, equation 5, without restarts)."""

    final_fraction: float = 0.1

    def after_warmup(self, progress: float) -> float:
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True, kw_only=True)
class LinearDecay(Schedule):
    """A straight line from 1 to `final_fraction`."""

    final_fraction: float = 0.0

    def after_warmup(self, progress: float) -> float:
        return 1 + (self.final_fraction - 1) * progress


@dataclass(frozen=True, kw_only=True)
class WSD(Schedule):
    """Warm up, stay at the peak, come down in a straight line over the last `decay_fraction` of the steps that follow
    the warm-up: a trapezoid  (Hu et al. 2024, "MiniCPM", section 4.2; Hägele et al. 2024, equation 1)."""

    decay_fraction: float = 0.2
    final_fraction: float = 0.0

    def after_warmup(self, progress: float) -> float:
        into_decay = progress - (1 - self.decay_fraction)
        if into_decay <= 0:
            return 1.0
        return 1 + (self.final_fraction - 1) * into_decay / self.decay_fraction


SCHEDULES: dict[str, type[Schedule]] = {"constant": Constant, "cosine": Cosine, "linear": LinearDecay, "wsd": WSD}
