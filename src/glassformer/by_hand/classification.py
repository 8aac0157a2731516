"""A small encoder learns to tell classes of texts apart: words to ids, batches, the loop, where its heads look."""

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.models.bert import BERTConfig
from glassformer.by_hand.models.bert_heads import BERTForSequenceClassification
from glassformer.by_hand.ops.cross_entropy import cross_entropy
from glassformer.by_hand.optimizers import AdamW, clip_gradients, cosine_schedule

PAD, UNKNOWN, FIRST = "[PAD]", "[UNK]", "[CLS]"
Labelled = tuple[str, str]  # a text and its label
Show = Callable[[int, float, float, float], None]  # step, loss, validation accuracy, seconds


@dataclass(frozen=True, kw_only=True)
class Options:
    """How large the encoder is, and how it is trained."""

    dim: int = 64
    layers: int = 2
    heads: int = 4
    batch: int = 16
    steps: int = 6000
    learning_rate: float = 5e-4
    dropout: float = 0.0
    seed: int = 0
    evaluate_every: int = 500

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads", "batch", "steps", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.dim % self.heads:
            raise ValueError(f"heads={self.heads} does not divide dim={self.dim}; choose a divisor")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; expected a number above 0")


def words_of(text: str) -> list[str]:
    """The words and the marks of a text, in lower case."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


class Vocabulary:
    """Words as ids; what training has not seen is one id, and every text begins with the same one."""

    def __init__(self, texts: Sequence[str]) -> None:
        known = sorted({word for text in texts for word in words_of(text)})
        self.words = [PAD, UNKNOWN, FIRST, *known]
        self.ids = {word: i for i, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """[CLS], then a word each."""
        return [self.ids[FIRST], *(self.ids.get(word, self.ids[UNKNOWN]) for word in words_of(text))]

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The words of ids."""
        return [self.words[i] for i in ids]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    """Rows of ids as one array (b, t), 0 behind the shorter ones, and a mask with 1 at what is real."""
    length = max(len(row) for row in rows)
    ids = np.array([[*row, *[0] * (length - len(row))] for row in rows])
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return ids, mask


def batches(rows: Sequence[Sequence[int]], size: int, random: np.random.Generator) -> Iterator[Array]:
    """The places of rows, endlessly: each epoch in another order, rows of like length together, so that little is
    padding."""
    lengths = np.array([len(row) for row in rows])
    while True:
        order = np.argsort(lengths + random.uniform(0, 2, len(rows)))
        groups = [order[start : start + size] for start in range(0, len(order), size)]
        for i in random.permutation(len(groups)):
            yield groups[i]


class Classifier:
    """The encoder with its vocabulary and its labels."""

    def __init__(self, train: Sequence[Labelled], options: Options) -> None:
        if len({label for _, label in train}) < 2:
            raise ValueError(f"{len(train)} examples have fewer than two different labels; there is nothing to learn")
        self.vocabulary = Vocabulary([text for text, _ in train])
        self.labels = sorted({label for _, label in train})
        longest = max(len(words_of(text)) for text, _ in train) + 1
        config = BERTConfig(
            vocab_size=len(self.vocabulary.words), max_positions=2 * longest, dim=options.dim,
            num_layers=options.layers, num_heads=options.heads, hidden_dim=4 * options.dim, num_segments=1,
            dropout=options.dropout, attention_dropout=0.0, labels=tuple(self.labels),
        )  # fmt: skip
        self.model = BERTForSequenceClassification(config, seed=None)
        self.model.initialize(options.seed, std=options.dim**-0.5)

    def logits(self, texts: Sequence[str], *, size: int = 256) -> Array:
        """A score for each text and label, dropout off."""
        rows = [self.vocabulary.encode(text) for text in texts]
        order = np.argsort([len(row) for row in rows])
        self.model.eval()
        found = np.empty((len(rows), len(self.labels)), np.float32)
        for start in range(0, len(rows), size):
            places = order[start : start + size]
            found[places] = self.model(*padded([rows[i] for i in places]))
        self.model.train()
        return found

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The best label of each text."""
        return [self.labels[i] for i in self.logits(texts).argmax(-1)]

    def accuracy(self, examples: Sequence[Labelled]) -> float:
        """The share of examples whose best label is theirs."""
        right = [p == label for p, (_, label) in zip(self.predict([t for t, _ in examples]), examples, strict=True)]
        return sum(right) / len(right)

    def attention(self, text: str) -> tuple[list[str], Array]:
        """The words of a text, and where each head of each layer looks: (layers, heads, t, t)."""
        ids = self.vocabulary.encode(text)
        self.model.eval()
        self.model(*padded([ids]))
        weights = np.stack([block.attention.weights[0] for block in self.model.encoder.blocks])
        self.model.train()
        return [FIRST, *words_of(text)], weights


def train(
    examples: Sequence[Labelled], validation: Sequence[Labelled], options: Options, show: Show | None = None
) -> Classifier:
    """The loop: a batch, its loss, the gradients, a step. Raises ValueError where the loss is no longer a number."""
    classifier = Classifier(examples, options)
    model = classifier.model.train()
    rows = [classifier.vocabulary.encode(text) for text, _ in examples]
    classes = np.array([classifier.labels.index(label) for _, label in examples])
    parameters = model.parameters()
    optimizer = AdamW(parameters, betas=(0.9, 0.99), weight_decay=0.01)
    order = batches(rows, options.batch, np.random.default_rng(options.seed))
    start, losses = time.perf_counter(), []
    for step in range(options.steps):
        places = next(order)
        loss, d_logits = cross_entropy(model(*padded([rows[i] for i in places])), classes[places])
        if not math.isfinite(loss):
            raise ValueError(f"the loss became {loss} at step {step}; choose a smaller learning rate")
        model.zero_grad()
        model.backward(d_logits)
        clip_gradients(parameters, 1.0)
        optimizer.learning_rate = cosine_schedule(
            step, peak=options.learning_rate, total_steps=options.steps, warmup_steps=max(options.steps // 10, 1)
        )
        optimizer.step()
        losses.append(loss)
        done = step + 1
        if show is not None and (done % options.evaluate_every == 0 or done == options.steps):
            show(done, sum(losses) / len(losses), classifier.accuracy(validation), time.perf_counter() - start)
            losses = []
    return classifier
