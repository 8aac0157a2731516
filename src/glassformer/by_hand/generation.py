"""Text from a language model, one token at a time: greedy, or drawn by temperature and top-k."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.ops.attend import softmax

if TYPE_CHECKING:
    from glassformer.by_hand.models.language_model import LanguageModel


def stream(
    model: "LanguageModel",
    input_ids: Array | list,
    attention_mask: Array | None = None,
    *,
    max_new_tokens: int = 20,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | None = None,
) -> Iterator[Array]:
    """The new tokens, (b,) at a time.

    The prompt goes through once and leaves its keys and values in the cache; from then on each token goes through
    alone. Prompts of unequal lengths are padded on the left, with 0 in `attention_mask` (b, t) at the padding.

    Args:
        input_ids: the prompt, (b, t) or (t,).
        do_sample: draw from softmax(logits / temperature) among the `top_k` likeliest; otherwise take the likeliest.
        seed: makes the draws repeatable.

    Raises ValueError for an empty prompt, numbers out of range, and where prompt and new tokens pass `max_positions`.
    """
    ids = np.atleast_2d(np.asarray(input_ids))
    if ids.size == 0:
        raise ValueError("the prompt is empty; give at least one token to continue from")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens}; expected 1 or more")
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}; expected more than 0 (for greedy decoding: do_sample=False)")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k}; expected 1 or more")
    b, t = ids.shape
    total = t + max_new_tokens
    if total > model.config.max_positions:
        raise ValueError(f"{t} + {max_new_tokens} tokens do not fit into the model's {model.config.max_positions} "
                         f"positions; shorten the prompt or max_new_tokens")  # fmt: skip
    mask = None
    if attention_mask is not None:
        mask = np.ones((b, total), bool)
        mask[:, :t] = attention_mask
    random = np.random.default_rng(seed)
    cache = model.new_cache(b, total)
    for length in range(t, total):
        hidden = model.hidden(ids, None if mask is None else mask[:, :length], cache=cache)
        logits = model.head(hidden[:, -1])
        token = sample(logits, random, temperature, top_k) if do_sample else logits.argmax(-1)
        yield token
        ids = token[:, None]


def sample(logits: Array, random: np.random.Generator, temperature: float = 1.0, top_k: int | None = None) -> Array:
    """One draw for each row of logits (b, v), by inverting the distribution function: the first place it passes u."""
    scores = logits / temperature
    if top_k is not None and top_k < scores.shape[-1]:
        least = np.partition(scores, -top_k, axis=-1)[:, -top_k, None]
        scores[scores < least] = -np.inf
    total = softmax(scores).cumsum(-1, dtype=np.float64)
    return (total > random.random((len(scores), 1)) * total[:, -1:]).argmax(-1)


def generate(
    model: "LanguageModel",
    input_ids: Array | list,
    attention_mask: Array | None = None,
    *,
    max_new_tokens: int = 20,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    eos_token_id: int | None = None,
    seed: int | None = None,
) -> Array:
    """The prompt and what follows it, (b, t + new); as `stream`. A row that reached `eos_token_id` repeats it."""
    rows = [np.atleast_2d(np.asarray(input_ids))]
    ended = np.zeros(len(rows[0]), bool)
    options = {"max_new_tokens": max_new_tokens, "do_sample": do_sample, "temperature": temperature, "top_k": top_k}
    for token in stream(model, input_ids, attention_mask, seed=seed, **options):
        if eos_token_id is not None:
            token = np.where(ended, eos_token_id, token)
            ended |= token == eos_token_id
        rows.append(token[:, None])
        if ended.all():
            break
    return np.concatenate(rows, axis=1)
