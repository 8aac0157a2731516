"""Checkpoints of a run: all that it takes to go on as if nothing had happened.

    checkpoints/step-000500/model.safetensors       the weights
    checkpoints/step-000500/training.safetensors    the optimizer, the generators; how far the run and loader have come
    best/model.safetensors                          the weights that were best on the validation data so far

A folder takes its name when it is whole and on the disk, so that a crash at any moment leaves the one before. Every
tensor has a SHA-256, and so have the texts; the optimizer's file knows the weights' own. Nothing is ever unpickled.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.checkpoints.files import TensorFile, write_tensors
from glassformer.checkpoints.pretrained import reset_buffers
from glassformer.foundation.atomic import atomic_folder, sweep

MODEL, TRAINING = "model.safetensors", "training.safetensors"
BEST = "best"
STATE, WEIGHTS = "state", "weights"  # among the metadata: the JSON text; the fingerprint of the weights beside it


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a checkpoint holds."""

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    generators: Mapping[str, Tensor]
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run folder, of which the last `keep` stay."""

    def __init__(self, run_folder: Path, keep: int = 2) -> None:
        self.folder, self.best, self.keep = run_folder / "checkpoints", run_folder / BEST / MODEL, keep

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d{6,})", name)))

    def save(self, step: int, snapshot: Snapshot) -> Path:
        """Write a checkpoint, then let go of the oldest.

        Raises OSError where the disk is full, say; the checkpoints that are there stay.
        """
        path = self.path(step)
        if path.exists():
            self.abandon(step)
        parts = {"optimizer": snapshot.optimizer, "generator": snapshot.generators}
        training = {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
        with atomic_folder(path) as beside:
            write_tensors(beside / MODEL, snapshot.model, digests=True)
            said = {STATE: json.dumps(dict(snapshot.state)), WEIGHTS: fingerprint(TensorFile(beside / MODEL))}
            write_tensors(beside / TRAINING, training, digests=True, metadata=said)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(old))
        return path

    def save_best(self, model: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Replace the best weights."""
        self.best.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(self.best, model, digests=True, metadata={STATE: json.dumps(dict(state))})

    def load(self, step: int | None = None) -> Snapshot:
        """The checkpoint of a step; None is the newest.

        Raises:
            FileNotFoundError: there is none. ValueError: it is damaged; the message names the tensor or file, and the
            newest whole one before it.
        """
        steps = self.steps()
        if not steps:
            raise FileNotFoundError(f"{self.folder} holds no checkpoint to go on from")
        if step is not None and step not in steps:
            raise FileNotFoundError(
                f"{self.folder} has no checkpoint of step {step}; it has {', '.join(map(str, steps))}"
            )
        step = steps[-1] if step is None else step
        try:
            return self.read(step)
        except (ValueError, OSError) as error:
            for earlier in reversed(steps[: steps.index(step)]):
                if self.is_whole(earlier):
                    offer = f"the one before it is whole: resume from step {earlier} (--resume-step {earlier})"
                    break
            else:
                offer = "no whole one is left before it"
            raise ValueError(f"the checkpoint of step {step} is damaged: {error}; {offer}") from error

    def read(self, step: int) -> Snapshot:
        """Read and verify one checkpoint."""
        training = TensorFile(self.path(step) / TRAINING)
        parts: dict[str, dict[str, Tensor]] = {"optimizer": {}, "generator": {}}
        for name, tensor in training.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = tensor
        if parts.keys() != {"optimizer", "generator"}:
            raise ValueError(f"{training.path} holds {', '.join(parts)}; expected optimizer and generator")
        path = self.path(step) / MODEL
        weights, found = read_weights(path), fingerprint(TensorFile(path))
        if training.metadata.get(WEIGHTS, found) != found:
            raise ValueError(f"{path} holds other weights than those that {TRAINING} was saved beside")
        return Snapshot(
            model=weights,
            optimizer=parts["optimizer"],
            generators=parts["generator"],
            state=read_state(training),
        )

    def is_whole(self, step: int) -> bool:
        try:
            self.read(step)
        except (ValueError, OSError):
            return False
        return True

    def abandon(self, step: int) -> None:
        """Take a checkpoint out of the way: one that is damaged, or belongs to a future that will not be."""
        away = self.folder / f"abandoned-{self.path(step).name}"
        if away.exists():
            shutil.rmtree(away)
        self.path(step).rename(away)

    def sweep(self) -> list[Path]:
        """Remove what interrupted writes left, and name it."""
        folders = [folder for folder in (self.folder, self.best.parent, self.folder.parent) if folder.is_dir()]
        return [orphan for folder in folders for orphan in sweep(folder)]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of ours, each verified. ValueError where one is damaged, has no digest or is not finite."""
    file = TensorFile(path)
    if not file.digests:
        raise ValueError(f"{path} has no SHA-256 of its tensors, which every checkpoint of a run has")
    tensors = dict(file)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path}: tensor {name!r} holds NaN or infinity")
    return tensors


def fingerprint(file: TensorFile) -> str:
    """SHA-256 of the digests of a file's tensors: it tells weights from those of another step, or another run."""
    return hashlib.sha256(json.dumps(file.digests, sort_keys=True).encode()).hexdigest()


def read_state(file: TensorFile) -> dict[str, Any]:
    """The JSON text of a file of ours."""
    if STATE not in file.metadata or not file.digests:
        raise ValueError(f"{file.path} is not of a checkpoint: it lacks the run's state")
    return json.loads(file.metadata[STATE])


def put_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: object) -> None:
    """Set all parameters of a model (of one without memory: make the tensors its parameters).

    Raises ValueError, before any is set, where names, shapes or dtypes differ.
    """
    wanted = model.state_dict()
    if odd := sorted(wanted.keys() ^ tensors.keys()):
        raise ValueError(f"{source} {'lacks' if odd[0] in wanted else 'has a superfluous'} tensor {odd[0]!r}")
    for name, tensor in tensors.items():
        there = wanted[name]
        if tensor.shape != there.shape or tensor.dtype != there.dtype:
            raise ValueError(f"{source}: tensor {name!r} is {tuple(tensor.shape)} of {tensor.dtype}; the model's is "
                             f"{tuple(there.shape)} of {there.dtype}")  # fmt: skip
    empty = any(there.is_meta for there in wanted.values())
    model.load_state_dict(dict(tensors), assign=empty)
    if empty:
        reset_buffers(model, torch.device("cpu"))


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """Of torch's generators, on which initial weights and dropout depend (the loader's order depends on its seed)."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def set_generator_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Set torch's generators back. ValueError where there is no state for the device."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        if "cuda" not in states:
            raise ValueError("the checkpoint was made on a CPU; it does not go on bit by bit on a GPU (set device)")
        torch.cuda.set_rng_state(states["cuda"], device)
