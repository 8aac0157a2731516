"""What a head that classifies tells apart: how Hugging Face's configs write it, and the loss of labels that say it."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.checkpoints.config import Compound, Values
from glassformer.models.encoder import looks
from glassformer.models.language_model import check_range
from glassformer.models.outputs import PredictionOutput
from glassformer.ops.cross_entropy import IGNORE, reference


def load_labels(attributes: dict[str, Any]) -> dict[str, Any]:
    """The classes' names in the order of their ids; None where the file leaves them at two without names.

    Raises ValueError for ids that are not 0, 1, 2, … and for names that are no strings.
    """
    names = attributes.get("id2label")
    if names is None:
        count = attributes.get("num_labels")
        if count is not None and type(count) is not int:
            raise ValueError(f"config.json has num_labels={count!r}; expected a number of classes")
        return {"labels": None if count in (None, 2) else tuple(f"LABEL_{i}" for i in range(count))}
    if not isinstance(names, dict) or {str(i) for i in range(len(names))} != {str(i) for i in names}:
        raise ValueError(f"config.json has id2label={names!r}; expected a name for each of the ids 0, 1, 2, …")
    labels = tuple({str(i): name for i, name in names.items()}[str(i)] for i in range(len(names)))
    if not all(isinstance(name, str) for name in labels):
        raise ValueError(f"config.json has id2label={names!r}; expected names that are strings")
    return {"labels": labels}


def save_labels(config: Any) -> dict[str, Any]:
    """`id2label` and `label2id`; nothing for two classes without names, which is what their configs begin with."""
    if config.labels is None:
        return {}
    return {
        "id2label": {str(i): name for i, name in enumerate(config.labels)},
        "label2id": {name: i for i, name in enumerate(config.labels)},
    }


LABELS = Compound(("id2label", "label2id", "num_labels"), ("labels",), load_labels, save_labels)

PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")
PROBLEM = Values("problem", {name: name for name in (None, *PROBLEMS)})
"""The row for `problem_type`: what a sequence classifier learns from. None: see `problem_of`."""


def num_classes(config: Any) -> int:
    """How many classes a head tells apart; 2 where they have no names, as in Hugging Face's configs."""
    return 2 if config.labels is None else len(config.labels)


def problem_of(config: Any, labels: Tensor | None) -> str:
    """The config's problem; where it names none, one class is a regression, else the dtype of the labels says it."""
    if config.problem is not None:
        return config.problem
    if num_classes(config) == 1:
        return "regression"
    floats = labels is not None and labels.is_floating_point()
    return "multi_label_classification" if floats else "single_label_classification"


def mean_cross_entropy(logits: Float[Tensor, "*rows n"], labels: Int[Tensor, "*rows"]) -> Float[Tensor, ""]:
    """The mean over labels that are not −100; 0 where there is none."""
    return reference(logits, nn.Identity(), labels)[0]


def check_labels(
    labels: Tensor | None, shape: tuple[int, ...], size: int, *, name: str = "labels", of: str = "the head"
) -> None:
    """Raise ValueError for labels of another shape, or outside 0 … size − 1 (and not −100)."""
    if labels is None:
        return
    if tuple(labels.shape) != shape:
        raise ValueError(f"{name} have shape {tuple(labels.shape)}; expected {shape}")
    if looks(labels):
        check_range(name, labels, size, ignored=IGNORE, of=of)


def check_classes(labels: Tensor | None, batch_size: int, config: Any) -> None:
    """Raise ValueError for labels that do not fit a batch or the classes of a sequence classifier."""
    n, problem = num_classes(config), problem_of(config, labels)
    if problem == "single_label_classification":
        check_labels(labels, (batch_size,), n)
    elif labels is not None and labels.shape != (batch_size, n) and (n > 1 or labels.shape != (batch_size,)):
        raise ValueError(f"labels have shape {tuple(labels.shape)}; expected {(batch_size, n)} for {problem}")


def classified(logits: Float[Tensor, "b n"], labels: Tensor | None, config: Any) -> PredictionOutput:
    """The logits of a sequence classifier, and its loss where there are labels."""
    problem = problem_of(config, labels)
    if labels is None or problem == "single_label_classification":
        return PredictionOutput(None if labels is None else mean_cross_entropy(logits, labels), logits)
    loss = F.mse_loss if problem == "regression" else F.binary_cross_entropy_with_logits
    return PredictionOutput(loss(logits, labels.view_as(logits).to(logits.dtype)), logits)
