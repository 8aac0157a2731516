"""Two runs that must be the same to the bit, one of them stopped in between and resumed."""

import os
import signal
from pathlib import Path

import torch

from glassformer.checkpoints.files import read_tensors
from glassformer.training import read_metrics
from glassformer.training.events import Event, Progressed


def last_tensors(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Everything in the checkpoint of a step: weights, optimizer, generators."""
    path = folder / "checkpoints" / f"step-{step:06d}"
    return {f"{name}/{key}": tensor for name in ("model", "training")
            for key, tensor in read_tensors(path / f"{name}.safetensors").items()}  # fmt: skip


def assert_same_run(a: Path, b: Path, step: int) -> None:
    ours, theirs = last_tensors(a, step), last_tensors(b, step)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.equal(theirs[name]), name
    losses = [[(r["step"], r.get("loss"), r.get("validation_loss")) for r in read_metrics(run)] for run in (a, b)]
    assert losses[0] == losses[1]


class StopAfter:
    """A listener that sends this process a signal after some steps."""

    def __init__(self, steps: int, number: int = signal.SIGTERM) -> None:
        self.steps, self.number = steps, number

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progressed) and event.step == self.steps:
            os.kill(os.getpid(), self.number)
