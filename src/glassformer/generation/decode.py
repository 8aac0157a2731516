"""The loop that continues a prompt: run the model on what is new, choose a token, append it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from glassformer.generation.beam import beam_search
from glassformer.generation.options import GenerationOptions, make_options
from glassformer.generation.prompt import Prompts, batch_prompts


class Cache(Protocol):
    """What generation asks of a cache of keys and values."""

    @property
    def length(self) -> int: ...
    def truncate(self, length: int) -> None: ...
    def reorder(self, rows: Tensor) -> None: ...


class Generative(Protocol):
    """What generation asks of a model; `glassformer.models.language_model.LanguageModel` has it.

    `config` has `vocab_size` and `max_positions`; `has_position_table` says that no token may stand beyond the latter.
    """

    config: Any
    head: Any
    has_position_table: bool

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, cache: Any = None) -> Tensor: ...
    def new_cache(self, batch_size: int, capacity: int | None = None) -> Any: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def modules(self) -> Iterator[nn.Module]: ...


def generate(
    model: Generative,
    input_ids: Prompts,
    *,
    attention_mask: Shaped[Tensor, "b t"] | None = None,
    generator: torch.Generator | None = None,
    on_token: Callable[[Int[Tensor, "b"]], object] | None = None,
    options: GenerationOptions | None = None,
    **changes: Any,
) -> Int[Tensor, "b s"]:
    """Continue each prompt; returns prompts and continuations, (b · num_return_sequences, prompt + new).

    >>> model.generate([[1, 2, 3], [4]], max_new_tokens=20, do_sample=True, temperature=0.8, top_k=40, seed=0)

    Args:
        model: a causal language model.
        input_ids: (b, t) ids, or a list of lists of any lengths, which are padded on the left.
        attention_mask: (b, t), 0 at padding, which is on the left.
        generator: where the rows' seeds are drawn from, when no `seed` is given.
        on_token: called with the new ids (b) after each step.
        options: a `GenerationOptions`; any of its fields may also be given by name: `max_new_tokens`, `max_length`,
            `do_sample`, `temperature`, `top_k`, `top_p`, `min_p`, `repetition_penalty`, `num_return_sequences`,
            `num_beams`, `eos_token_id`, `pad_token_id`, `seed`, …

    Raises:
        ValueError, TypeError: for an empty prompt, ids outside the vocabulary, more tokens than the model has positions,
            options that are out of range, contradict each other, or do not exist.
    """
    run = _prepare(model, input_ids, attention_mask, generator, make_options(options, changes))
    if run.options.num_beams > 1:
        if on_token is not None:
            raise ValueError(f"on_token with num_beams={run.options.num_beams}: beams are known only at the end")
        with evaluating(model):
            return beam_search(model, run.ids[:, : run.length], run.present, run.options, run.new)
    for token in _steps(run):
        if on_token is not None:
            on_token(token)
    return run.ids[:, : run.length]


def stream(
    model: Generative,
    input_ids: Prompts,
    *,
    attention_mask: Shaped[Tensor, "b t"] | None = None,
    generator: torch.Generator | None = None,
    options: GenerationOptions | None = None,
    **changes: Any,
) -> Iterator[Int[Tensor, "b"]]:
    """`generate`, step by step: yields the new ids of all rows, (b), as each is known. Raises at the call, not later."""
    run = _prepare(model, input_ids, attention_mask, generator, make_options(options, changes))
    if run.options.num_beams > 1:
        raise ValueError(f"num_beams={run.options.num_beams} cannot be streamed: beams are known only at the end")
    return _steps(run)


@dataclass
class Run:
    """One call of `generate`, as it stands: `ids` is filled up to `length`."""

    model: Generative
    options: GenerationOptions
    ids: Int[Tensor, "b s"]
    present: Bool[Tensor, "b s"] | None  # None: no padding
    length: int
    uniforms: Float[Tensor, "b n"] | None  # None: greedy

    @property
    def new(self) -> int:
        return self.ids.shape[1] - self.length


def _prepare(
    model: Generative,
    input_ids: Prompts,
    attention_mask: Tensor | None,
    generator: torch.Generator | None,
    options: GenerationOptions,
) -> Run:
    config, device = model.config, next(model.parameters()).device
    for name, token in (*(("eos_token_id", eos) for eos in options.eos_tokens), ("pad_token_id", options.padding)):
        if not 0 <= token < config.vocab_size:
            raise ValueError(
                f"{name} is {token}; the vocabulary has {config.vocab_size} ids, 0 to {config.vocab_size - 1}"
            )
    prompt, present = batch_prompts(
        input_ids, attention_mask, vocab_size=config.vocab_size, padding=options.padding, device=device
    )
    length = prompt.shape[1]
    new = _new_tokens(model, length, options)
    if options.num_beams == 1 and options.num_return_sequences > 1:
        prompt = prompt.repeat_interleave(options.num_return_sequences, 0)
        present = None if present is None else present.repeat_interleave(options.num_return_sequences, 0)
    rows = prompt.shape[0]
    ids = prompt.new_full((rows, length + new), options.padding)
    ids[:, :length] = prompt
    if present is not None:
        present = torch.cat([present, present.new_ones(rows, new)], 1)
    uniforms = _uniforms(rows, new, options.seed, generator).to(device) if options.samples else None
    return Run(model, options, ids, present, length, uniforms)


def _new_tokens(model: Generative, length: int, options: GenerationOptions) -> int:
    """How many tokens to add; ValueError where that is none, or more than the model has positions."""
    new = options.max_new_tokens
    if new is None:
        assert options.max_length is not None
        new = options.max_length - length
        if new < 1:
            raise ValueError(f"max_length is {options.max_length}, and the prompt alone has {length} tokens; give a larger "
                             f"max_length, or max_new_tokens")  # fmt: skip
    limit = model.config.max_positions
    if model.has_position_table and length + new > limit and not (options.slide_context and length <= limit):
        raise ValueError(f"a prompt of {length} tokens and {new} new ones exceed the model's {limit} positions; ask for "
                         f"at most {max(0, limit - length)} new tokens, or shorten the prompt, or set slide_context=True"
                         )  # fmt: skip
    return new


def _uniforms(rows: int, steps: int, seed: int | None, generator: torch.Generator | None) -> Float[Tensor, "b n"]:
    """Each row's draws, in [0, 1), from a generator of its own: what a row draws depends on its seed alone."""
    if seed is not None:
        seeds = [seed + row for row in range(rows)]
    else:
        device = "cpu" if generator is None else generator.device
        seeds = torch.randint(2**62, (rows,), generator=generator, device=device).tolist()
    draws = [
        torch.rand(steps, generator=torch.Generator().manual_seed(seed % 2**63), dtype=torch.float64) for seed in seeds
    ]
    return torch.stack(draws) * (1 - 2**-52)  # so that u · total stays below the total after rounding


