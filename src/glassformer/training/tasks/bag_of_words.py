"""The baseline of text classification: which words occur, and not in what order."""

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.metrics import judge
from glassformer.text.examples import Examples

MOST_WORDS = 20_000
STEPS = 200


def bag_of_words(examples: Examples) -> dict[str, float]:
    """What logistic regression on word counts reaches on the validation examples.

    softmax(W counts + b), W shrunk by weight decay, fitted to all training examples at once by Adam.
    """
    texts = [words(example["text"]) for example in examples.train]
    times: dict[str, int] = {}
    for text in texts:
        for word in text:
            times[word] = times.get(word, 0) + 1
    known = {word: i for i, word in enumerate(sorted(times, key=lambda word: -times[word])[:MOST_WORDS])}
    labels = list(examples.labels)
    targets = torch.tensor([labels.index(example["label"]) for example in examples.train])
    train = counts(texts, known)
    weight, bias = torch.zeros(len(labels), len(known)), torch.zeros(len(labels))
    with torch.enable_grad():
        parameters = [weight.requires_grad_(), bias.requires_grad_()]
        optimizer = torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.01)
        for _ in range(STEPS):
            optimizer.zero_grad()
            F.cross_entropy(scores(train, weight, bias), targets).backward()
            optimizer.step()
    with torch.no_grad():
        held_out = counts([words(example["text"]) for example in examples.validation], known)
        best = scores(held_out, weight, bias).argmax(1).tolist()
    return judge("classification", [labels[i] for i in best], examples.validation)


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"\w+", text.lower())


def counts(texts: Sequence[Sequence[str]], known: dict[str, int]) -> tuple[Tensor, Tensor]:
    """The numbers of the known words of all texts in one row, and where each text begins in it."""
    rows = [[known[word] for word in text if word in known] for text in texts]
    starts = torch.tensor([0, *map(len, rows)]).cumsum(0)[:-1]
    return torch.tensor([number for row in rows for number in row]), starts


def scores(bags: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor) -> Tensor:
    """(texts, labels): the sum of each text's words' weights."""
    return F.embedding_bag(bags[0], weight.T, bags[1], mode="sum") + bias
