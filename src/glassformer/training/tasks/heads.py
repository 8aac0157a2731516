"""The model of a config with a task's head."""

from typing import TYPE_CHECKING, Any

from glassformer.models import catalog
from glassformer.models.sequence_to_sequence import SequenceToSequenceModel
from glassformer.parts import Embedding, LearnedPosition

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe


def head_of(config: Any, task: str) -> Any:
    """The encoder with its head for a task, `config.labels` being its classes.

    Raises ValueError where the config's family has no such head, naming those that have.
    """
    family = catalog.family_of(config)
    heads = catalog.HEADS.get(family, {})
    if task not in heads:
        able = sorted(name for name, known in catalog.HEADS.items() if task in known)
        raise ValueError(f"name is {family!r}, which has no head for {task!r}; {', '.join(able)} have one")
    make: Any = heads[task]
    return make(config)


def encoder_decoder(config: Any, task: str) -> SequenceToSequenceModel:
    """The encoder-decoder of a config. Raises ValueError where it is another kind of model."""
    model: Any = catalog.build(config)
    if not isinstance(model, SequenceToSequenceModel):
        able = sorted(name for name, kind in catalog.MODELS.items() if issubclass(kind, SequenceToSequenceModel))
        raise ValueError(f"name is {catalog.family_of(config)!r}, which has not both an encoder and a decoder, as the "
                         f"task {task!r} needs; {', '.join(able)} have")  # fmt: skip
    return model


def encoder_flops(model: Any, recipe: "Recipe") -> float:
    """Of a training step, for each token that an encoder reads: its tables are looked up, all else multiplies."""
    tables = {id(part.weight) for part in model.modules() if isinstance(part, Embedding | LearnedPosition)}
    config: Any = recipe.model
    multiplying = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in tables)
    return 6.0 * multiplying + 12 * config.num_layers * config.dim * recipe.texts.context
