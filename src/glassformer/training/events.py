"""What happens in a run, told as it happens: the live view, the metrics file and your own function all listen."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glassformer.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened after `step` optimizer steps."""

    step: int

    def record(self) -> dict[str, Any]:
        """As a line of `metrics.jsonl`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The run is ready to go, or to go on."""

    recipe: Recipe
    folder: Path
    parameters: int
    train_tokens: int
    validation_tokens: int
    flops_per_token: float
    machine_flops: float | None  # per second, of a product of matrices in the run's precision; None where unknown
    device: str


@dataclass(frozen=True, kw_only=True)
class Progressed(Event):
    """`log_every` steps later. The loss is their mean; seconds, CPU seconds and tokens count from the very start."""

    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    cpu_seconds: float
    tokens_per_second: float
    matrix_share: float | None  # of the machine's measured matrix speed


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """The loss on the validation text, per token, in nats."""

    validation_loss: float
    is_best: bool
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A checkpoint is whole and on the disk."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """The run is over: done, or told to stop by the signal named."""

    signal: str | None
    validation_loss: float | None
    best_loss: float | None
    seconds: float


Listener = Callable[[Event], None]
