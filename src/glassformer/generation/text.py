"""Continuing text: characters as soon as they are complete, and never anything of a stop string."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float, Int
from torch import Tensor

from glassformer.generation.decode import Generative, stream_prompt
from glassformer.generation.options import GenerationOptions, make_options
from glassformer.generation.processors import REMOVED


class TextStream(Protocol):
    """Ids in, text out as soon as its characters are complete."""

    def push(self, token: int) -> str: ...
    def finish(self) -> str: ...


class TextTokenizer(Protocol):
    """What generation asks of a tokenizer; those of `glassformer.text` have it."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def end_of_text(self) -> int | None: ...
    @property
    def beginning(self) -> list[int]: ...
    def encode(self, text: str, /) -> list[int]: ...
    def stream(self) -> TextStream: ...


def generate_text(
    model: Generative,
    tokenizer: TextTokenizer,
    prompt: str | Sequence[int],
    *,
    stop_strings: str | Sequence[str] = (),
    options: GenerationOptions | None = None,
    **changes: Any,
) -> str:
    """The continuation of `prompt`, without it. Arguments and errors are those of `stream_text`."""
    return "".join(stream_text(model, tokenizer, prompt, stop_strings=stop_strings, options=options, **changes))


def stream_text(
    model: Generative,
    tokenizer: TextTokenizer,
    prompt: str | Sequence[int],
    *,
    stop_strings: str | Sequence[str] = (),
    options: GenerationOptions | None = None,
    **changes: Any,
) -> Iterator[str]:
    """The continuation of `prompt`, piece by piece as it is generated; of an encoder-decoder, its answer to `prompt`.

    A character whose bytes are spread over several tokens is given once, whole; one that the last token leaves
    incomplete is left out. Text ends before the first stop string, wherever in tokens that begins and ends. The
    tokenizer's `end_of_text` ends it too, unless `eos_token_id` says otherwise.

    Args:
        prompt: a text, or the ids of one where every token is there already, as in a rendered conversation.
        stop_strings: text that ends the continuation and is no part of it.
        options, changes: as for `generate`; one sequence is generated.

    Raises:
        ValueError: for an empty prompt or stop string, a tokenizer that knows more ids than the model, and what
            `generate` raises; at the call, not later.
    """
    options = make_options(options, changes)
    stops = (stop_strings,) if isinstance(stop_strings, str) else tuple(stop_strings)
    if "" in stops:
        raise ValueError("a stop string is empty; it would stop before the first character")
    if options.num_return_sequences > 1:
        raise ValueError(
            f"num_return_sequences={options.num_return_sequences}: text is generated one sequence at a time"
        )
    ids, own_size = prompt_ids(model, tokenizer, prompt), tokenizer.vocab_size
    if own_size < model.config.vocab_size:  # a vocabulary rounded up for speed
        options = make_options(options, {"processors": (*options.processors, FirstIds(own_size))})
    if options.eos_token_id is None and tokenizer.end_of_text is not None:
        options = make_options(options, {"eos_token_id": tokenizer.end_of_text})
    start = model.prompt(ids, None, options)
    return _pieces(stream_prompt(start), tokenizer.stream(), frozenset(start.options.eos_tokens), StopStrings(stops))


def prompt_ids(model: Generative, tokenizer: TextTokenizer, prompt: str | Sequence[int]) -> list[int]:
    """A prompt as the model has learned to read it: the tokenizer says what begins a text, the model what ends one.

    Raises:
        ValueError: for an empty prompt, and a tokenizer that knows more ids than the model.
    """
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} ids and the model {model.config.vocab_size}; "
            "they do not belong together"
        )
    if not len(prompt):
        raise ValueError("the prompt is empty; give at least one character to continue")
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    if not ids:
        raise ValueError(f"the prompt {prompt!r} is white space alone, for which this tokenizer has no token")
    return model.framed([*tokenizer.beginning, *ids]) if isinstance(prompt, str) else ids


def _pieces(
    tokens: Iterator[Int[Tensor, "1"]], text: TextStream, ends: frozenset[int], stops: "StopStrings"
) -> Iterator[str]:
    for token in map(int, tokens):
        if token in ends:
            break
        if piece := stops.push(text.push(token)):
            yield piece
        if stops.found:
            return
    if piece := stops.push(text.finish().rstrip("\N{REPLACEMENT CHARACTER}")) + stops.finish():
        yield piece


class StopStrings:
    """Passes text on up to the first of some strings, holding back what may be the beginning of one.

    The first is the one that is complete first; of those complete at the same character, the longest.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings, self.found, self._held = tuple(strings), False, ""

    def push(self, text: str) -> str:
        """What of all text so far is now known to come before a stop string, and was not given before."""
        if self.found:
            return ""
        self._held += text
        places = [(place + len(string), place) for string in self.strings if (place := self._held.find(string)) >= 0]
        if places:
            self.found, end = True, min(places)[1]
        else:
            end = len(self._held) - max((self._overlap(string) for string in self.strings), default=0)
        given, self._held = self._held[:end], self._held[end:]
        return given

    def finish(self) -> str:
        """What was held back, when no more text comes."""
        given, self._held = "" if self.found else self._held, ""
        return given

    def _overlap(self, string: str) -> int:
        """The length of the longest beginning of `string` with which the text held ends."""
        longest = min(len(string) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(string[:n])), 0)


@dataclass(frozen=True)
class FirstIds:
    """Only ids below `count` stay: those that the tokenizer knows."""

    count: int

    def __call__(self, ids: Int[Tensor, "b t"], logits: Float[Tensor, "b v"], /) -> Float[Tensor, "b v"]:
        logits = logits.clone()
        logits[:, self.count :] = REMOVED
        return logits
