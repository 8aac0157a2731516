"""The loop that continues a prompt: run the model on what is new, choose a token, append it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from glassformer.generation.beam import beam_search
from glassformer.generation.choose import draw, most_probable, uniforms
from glassformer.generation.options import GenerationOptions, make_options
from glassformer.generation.processors import LogitsProcessor
from glassformer.generation.prompt import Prompts, batch_prompts
from glassformer.generation.step import one_step
from glassformer.parts.linear import largest

SCREENED_FROM = 16  # new tokens: preparing the head for it takes as long as a few tokens


class Cache(Protocol):
    """What generation asks of a cache of keys and values."""

    capacity: int
    length: int

    def advance(self, t: int) -> None: ...
    def truncate(self, length: int) -> None: ...
    def reorder(self, rows: Tensor) -> None: ...


class Decoder(Protocol):
    """What continues ids; `glassformer.models.language_model.LanguageModel` is such.

    `config` has `vocab_size` and `max_positions`; `has_position_table` says that no token may stand beyond the latter.
    """

    config: Any
    head: Any
    has_position_table: bool

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, cache: Any = None) -> Tensor: ...
    def new_cache(self, batch_size: int, capacity: int | None = None) -> Any: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def modules(self) -> Iterator[nn.Module]: ...


class Prompt(NamedTuple):
    """What generation goes on from: who continues which ids, and how. 0 in the mask is padding."""

    decoder: Decoder
    input_ids: Prompts
    attention_mask: Shaped[Tensor, "*b t"] | None
    options: GenerationOptions


class Generative(Protocol):
    """What generation asks of a model: to say what is to be continued, and how a text's ids are framed for it.

    A decoder continues what it is given, itself. An encoder-decoder reads what it is given; what is continued is the
    beginning of its answer, by a decoder that knows the source.
    """

    @property
    def config(self) -> Any: ...
    def prompt(self, input_ids: Prompts, attention_mask: Tensor | None, options: GenerationOptions, /) -> Prompt: ...
    def framed(self, ids: list[int], /) -> list[int]: ...


def generate(
    model: Generative,
    input_ids: Prompts,
    *,
    attention_mask: Shaped[Tensor, "*b t"] | None = None,
    generator: torch.Generator | None = None,
    on_token: Callable[[Int[Tensor, "b"]], object] | None = None,
    options: GenerationOptions | None = None,
    **changes: Any,
) -> Int[Tensor, "rows s"]:
    """Continue each prompt; returns prompts and continuations, (b · num_return_sequences, prompt + new).

    Of an encoder-decoder, `input_ids` are sources, and the result is their targets, from the start token on.

    >>> model.generate([[1, 2, 3], [4]], max_new_tokens=20, do_sample=True, temperature=0.8, top_k=40, seed=0)

    Args:
        model: a causal language model, or an encoder-decoder.
        input_ids: (b, t) ids, or a list of lists of any lengths, which are padded.
        attention_mask: (b, t), 0 at padding, which is on the left (a source may have it anywhere).
        generator: where the rows' seeds are drawn from, when no `seed` is given.
        on_token: called with the new ids (b) after each step.
        options: a `GenerationOptions`; any of its fields may also be given by name.

    Raises:
        ValueError, TypeError: for an empty prompt, ids outside the vocabulary, more tokens than there are positions,
            options that are out of range, contradict each other, or do not exist.
    """
    run = _prepare(model.prompt(input_ids, attention_mask, make_options(options, changes)), generator)
    if run.options.num_beams > 1:
        if on_token is not None:
            raise ValueError(f"on_token with num_beams={run.options.num_beams}: beams are known only at the end")
        with evaluating(run.decoder):
            prompts, new = run.ids.split([run.length, run.ids.shape[1] - run.length], 1)
            found = beam_search(run.decoder, prompts, run.present, run.options, new.shape[1])
        return run.restored(found.clone())  # a clone made here is no inference tensor: gradients may pass by it
    for token in _steps(run):
        if on_token is not None:
            on_token(token)
    return run.restored(run.ids[:, : run.length])


def stream(
    model: Generative,
    input_ids: Prompts,
    *,
    attention_mask: Shaped[Tensor, "*b t"] | None = None,
    generator: torch.Generator | None = None,
    options: GenerationOptions | None = None,
    **changes: Any,
) -> Iterator[Int[Tensor, "b"]]:
    """`generate`, step by step: yields the new ids of all rows, (b), as they are known. Raises at the call."""
    return stream_prompt(model.prompt(input_ids, attention_mask, make_options(options, changes)), generator)


def stream_prompt(prompt: Prompt, generator: torch.Generator | None = None) -> Iterator[Int[Tensor, "b"]]:
    """`stream`, for a prompt that the model has made of what it was given."""
    run = _prepare(prompt, generator)
    if run.options.num_beams > 1:
        raise ValueError(f"num_beams={run.options.num_beams} cannot be streamed: beams are known only at the end")
    return _steps(run)


@dataclass
class Decoding:
    """One call of `generate` as it stands. What is processed is `ids`, filled up to `length`.

    Where a prompt has padding, its first real token stands in `ids`: a processor that looks at what has been said sees
    no padding. The model is told by `present`.
    """

    decoder: Decoder
    options: GenerationOptions
    prompt: Int[Tensor, "b t"]  # as given
    ids: Int[Tensor, "b s"]
    present: Bool[Tensor, "b s"] | None  # None: no padding
    length: int
    uniforms: Float[Tensor, "b n"] | None  # None: greedy

    def restored(self, ids: Int[Tensor, "rows n"]) -> Int[Tensor, "rows n"]:
        """`ids` with the prompts as they were given."""
        prompt = self.prompt.repeat_interleave(ids.shape[0] // self.prompt.shape[0], 0)
        return ids if self.present is None else torch.cat([prompt, ids[:, prompt.shape[1] :]], 1)


def _prepare(start: Prompt, generator: torch.Generator | None) -> Decoding:
    model, input_ids, attention_mask, options = start
    vocab_size, device = model.config.vocab_size, next(model.parameters()).device
    for name, token in (*(("eos_token_id", eos) for eos in options.eos_tokens), ("pad_token_id", options.padding)):
        if not 0 <= token < vocab_size:
            raise ValueError(f"{name} is {token}; the vocabulary has {vocab_size} ids, 0 to {vocab_size - 1}")
    prompt, present = batch_prompts(
        input_ids, attention_mask, vocab_size=vocab_size, padding=options.padding, device=device
    )
    if generator is not None and (options.seed is not None or not options.samples):
        other = (
            f"seed={options.seed}; give one of the two" if options.samples else "nothing to draw: set do_sample=True"
        )
        raise ValueError(f"a generator is given beside {other}")
    length = prompt.shape[1]
    new = _new_tokens(model, length, options)
    if options.num_beams == 1:
        prompt = prompt.repeat_interleave(options.num_return_sequences, 0)
        present = None if present is None else present.repeat_interleave(options.num_return_sequences, 0)
    rows = prompt.shape[0]
    ids = prompt.new_full((rows, length + new), options.padding)
    ids[:, :length] = prompt
    if present is not None:
        first = present.int().argmax(-1, keepdim=True)
        ids[:, :length] = torch.where(present, prompt, prompt.gather(1, first))
        present = torch.cat([present, present.new_ones(rows, new)], 1)
    draws = uniforms(rows, new, options.seed, generator).to(device) if options.samples else None
    return Decoding(model, options, prompt, ids, present, length, draws)


def _new_tokens(model: Decoder, length: int, options: GenerationOptions) -> int:
    """How many tokens to add; ValueError where that is none, or more than the model has positions."""
    new = (options.max_length or 0) - length if options.max_new_tokens is None else options.max_new_tokens
    if new < 1:
        raise ValueError(f"max_length is {options.max_length}, and the prompt alone has {length} tokens; give a larger "
                         f"max_length, or max_new_tokens")  # fmt: skip
    if options.shortest(length) > length + new:
        raise ValueError(f"no row is to end before it has {options.shortest(length)} tokens, but there is room for "
                         f"{length + new}, of which the prompt has {length}; lower min_length or min_new_tokens"
                         )  # fmt: skip
    if options.shortest(length) > length and not options.eos_tokens:
        raise ValueError(
            "min_length and min_new_tokens keep a row from its end, and no eos_token_id is given to end it"
        )
    limit = model.config.max_positions
    if not model.has_position_table or length + new <= limit or (options.slide_context and length <= limit):
        return new
    if length >= limit:
        raise ValueError(f"the prompt has {length} tokens and the model {limit} positions; shorten it to {limit - 1}, "
                         f"or to {limit} with slide_context=True")  # fmt: skip
    raise ValueError(f"a prompt of {length} tokens and {new} new ones exceed the model's {limit} positions; ask for at "
                     f"most {max(0, limit - length)} new tokens, shorten the prompt, or set slide_context=True"
                     )  # fmt: skip


def _steps(run: Decoding) -> Iterator[Int[Tensor, "b"]]:
    """Fill `run.ids`, a column at a time, and yield each column."""
    model, options, ids, start = run.decoder, run.options, run.ids, run.length
    rows, total = ids.shape
    limit = model.config.max_positions if options.slide_context and model.has_position_table else total
    processors = options.logits_processors(start)
    eos = torch.tensor(options.eos_tokens, device=ids.device)
    done = torch.zeros(rows, dtype=torch.bool, device=ids.device)
    first, fed = 0, 0  # the context begins at `first`; what stands between it and `fed` is in the cache
    with evaluating(model):
        with torch.inference_mode():
            cache = model.new_cache(rows, min(total, limit))
        advance = one_step(model, cache, capture=options.capture)
        screened = run.uniforms is None and not processors and total - start >= SCREENED_FROM
        while run.length < total:
            length = run.length
            with torch.inference_mode():  # not around the yield: it would hold for the caller too
                if length - first > limit:
                    first = fed = length - max(1, limit // 2)
                    cache.truncate(0)
                mask = None if run.present is None else run.present[:, first:length]
                hidden = advance(ids[:, fed:length], mask)
                fed = length
                token = largest(model.head, hidden) if screened else None
                if token is None:
                    token = _chosen(run, model.head(hidden), processors, start)
                if options.eos_tokens:
                    token = token.where(~done, options.padding)
                    done |= torch.isin(token, eos)
                ids[:, length] = token
            run.length += 1
            yield ids[:, length]
            if options.eos_tokens and bool(done.all()):
                return


def _chosen(
    run: Decoding, logits: Float[Tensor, "b v"], processors: tuple[LogitsProcessor, ...], start: int
) -> Int[Tensor, "b"]:
    """Each row's next token, of its processed logits: the most probable, or the one drawn."""
    if processors:
        logits = logits.float()
    for processor in processors:
        logits = processor(run.ids[:, : run.length], logits)
    draws = run.uniforms
    return most_probable(logits) if draws is None else draw(logits, draws[:, run.length - start])


@contextmanager
def evaluating(model: Decoder) -> Iterator[None]:
    """Dropout off for the enclosed code; each module's mode comes back after it."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
