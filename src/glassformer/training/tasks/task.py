"""What all tasks share: the face that training knows them by."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from jaxtyping import UInt8
from torch import Tensor

from glassformer.parts import LearnedPosition, MixtureOfExperts
from glassformer.text import Tokenizer, load_tokenizer, train_tokenizer
from glassformer.text.corpus import Corpus
from glassformer.training.batches import Batch, Loader
from glassformer.training.data import Texts
from glassformer.training.readers import Readers

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe

LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What was found on the validation data beside the loss, and an example or two to look at.

    pictures    of the predictions, by file name: drawn for the final measure, and written into the run folder
    """

    metrics: dict[str, float] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    pictures: Mapping[str, UInt8[Tensor, "3 y x"]] = field(default_factory=dict, repr=False)


class Validation(ABC):
    """What a model is held against."""

    more_in_the_end: bool = False
    """Whether the final measure is more than the ones on the way (beam search over everything, pictures)."""

    @abstractmethod
    def batches(self) -> Iterable[Batch]:
        """The validation data, the same each time."""

    def keep(self, batch: Batch, output: Any) -> Any:
        """What `measure` needs of a batch's output; no more, as all batches' are kept together."""
        return None

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        """The metrics, of a model in eval mode; by default what follows from the loss."""
        return Measures(metrics={"perplexity": math.exp(min(loss, 700.0))})


Objective = Callable[[Any, Mapping[str, Any]], Tensor]
"""(model, a batch's inputs) -> the mean loss over the targets that count."""


def own_loss(model: Any, inputs: Mapping[str, Any]) -> Tensor:
    """The loss that the model itself gives."""
    return model(**inputs).loss


@dataclass(kw_only=True)
class Prepared:
    """A task's data, ready to train on.

    readers         what makes inputs of it: the tokenizer of texts, the processor of pictures
    data            what it is, in a few words
    objective       how a batch becomes the loss that is learned, where the model's own is not all; validation has that
    settings        of the model, that follow from the data: labels, num_classes
    baseline        what something simple reaches on the validation data: metric -> value
    test            data that nothing is chosen by; the best weights are measured on it once, in the end
    test_baseline   what something simple reaches there
    """

    readers: Readers
    batches: Loader
    validation: Validation
    data: str
    objective: Objective = own_loss
    settings: Mapping[str, Any] = field(default_factory=dict)
    baseline: Mapping[str, float] = field(default_factory=dict)
    test: Validation | None = None
    test_baseline: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """The [task] section: its name picks the class.

    data            the kind of the [data] section
    reads           which of `Readers` the model's inputs are made by
    unit            what is counted as read, in the plural
    metric          by which the best weights are chosen: the loss, or one that grows
    found_in_data   settings of the model that `prepare` finds
    """

    data: ClassVar[type] = Texts
    reads: ClassVar[tuple[str, ...]] = ("tokenizer",)
    unit: ClassVar[str] = "tokens"
    metric: ClassVar[str] = LOSS
    found_in_data: ClassVar[tuple[str, ...]] = ("labels",)

    @abstractmethod
    def prepare(self, recipe: "Recipe", readers: Readers) -> Prepared:
        """The data. A reader that is not given is made: the tokenizer is trained on the data, say."""

    @abstractmethod
    def build(self, config: Any) -> Any:
        """The model, with the task's head. ValueError where the config's family has none."""

    def check(self, recipe: "Recipe") -> None:  # noqa: B027 - most have nothing to refuse
        """Raise ValueError where settings of the recipe do not go with the task."""

    def model_settings(self, recipe: "Recipe", readers: Readers) -> dict[str, Any]:
        """Settings of the model that are the tokenizer's."""
        return {} if readers.tokenizer is None else {"vocab_size": readers.tokenizer.vocab_size}

    def flops_per_unit(self, model: Any, recipe: "Recipe") -> float | None:
        """Of a training step: 6 for each parameter that multiplies, and attention's products of context length.

        6 (parameters − position table) + 12 layers · dim · context  (Chowdhery et al. 2022, "PaLM", appendix B). Of
        experts, those that a token chooses. For each unit (here a token); None where no single number tells it.
        """
        config, context = recipe.model, recipe.texts.context
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
    name = recipe.texts.tokenizer or "characters"
    if Path(name).is_dir():
        return load_tokenizer(name)
    # Characters: the alphabet of all the text, or validation could not be read. Otherwise from training alone.
    text = corpus.train + corpus.validation if name == "characters" else corpus.train
    with TemporaryDirectory() as folder:
        train_tokenizer(name, text, vocab_size=recipe.texts.vocab_size, special_tokens=special_tokens).save(folder)
        return load_tokenizer(folder)  # as later uses load it, its fast path included
