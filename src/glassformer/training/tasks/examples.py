"""What the tasks share that learn from examples: where these come from, and how predictions of them are judged."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from glassformer.metrics import judge
from glassformer.text import Tokenizer
from glassformer.text.corpus import Corpus
from glassformer.text.examples import Examples, load_examples
from glassformer.text.fields import FIELDS, Example
from glassformer.training.batches import Batch, ExampleLoader, SortedBatches
from glassformer.training.tasks.task import Measures, Validation, make_tokenizer

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe


def examples_of(recipe: "Recipe", task: str) -> Examples:
    """The examples that the recipe names, with the task's fields."""
    source, fields = recipe.texts.examples, FIELDS[task]
    if source is None:
        raise ValueError(f"[data] examples is not given; the task learns from some: a name such as 'sentiment', or a "
                         f"file with {', '.join(fields)}")  # fmt: skip
    return load_examples(source, fields=fields, seed=recipe.training.seed)


def tokenizer_for(
    recipe: "Recipe",
    examples: Examples,
    text_of: Callable[[Example], Iterable[str]],
    special_tokens: Sequence[str] = (),
) -> Tokenizer:
    """The tokenizer that the recipe names, trained on the examples' texts where it is not a folder's."""
    train, validation = (
        "\n".join(text for example in part for text in text_of(example))
        for part in (examples.train, examples.validation)
    )
    return make_tokenizer(recipe, Corpus(examples.name, train, validation), special_tokens)


def labels_of(config: Any, examples: Examples) -> tuple[str, ...]:
    """The model's labels where it has some, else the examples'. ValueError where an example has another."""
    labels = getattr(config, "labels", None)
    if labels is None:
        return examples.labels
    if strange := set(examples.labels) - set(labels):
        raise ValueError(f"{examples.name} has the label {min(strange)!r}, which is not among the [model] labels "
                         f"{', '.join(labels)}")  # fmt: skip
    return tuple(labels)


def loader_of(recipe: "Recipe", rows: Sequence[Any], make: Callable[[list[Any]], Batch]) -> ExampleLoader:
    """Training batches of encoded examples; the first entry of each is its ids."""
    return ExampleLoader(
        [len(row[0]) for row in rows],
        lambda numbers: make([rows[i] for i in numbers]),
        batch_size=recipe.data.batch_size,
        seed=recipe.training.seed,
        content=rows,
    )


def described(examples: Examples) -> str:
    """The examples in a few words."""
    return f"{examples.name}: {len(examples.train):,} examples, {len(examples.validation):,} more to validate on"


class PredictedExamples(Validation):
    """Validation examples, judged by what is predicted for each.

    `rows` are the encoded examples, of which one example may have several (`owners`: whose each is).
    """

    def __init__(
        self,
        task: str,
        examples: Sequence[Example],
        rows: Sequence[Any],
        make: Callable[[list[Any]], Batch],
        *,
        batch_size: int,
        labels: tuple[str, ...] = (),
        owners: Sequence[int] | None = None,
    ) -> None:
        self.task, self.examples, self.rows, self.labels = task, examples, rows, labels
        self.owners = range(len(rows)) if owners is None else owners
        lengths = [len(row[0]) for row in rows]
        self.sorted = SortedBatches(lengths, lambda numbers: make([rows[i] for i in numbers]), batch_size=batch_size)

    def batches(self) -> Iterable[Batch]:
        return self.sorted

    @abstractmethod
    def predict(self, rows: Sequence[Any], kept: Any) -> list[Any]:
        """What is predicted for each row of a batch, from what `keep` kept."""

    def join(self, example: Example, predictions: list[Any]) -> Any:
        """The prediction for an example, from those of its rows."""
        return predictions[0]

    @abstractmethod
    def shown(self, example: Example, prediction: Any) -> str:
        """An example with its prediction, on a line."""

    def measure(self, model: Any, loss: float, kept: list[Any], *, final: bool) -> Measures:
        """The task's metrics over the examples whose batches were evaluated."""
        found: dict[int, list[Any]] = {}
        for numbers, each in zip(self.sorted.numbers, kept, strict=False):
            for number, prediction in zip(numbers, self.predict([self.rows[i] for i in numbers], each), strict=True):
                found.setdefault(self.owners[number], []).append(prediction)
        chosen = sorted(found)
        examples = [self.examples[i] for i in chosen]
        predictions = [self.join(example, found[i]) for example, i in zip(examples, chosen, strict=True)]
        return judged(self.task, examples, predictions, self.shown)


def judged(
    task: str,
    examples: Sequence[Example],
    predictions: Sequence[Any],
    shown: Callable[[Example, Any], str],
    metrics: Sequence[str] | None = None,
) -> Measures:
    """The metrics of predictions, and two of them to look at."""
    lines = tuple(shown(*pair) for pair in list(zip(examples, predictions, strict=True))[:2])
    return Measures(metrics=judge(task, predictions, examples, metrics), examples=lines)