def _steps(run: Run) -> Iterator[Int[Tensor, "b"]]:
    """Fill `run.ids`, a column at a time, and yield each column."""
    model, options, ids, start = run.model, run.options, run.ids, run.length
    rows, total = ids.shape
    limit = model.config.max_positions if options.slide_context and model.has_position_table else total
    processors = options.logits_processors()
    said = _without_padding(ids, run.present) if processors else ids
    eos = torch.tensor(options.eos_tokens, device=ids.device)
    done = torch.zeros(rows, dtype=torch.bool, device=ids.device)
    with evaluating(model):
        with torch.inference_mode():
            cache = model.new_cache(rows, min(total, limit))
        first, fed = 0, 0  # the context begins at `first`; what is before `fed` is in the cache
        while run.length < total:
            length = run.length
            with torch.inference_mode():
                if length - first > limit:
                    first = fed = length - max(1, limit // 2)
                    cache.truncate(0)
                mask = None if run.present is None else run.present[:, first:length]
                logits = model.head(model.hidden(ids[:, fed:length], mask, cache=cache)[:, -1])
                fed = length
                for processor in processors:
                    logits = processor(said[:, :length], logits.float())
                if run.uniforms is None:
                    token = most_probable(logits)
                else:
                    token = draw(logits, run.uniforms[:, length - start])
                if len(eos):
                    token = token.where(~done, options.padding)
                    done |= torch.isin(token, eos)
                ids[:, length] = token
                if said is not ids:
                    said[:, length] = token
            run.length += 1
            yield ids[:, length]
            if len(eos) and bool(done.all()):
                return


def most_probable(logits: Float[Tensor, "b v"]) -> Int[Tensor, "b"]:
    """The id of the largest logit of each row; of equals, the smallest id. ValueError where no logit is finite."""
    _check_finite(logits)
    return logits.argmax(-1)


def draw(logits: Float[Tensor, "b v"], uniform: Float[Tensor, "b"]) -> Int[Tensor, "b"]:
    """The id at which the cumulative distribution of softmax(logits) passes `uniform`, in [0, 1)."""
    _check_finite(logits)
    cumulative = logits.softmax(-1, dtype=torch.float64).cumsum(-1)
    return torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)[:, 0]


def _check_finite(logits: Float[Tensor, "b v"]) -> None:
    best = logits.amax(-1)  # NaN where any logit is
    if not bool(best.isfinite().all()):
        row = int((~best.isfinite()).nonzero()[0])
        raise ValueError(
            f"the largest logit of row {row} is {best[row].item()}: no token can be chosen; "
            f"the model's weights may be damaged, or a processor removed every token"
        )


def _without_padding(ids: Int[Tensor, "b s"], present: Bool[Tensor, "b s"] | None) -> Int[Tensor, "b s"]:
    """`ids` with a row's first real token in place of its padding: what processors take for having been said."""
    if present is None:
        return ids
    first = present.int().argmax(-1, keepdim=True)
    return torch.where(present, ids, ids.gather(1, first))


@contextmanager
def evaluating(model: Generative) -> Iterator[None]:
    """Dropout off for the enclosed code; each module's mode comes back after it."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
