"""What all tasks share: the face that training knows them by."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from glassformer.parts import LearnedPosition, MixtureOfExperts
from glassformer.text import Tokenizer, load_tokenizer, train_tokenizer
from glassformer.text.corpus import Corpus
from glassformer.training.batches import Batch, Loader

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found on the validation data beside the loss, and an example or two to look at."""

    metrics: dict[str, float] = field(default_factory=dict)
    examples: tuple[str, ...] = ()


class Validation(ABC):
    """What a model is held against."""

    searches: bool = False
    """Whether the final measure takes longer than the ones on the way (beam search over everything)."""

    @abstractmethod
    def batches(self) -> Iterable[Batch]:
        """The validation data, the same each time."""

    def keep(self, batch: Batch, output: Any) -> Any:
        """What `measure` needs of a batch's output; no more, as all batches' are kept together."""
        return None

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measured:
        """The metrics, of a model in eval mode; by default what follows from the loss."""
        return Measured(metrics={"perplexity": math.exp(min(loss, 700.0))})


@dataclass(kw_only=True)
class Prepared:
    """A task's data, ready to train on.

    labels      the classes, where the task has some
    data        what it is, in a few words
    baseline    what something simple reaches: metric -> value
    """

    tokenizer: Tokenizer
    batches: Loader
    validation: Validation
    data: str
    labels: tuple[str, ...] | None = None
    baseline: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """The [task] section: its name picks the class. By `metric` the best weights are chosen."""

    metric: ClassVar[str] = LOSS

    @abstractmethod
    def prepare(self, recipe: "Recipe", tokenizer: Tokenizer | None) -> Prepared:
        """The data; the tokenizer is made from it where none is given."""

    @abstractmethod
    def build(self, config: Any) -> Any:
        """The model, with the task's head. ValueError where the config's family has none."""

    def check(self, recipe: "Recipe") -> None:  # noqa: B027 - most have nothing to refuse
        """Raise ValueError where settings of the recipe do not go with the task."""

    def model_settings(self, recipe: "Recipe", tokenizer: Tokenizer) -> dict[str, Any]:
        """Settings of the model that are the tokenizer's."""
        return {"vocab_size": tokenizer.vocab_size}

    def flops_per_token(self, model: Any, config: Any, context: int) -> float | None:
        """Of a training step: 6 for each parameter that multiplies, and attention's products of context length.

        6 (parameters − position table) + 12 layers · dim · context  (Chowdhery et al. 2022, "PaLM", appendix B). Of
        experts, those that a token chooses. None where no single number tells it.
        """
        idle: float = sum(part.weight.numel() for part in model.modules() if isinstance(part, LearnedPosition))
        for part in model.modules():
            if isinstance(part, MixtureOfExperts):
                chosen: Any = part.router.num_chosen
                idle += num_parameters(part.experts) * (1 - chosen / len(part.experts))
        attention = 12 * getattr(config, "num_layers", 0) * getattr(config, "dim", 0) * context
        return 6.0 * (num_parameters(model) - idle) + attention

    def next_command(self, folder: Path) -> str:
        """What to do with a run, as a command line."""
        return f"glassformer eval --model {folder}"


def num_parameters(model: Any) -> int:
    """A model's parameters, a tied weight counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def special_ids(tokenizer: Tokenizer, task: str, *names: str) -> dict[str, int]:
    """The ids of special tokens by their roles, such as "mask". ValueError where the tokenizer has none of a role."""
    for name in names:
        if name not in tokenizer.special:
            raise ValueError(f"the task {task!r} needs a tokenizer with a {name!r} token, which this one has not; "
                             "[data] tokenizer 'wordpiece' makes one for encoders")  # fmt: skip
    return {name: tokenizer.special[name] for name in names}


def make_tokenizer(recipe: "Recipe", corpus: Corpus, special_tokens: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer that the recipe names, trained on the corpus with these special tokens, or loaded from a folder."""
    name = recipe.data.tokenizer or "characters"
    if Path(name).is_dir():
        return load_tokenizer(name)
    # Characters: the alphabet of all the text, or validation could not be read. Otherwise from training alone.
    text = corpus.train + corpus.validation if name == "characters" else corpus.train
    with TemporaryDirectory() as folder:
        train_tokenizer(name, text, vocab_size=recipe.data.vocab_size, special_tokens=special_tokens).save(folder)
        return load_tokenizer(folder)  # as later uses load it, its fast path included
