"""What happens in a run, told as it happens: the live view, the metrics file and your own function all listen.

Every event has `step`: how many optimizer steps had been taken.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from glassformer.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Started:
    """The run is ready to go, or to go on."""

    step: int
    recipe: Recipe
    folder: Path
    parameters: int
    data: str  # what is trained on, in a few words
    flops_per_unit: float | None
    machine_flops: float | None  # per second, of a product of matrices in the run's precision; None where unknown
    device: str
    new: tuple[str, ...] = ()  # parameters that the model which the run began from did not have
    frozen: int = 0  # parameters that do not learn


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """`log_every` steps later. The loss is their mean; seconds, CPU seconds and units count from the very start.

    A unit is what the task counts: tokens that are read, or pictures.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    units: int
    seconds: float
    cpu_seconds: float
    units_per_second: float
    matrix_share: float | None  # of the machine's measured matrix speed
    unit: str = "tokens"  # what is counted, in the plural
    experts: dict[str, list[float]] = field(default_factory=dict)  # layer -> the share of its tokens that each got


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The loss on the validation data, a mean over the targets, in nats, and the task's metrics."""

    step: int
    validation_loss: float
    is_best: bool
    seconds: float
    cpu_seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    examples: tuple[str, ...] = ()  # a prediction or two, to look at


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint is whole and on the disk."""

    step: int
    path: Path


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The run is over: done, or told to stop by the signal named."""

    step: int
    signal: str | None
    validation_loss: float | None
    best: float | None  # of the metric that the task goes by
    seconds: float
    cpu_seconds: float


Event = Started | Progressed | Evaluated | Saved | Ended
Listener = Callable[[Event], None]
