"""The competitors of `vision.py`: each function prepares one and returns the sample."""

from typing import Any

from benchmarks.competitors import Sample, _threads, _training
from benchmarks.families_competitors import _dtype


def _pixels(shape: list[int]) -> Any:
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _theirs(folder: str, **options: Any) -> Any:
    """Their class of a folder, as its config names it."""
    import json
    from pathlib import Path

    import transformers

    (name,) = json.loads((Path(folder) / "config.json").read_text())["architectures"]
    return getattr(transformers, name).from_pretrained(folder, **options)


def _seeing(model: Any, shape: list[int], bf16: bool) -> Sample:
    """Samples of one forward pass; gives the mean square of the logits, for comparison."""
    import torch

    x = _pixels(shape).to(_dtype(bf16))

    @torch.inference_mode()
    def sample() -> float:
        return model(pixel_values=x).logits.float().square().mean().item()

    return sample


def see_glassformer(folder: str, shape: list[int], bf16: bool) -> Sample:
    """Ours, as it opens."""
    _threads()
    from glassformer import from_pretrained

    return _seeing(from_pretrained(folder, dtype=_dtype(bf16)), shape, bf16)


def see_transformers(folder: str, shape: list[int], bf16: bool) -> Sample:
    """Theirs, its default attention."""
    _threads()
    return _seeing(_theirs(folder, dtype=_dtype(bf16)).eval(), shape, bf16)


def _seen_steps(model: Any, shape: list[int], bf16: bool) -> Sample:
    import torch

    x, labels = _pixels(shape), torch.arange(shape[0])
    return _training(model, lambda: model(pixel_values=x, labels=labels).loss, bf16, 1)


def train_glassformer(folder: str, shape: list[int], bf16: bool) -> Sample:
    """Our model, as `glassformer train` sets it up."""
    _threads()
    from glassformer import from_pretrained
    from glassformer.ops.machine import keep_freed_memory

    keep_freed_memory()
    return _seen_steps(from_pretrained(folder), shape, bf16)


def train_transformers(folder: str, shape: list[int], bf16: bool) -> Sample:
    """Theirs, its default attention."""
    _threads()
    return _seen_steps(_theirs(folder), shape, bf16)
