"""Rows of ids through a model, those of about the same length together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from glassformer.text import Tokenizer
from glassformer.training.batches import cut, padded, presence

LONGEST = 512  # tokens, where a model knows no limit of its own
Track = Callable[[Sequence[Any]], Iterable[Any]]  # goes through a list of batches, and may show how far it is


def room_of(model: Any) -> int:
    """How many tokens a model reads at most."""
    limit = getattr(getattr(model, "encoder", model), "max_tokens", None)
    return LONGEST if limit is None else limit


@contextmanager
def predicting(model: Any) -> Iterator[torch.device]:
    """The model in eval mode and without gradients, as it was before afterwards; gives its device."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield next(model.parameters()).device
    finally:
        model.train(was_training)


def by_length(rows: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """The numbers of the rows in batches, the short ones first."""
    order = np.argsort([len(row) for row in rows], kind="stable")
    return [numbers.tolist() for numbers in cut(order, batch_size)]


def outputs(
    model: Any,
    tokenizer: Tokenizer,
    rows: Sequence[tuple[list[int], list[int]]],
    batch_size: int,
    track: Track,
) -> Iterator[tuple[list[int], Any]]:
    """The model's outputs for rows of ids and their token types, batch by batch, with the numbers of the rows.

    Raises:
        ValueError: the model and the tokenizer do not belong together.
    """
    check_vocabulary(model, tokenizer)
    pad = tokenizer.special.get("pad", 0)
    knows_types = getattr(getattr(model, "encoder", model), "num_segments", 1) > 1
    with predicting(model) as device:
        for numbers in track(by_length([ids for ids, _ in rows], batch_size)):
            ids = [rows[i][0] for i in numbers]
            inputs = {"input_ids": padded(ids, pad), "attention_mask": presence(ids)}
            if knows_types:
                inputs["token_type_ids"] = padded([rows[i][1] for i in numbers], 0)
            yield numbers, model(**{name: tensor.to(device) for name, tensor in inputs.items()})


def check_vocabulary(model: Any, tokenizer: Tokenizer) -> None:
    """Raise ValueError where the tokenizer knows more ids than the model."""
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} ids and the model {model.config.vocab_size}; "
            "they do not belong together"
        )
