"""Training: recipes, the loop, optimizers, schedules, checkpoints of a run.

Names load on first use (PEP 562), so that looking at a recipe's name does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassformer.training.blocks import checkpoint_activations, zero_residuals
    from glassformer.training.data import Augmentation, Pictures, Texts
    from glassformer.training.folder import is_run
    from glassformer.training.metrics import read_metrics
    from glassformer.training.optimizers import AdamWConfig, Lion, LionConfig, ModelOptimizer, Muon, MuonConfig
    from glassformer.training.recipe import (
        Evaluation,
        Recipe,
        Training,
        load_recipe,
        parse_overrides,
        recipe_names,
    )
    from glassformer.training.run import Run, load_run, train
    from glassformer.training.schedules import WSD, Constant, Cosine, LinearDecay

_HOMES = {
    "WSD": "schedules",
    "AdamWConfig": "optimizers",
    "Augmentation": "data",
    "Constant": "schedules",
    "Cosine": "schedules",
    "Evaluation": "recipe",
    "LinearDecay": "schedules",
    "Lion": "optimizers",
    "LionConfig": "optimizers",
    "ModelOptimizer": "optimizers",
    "Muon": "optimizers",
    "MuonConfig": "optimizers",
    "Pictures": "data",
    "Recipe": "recipe",
    "Run": "run",
    "Texts": "data",
    "Training": "recipe",
    "checkpoint_activations": "blocks",
    "is_run": "folder",
    "load_recipe": "recipe",
    "load_run": "run",
    "parse_overrides": "recipe",
    "read_metrics": "metrics",
    "recipe_names": "recipe",
    "train": "run",
    "zero_residuals": "blocks",
}

__all__ = [
    "WSD",
    "AdamWConfig",
    "Augmentation",
    "Constant",
    "Cosine",
    "Evaluation",
    "LinearDecay",
    "Lion",
    "LionConfig",
    "ModelOptimizer",
    "Muon",
    "MuonConfig",
    "Pictures",
    "Recipe",
    "Run",
    "Texts",
    "Training",
    "checkpoint_activations",
    "is_run",
    "load_recipe",
    "load_run",
    "parse_overrides",
    "read_metrics",
    "recipe_names",
    "train",
    "zero_residuals",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
