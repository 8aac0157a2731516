"""Starting from a trained model: its weights under a new head, what stays frozen, who learns how fast."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glassformer.checkpoints.hub import resolve
from glassformer.foundation.suggest import did_you_mean
from glassformer.models.catalog import from_pretrained

ENCODER = "encoder."  # where a model with a head keeps its encoder


@dataclass(frozen=True, kw_only=True)
class Init:
    """The [init] section: fine-tuning. Without `from` the weights are drawn anew.

    `freeze` names what does not learn, by the beginning of its name: "embed", "blocks.0-3", "blocks.*.attention".
    `layer_decay` multiplies the learning rate once for each layer down from the head, so that the lowest layers, which
    hold what is common to all tasks, move least (Howard & Ruder 2018, "ULMFiT", section 3.2). `head_rate` multiplies
    the head's.
    """

    source: str | None = field(default=None, metadata={"key": "from"})  # a folder, a run folder's model/, or a hub id
    freeze: tuple[str, ...] = ()
    layer_decay: float = 1.0
    head_rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay} must lie between 0 and 1, 0 excluded")
        if not self.head_rate > 0:
            raise ValueError(f"head_rate={self.head_rate} must be positive")

    def folder(self) -> Path:
        """Where the trained model lies.

        Raises FileNotFoundError, saying how to make it, where it is one of our runs' and not there.
        """
        assert self.source is not None
        match = re.fullmatch(r"(?:.*[/\\])?runs[/\\](\w+)[/\\]model[/\\]?", self.source)
        if match and not Path(self.source).is_dir():
            raise FileNotFoundError(f"[init] from is {self.source!r}, which is not there; "
                                    f"'glassformer train {match[1]}' makes it")  # fmt: skip
        return resolve(self.source)

    def load(self) -> Any:
        """The trained model."""
        return from_pretrained(self.folder())


@torch.no_grad()
def take_weights(model: nn.Module, trained: nn.Module, source: object) -> tuple[str, ...]:
    """Set the model's parameters to those of a trained one: all of them, or the encoder's where the heads differ.

    Gives the names of the model's parameters that the trained one does not have: they stay as they were drawn. So does
    a head for other labels.

    Raises ValueError where they have nothing in common, or a tensor in common has another shape.
    """
    found, new = dict(trained.named_parameters()), []
    for name, parameter in model.named_parameters():
        is_encoders = name.startswith(ENCODER)
        names = (name, name.removeprefix(ENCODER)) if is_encoders or type(trained) is type(model) else ()
        held = next((found[other] for other in names if other in found), None)
        if held is not None and held.shape != parameter.shape:
            if is_encoders or not hasattr(model.config, "labels"):
                raise ValueError(f"[init] from {source}: {name} has the shape {tuple(held.shape)} there, and "
                                 f"{tuple(parameter.shape)} by [model]")  # fmt: skip
            held = None
        if held is None:
            new.append(name)
        else:
            parameter.copy_(held)
    if len(new) == len(list(model.parameters())):
        raise ValueError(
            f"[init] from {source}: a {type(trained).__name__} has no weights for a {type(model).__name__}"
        )
    return tuple(new)


def freeze(model: nn.Module, patterns: Iterable[str]) -> tuple[str, ...]:
    """Let the parameters that a pattern names learn no more; gives their names.

    A pattern is the beginning of a parameter's name, in whole words; `0-3` in it stands for 0, 1, 2 and 3, and `*` for
    any one word. The encoder of a model with a head need not be named.

    Raises ValueError for a pattern that names nothing, with the nearest that does; and where nothing is left to learn.
    """
    named = dict(model.named_parameters())
    frozen = set()
    for pattern in patterns:
        matches = [name for name in named if begins(name, pattern) or begins(name.removeprefix(ENCODER), pattern)]
        if not matches:
            raise ValueError(f"[init] freeze names {pattern!r}, which no parameter's name begins with"
                             f"{did_you_mean(pattern, beginnings(named))}")  # fmt: skip
        frozen.update(matches)
    if len(frozen) == len(named):
        raise ValueError(f"[init] freeze = {list(patterns)} leaves no parameter to learn")
    for name in frozen:
        named[name].requires_grad = False
    return tuple(name for name in named if name in frozen)


def begins(name: str, pattern: str) -> bool:
    """Whether a parameter's name begins with the words of a pattern."""
    words, wanted = name.split("."), pattern.split(".")
    return len(words) >= len(wanted) and all(word_fits(*pair) for pair in zip(words, wanted, strict=False))


def word_fits(word: str, wanted: str) -> bool:
    """`3` fits `0-3`, anything fits `*`."""
    span = re.fullmatch(r"(\d+)-(\d+)", wanted)
    if span and word.isdigit():
        return int(span[1]) <= int(word) <= int(span[2])
    return wanted in ("*", word)


def beginnings(names: Iterable[str]) -> list[str]:
    """Every beginning of the names, to suggest from."""
    words = [name.removeprefix(ENCODER).split(".") for name in names]
    return sorted({".".join(row[: i + 1]) for row in words for i in range(min(2, len(row)))})


def rates(model: nn.Module, init: Init) -> dict[str, float]:
    """What each parameter's learning rate is multiplied by.

    layer_decay^(N + 1 − l) with l = 0 for the embeddings, 1 … N for the blocks and N + 1 for what follows them; the
    head, which is what is not the encoder's, also by `head_rate`.
    """
    names = [name for name, _ in model.named_parameters()]
    in_parts = any(name.startswith(ENCODER) for name in names) and not any(n.startswith("decoder.") for n in names)
    blocks = {name: int(match[1]) for name in names if (match := re.search(r"\bblocks\.(\d+)\.", name))}
    depth, factors, reached = max(blocks.values(), default=-1) + 1, {}, False
    for name in names:
        reached |= name in blocks
        is_head = not name.startswith(ENCODER) if in_parts else name.startswith("head.")
        after = 0 if reached or is_head else depth + 1
        distance = depth - blocks[name] if name in blocks else after
        factors[name] = init.layer_decay**distance * (init.head_rate if is_head else 1.0)
    return factors
