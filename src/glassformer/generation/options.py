"""How to continue a prompt: every option of generation, checked before any work is done."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from glassformer.foundation.suggest import did_you_mean
from glassformer.generation.processors import (
    LogitsProcessor,
    MinLength,
    MinP,
    NoRepeatNGram,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How many tokens, how each is chosen, and when to stop. The names are those of `transformers`.

    Length: `max_new_tokens`, or `max_length` for prompt and continuation together; one of them is given. Before there
    are `min_new_tokens`, or `min_length` with the prompt, no `eos_token_id` is said.

    Choice: the most probable token (greedy), unless `do_sample`. `repetition_penalty` serves both, and so does
    `no_repeat_ngram_size`: no run of so many tokens is said twice. `temperature`,
    `top_k`, `top_p`, `min_p` shape a sample, are applied in this order, and need `do_sample=True`. Temperature 0 is the
    limit: greedy. `processors` are further changes to the logits, `f(ids (b, t), logits (b, v)) -> (b, v)`, applied
    after the repetition penalty and before the temperature; those of `transformers` fit.

    Stopping: a row is finished when it has said one of `eos_token_id`; then it says `pad_token_id` (by default the
    first of `eos_token_id`, or 0) until all rows are finished. With `slide_context` a model whose positions are used up
    goes on from the second half of what it has seen; without it, that is an error before any work.

    Several: each prompt is continued `num_return_sequences` times. `num_beams` > 1 searches for the continuation of
    largest log p / length^`length_penalty`; `early_stopping=True` ends the search once `num_beams` are finished, False
    once no beam at its present length is worth more than those, "never" once none could be at any length.

    Seeds: row i of the output (prompts in order, the samples of one prompt together) draws from `seed + i`: a row's
    sample does not depend on what else is in the batch. Without a seed, seeds are drawn from torch's generator.

    Speed: after a few tokens a step is captured and replayed, with the same results (see `generation/step.py`).
    With `capture=False` each step runs the model's Python: a breakpoint in it is met at every token.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int | None = None
    min_length: int | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int | None = None
    processors: tuple[LogitsProcessor, ...] = ()
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    slide_context: bool = False
    num_return_sequences: int = 1
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    seed: int | None = None
    capture: bool = True

    def __post_init__(self) -> None:
        eos = self.eos_token_id
        if eos is not None and not isinstance(eos, int):
            object.__setattr__(self, "eos_token_id", tuple(eos) or None)
        object.__setattr__(self, "processors", tuple(self.processors))
        self._check_types()
        self._check_ranges()
        self._check_together()

    def _check_types(self) -> None:
        for name, kind, word in _KINDS:
            value = getattr(self, name)
            wrong_bool = isinstance(value, bool) and kind is not bool
            if value is not None and (wrong_bool or not isinstance(value, kind)):
                raise TypeError(f"{name} is {value!r}, a {type(value).__name__}; expected {word}")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise TypeError(f"early_stopping is {self.early_stopping!r}; expected True, False or 'never'")
        for token in self.eos_tokens:
            if isinstance(token, bool) or not isinstance(token, int):
                raise TypeError(f"eos_token_id holds {token!r}, a {type(token).__name__}; expected token ids (int)")
        for processor in self.processors:
            if not callable(processor):
                raise TypeError(f"processors holds {processor!r}; expected functions of (ids, logits)")

    def _check_ranges(self) -> None:
        for name in ("max_new_tokens", "max_length", "min_new_tokens", "min_length", "top_k", "no_repeat_ngram_size",
                     "num_return_sequences", "num_beams"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                hint = "; leave it out to keep every token" if name in ("top_k", "no_repeat_ngram_size") else ""
                raise ValueError(f"{name} is {value}; expected 1 or more{hint}")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; expected a probability, 0 to 1")
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature is {self.temperature}; expected a finite number, 0 (greedy) or more")
        if not (self.repetition_penalty > 0 and math.isfinite(self.repetition_penalty)):
            raise ValueError(
                f"repetition_penalty is {self.repetition_penalty}; expected a finite number above 0 (1 is none)"
            )
        if not math.isfinite(self.length_penalty):
            raise ValueError(f"length_penalty is {self.length_penalty}; expected a finite number")

    def _check_together(self) -> None:
        if self.min_new_tokens is not None and self.min_length is not None:
            raise ValueError(
                f"min_new_tokens is {self.min_new_tokens} and min_length is {self.min_length}; give one of the two"
            )
        if (self.max_new_tokens is None) == (self.max_length is None):
            raise ValueError(
                f"max_new_tokens is {self.max_new_tokens} and max_length is {self.max_length}; give one of the two"
            )
        sampling = {"temperature": self.temperature if self.temperature not in (0, 1) else None,
                    "top_k": self.top_k, "top_p": self.top_p, "min_p": self.min_p, "seed": self.seed}  # fmt: skip
        unused = [name for name, value in sampling.items() if value is not None]
        if unused and not self.do_sample:
            values = ", ".join(f"{name}={getattr(self, name)}" for name in unused)
            raise ValueError(f"{values} without do_sample=True: greedy search takes the most probable token; "
                             f"set do_sample=True to sample, or leave it out")  # fmt: skip
        if self.num_beams > 1:
            if self.do_sample:
                raise ValueError(f"num_beams={self.num_beams} with do_sample=True: beam search does not sample")
            if self.slide_context:
                raise ValueError(f"num_beams={self.num_beams} with slide_context=True: beams keep their whole context")
            if self.num_return_sequences > self.num_beams:
                raise ValueError(f"num_return_sequences={self.num_return_sequences} is more than there are beams, "
                                 f"num_beams={self.num_beams}")  # fmt: skip
        elif self.length_penalty != 1 or self.early_stopping:
            raise ValueError("length_penalty and early_stopping belong to beam search; set num_beams above 1")
        elif self.num_return_sequences > 1 and not self.samples:
            raise ValueError(f"num_return_sequences={self.num_return_sequences} without sampling gives the same "
                             f"continuation each time; set do_sample=True or num_beams")  # fmt: skip

    @property
    def samples(self) -> bool:
        """Whether chance enters: `do_sample` at a temperature above 0."""
        return self.do_sample and self.temperature > 0

    @property
    def eos_tokens(self) -> tuple[int, ...]:
        """The ids that finish a row, as a tuple."""
        return () if self.eos_token_id is None else (
            (self.eos_token_id,) if isinstance(self.eos_token_id, int) else self.eos_token_id
        )  # fmt: skip

    @property
    def padding(self) -> int:
        """The id that fills the rest of a finished row, and the left of a short prompt."""
        if self.pad_token_id is not None:
            return self.pad_token_id
        return self.eos_tokens[0] if self.eos_tokens else 0

    def shortest(self, prompt_length: int) -> int:
        """The length, prompt and all, before which no row ends."""
        return self.min_length or (0 if self.min_new_tokens is None else prompt_length + self.min_new_tokens)

    def logits_processors(self, prompt_length: int) -> tuple[LogitsProcessor, ...]:
        """What is done to the logits, in order; empty for plain greedy search."""
        chain: list[LogitsProcessor] = []
        if self.repetition_penalty != 1:
            chain.append(RepetitionPenalty(self.repetition_penalty))
        if self.no_repeat_ngram_size is not None:
            chain.append(NoRepeatNGram(self.no_repeat_ngram_size))
        if self.shortest(prompt_length) > prompt_length:
            chain.append(MinLength(self.shortest(prompt_length), self.eos_tokens))
        chain += self.processors
        if self.samples:
            if self.temperature != 1:
                chain.append(Temperature(self.temperature))
            if self.top_k is not None:
                chain.append(TopK(self.top_k))
            if self.top_p is not None and self.top_p < 1:
                chain.append(TopP(self.top_p))
            if self.min_p:
                chain.append(MinP(self.min_p))
        return tuple(chain)


_KINDS = (
    *((name, int, "a whole number") for name in
      ("max_new_tokens", "max_length", "min_new_tokens", "min_length", "no_repeat_ngram_size", "top_k", "pad_token_id",
       "num_return_sequences", "num_beams", "seed")),
    *((name, (int, float), "a number") for name in
      ("temperature", "top_p", "min_p", "repetition_penalty", "length_penalty")),
    *((name, bool, "True or False") for name in ("do_sample", "slide_context", "capture")),
)  # fmt: skip


def make_options(options: GenerationOptions | None, changes: Mapping[str, Any]) -> GenerationOptions:
    """`options` with `changes` made to them. Raises TypeError for a name that is no option, with the nearest one."""
    names = [field.name for field in fields(GenerationOptions)]
    for name in changes:
        if name not in names:
            raise TypeError(f"unknown generation option {name!r}{did_you_mean(name, names)}")
    return GenerationOptions(**changes) if options is None else replace(options, **changes)
