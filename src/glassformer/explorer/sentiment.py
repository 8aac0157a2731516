"""The sentiment example: an encoder trained by hand in NumPy, beside what counting words reaches, and where it looks.

`glassformer sentiment` runs it. The sentences are made so that single words say nothing (see text/generated/sentiment):
what decides is who is denied, and which of two opinions counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from glassformer.by_hand.classification import Classifier, Labelled, Options, train
from glassformer.text.examples import load_examples
from glassformer.text.fields import FIELDS
from glassformer.tracing.plots import write_figure
from glassformer.training.tasks.bag_of_words import bag_of_words

SENTENCES = (
    "The food was not at all bad.",
    "The view was lovely, but the service was hardly pleasant.",
    "Although the room was awful, the host was by no means dull.",
)
"""What is drawn: a denial, a denial behind "but", a denial that "although" leaves standing."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came out: the share of validation examples that each tells rightly, and the picture."""

    accuracy: float
    baseline: float
    seconds: float
    classifier: Classifier
    picture: Path | None


def run(options: Options, *, picture: Path | None, console: Console, source: str = "sentiment") -> Found:
    """Train, compare, draw; everything is printed on the way.

    Raises ValueError, OSError as `load_examples` and `train` do; ImportError where a picture is asked for and
    matplotlib is not there.
    """
    if picture is not None and find_spec("matplotlib") is None:
        raise ImportError("the picture needs matplotlib: pip install 'glassformer[course]', or --no-picture")
    examples = load_examples(source, fields=FIELDS["classification"])
    learned, held = pairs(examples.train), pairs(examples.validation)
    baseline = bag_of_words(examples)["accuracy"]
    console.print(f"{len(learned):,} sentences to learn from, {len(held):,} to be asked about; for example")
    for text, label in learned[:4]:
        console.print(f"  {label:9} {text}", highlight=False)
    console.print(f"counting words (logistic regression): {baseline:.1%} of the {len(held):,}\n")
    console.print(f"{'step':>6}  {'loss':>6}  {'accuracy':>8}  {'time':>5}", highlight=False)
    seconds = 0.0

    def show(step: int, loss: float, accuracy: float, passed: float) -> None:
        nonlocal seconds
        seconds = passed
        console.print(f"{step:6d}  {loss:6.3f}  {accuracy:8.1%}  {passed:4.0f}s", highlight=False)

    classifier = train(learned, held, options, show)
    accuracy = classifier.accuracy(held)
    console.print(f"\n{classifier.model.num_parameters:,} parameters, by hand in NumPy: {accuracy:.1%} of the "
                  f"{len(held):,}, where counting words reaches {baseline:.1%}")  # fmt: skip
    for text, label in zip(SENTENCES, classifier.predict(SENTENCES), strict=True):
        console.print(f"  {label:9} {text}", highlight=False)
    if picture is not None:
        draw(classifier, SENTENCES, picture)
        console.print(f"where its heads look: {picture}", highlight=False)
    return Found(accuracy=accuracy, baseline=baseline, seconds=seconds, classifier=classifier, picture=picture)


def pairs(examples: Sequence[dict[str, Any]]) -> list[Labelled]:
    """(text, label) of each."""
    return [(example["text"], example["label"]) for example in examples]


def draw(classifier: Classifier, sentences: Sequence[str], path: Path) -> None:
    """The attention of every head on each sentence: a row for a layer, a column for a head."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seen = [classifier.attention(sentence) for sentence in sentences]
    layers, heads = seen[0][1].shape[:2]
    tall = [layers * (0.17 * len(words) + 0.95) + 0.4 for words, _ in seen]
    figure = Figure(figsize=(2.6 * heads + 1, sum(tall) + 0.7), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    figure.suptitle("Where each head looks: each word's row shows what it reads, darker for more", fontsize=13)
    parts: Any = figure.subfigures(len(sentences), 1, height_ratios=tall, squeeze=False)[:, 0]
    labels = classifier.predict(sentences)
    for part, sentence, label, (words, weights) in zip(parts, sentences, labels, seen, strict=True):
        part.suptitle(f"“{sentence}”  →  {label}", fontsize=11)
        axes, image = part.subplots(layers, heads, squeeze=False), None
        for layer in range(layers):
            for head in range(heads):
                axis = axes[layer][head]
                image = axis.imshow(weights[layer, head], cmap="Blues", vmin=0, vmax=1, aspect="auto")
                axis.set_xticks(range(len(words)), words, rotation=90, fontsize=7)
                axis.set_yticks(range(len(words)), words if head == 0 else [], fontsize=7)
                axis.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=8)
        part.colorbar(image, ax=axes, shrink=0.5, label="share of attention")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(path, figure, dpi=110)


def where(classifier: Classifier, sentence: str, word: str) -> np.ndarray:
    """How much of the first token's attention each head gives to a word: (layers, heads).

    Raises ValueError for a word that the sentence has not.
    """
    words, weights = classifier.attention(sentence)
    if word not in words:
        raise ValueError(f"the sentence has no word {word!r}; its words are {', '.join(words)}")
    return weights[:, :, 0, words.index(word)]
