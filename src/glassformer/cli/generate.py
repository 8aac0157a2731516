"""`glassformer generate --model FOLDER`"""

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassformer.cli.models import Opened
    from glassformer.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Continue text with a trained model, as it is written."""

    model: str
    """a run folder, a Hugging Face folder, or a hub id"""
    prompt: str | None = None
    """the text to continue; - reads it from standard input; the beginning of a line if not given"""
    chat: str | None = None
    """what the user says to a model that was trained on conversations, instead of a prompt; - reads it from standard
    input; the answer alone is shown"""
    system: str | None = None
    """how the model shall behave, said before --chat"""
    max_new_tokens: int = 300
    """how many tokens to write at most"""
    temperature: float | None = None
    """below 1 safer, above 1 wilder; 0 always takes the most probable token; 0.8 if not given"""
    top_k: int | None = None
    """choose among the so many most probable tokens only"""
    top_p: float | None = None
    """choose among the most probable tokens that together have this probability"""
    min_p: float | None = None
    """choose among tokens with at least this part of the largest probability"""
    repetition_penalty: float = 1.0
    """above 1: tokens that have been said become less likely"""
    no_repeat_ngram_size: int | None = None
    """no run of so many tokens is said twice"""
    min_new_tokens: int | None = None
    """the text does not end before"""
    stop: tuple[str, ...] = ()
    """texts that end the continuation, and are not shown"""
    samples: int = 1
    """how many continuations; the i-th (from 0) is that of --seed SEED+i"""
    seed: int | None = None
    """the same seed gives the same text; without it, each call another"""
    num_beams: int = 1
    """above 1: search for the most probable continuation; nothing is shown before its end"""
    device: str = "auto"
    """auto, cpu, cuda"""
    dtype: str | None = None
    """float32, bfloat16 or float16; the weights' own if not given"""
    linear: str | None = None
    """the kernel of the products with weights (see doctor); the fastest plain one if not given"""


def run(options: Generate, _: list[str]) -> None:
    """Write the continuations to standard output, piece by piece."""
    from glassformer.cli.models import open_model
    from glassformer.generation import prompt_ids
    from glassformer.models.language_model import LanguageModel
    from glassformer.ops.threads import patient_threads

    for name in ("samples", "num_beams"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}; expected 1 or more")
    if options.chat is not None and options.prompt is not None:
        raise ValueError("--prompt and --chat are given; a text is continued, or a conversation, not both")
    if options.system is not None and options.chat is None:
        raise ValueError(f"--system {options.system!r} has no effect without --chat")
    opened = open_model(options.model, dtype=options.dtype, device=options.device, linear=options.linear)
    if not hasattr(opened.model, "generate"):
        raise ValueError(f"{options.model} holds a {type(opened.model).__name__}, which writes no text; "
                         f"'glassformer eval --model {options.model}' says what it predicts")  # fmt: skip
    tokenizer = opened.tokenizer()
    given = options.prompt if options.chat is None else options.chat
    text = sys.stdin.read() if given == "-" else given
    prompt = line_start(tokenizer) if text is None else text
    continued = isinstance(opened.model, LanguageModel) and options.chat is None  # else it is answered
    shown = prompt.lstrip("\n") if continued else ""
    asked = prompt if options.chat is None else conversation(tokenizer, prompt, options)
    ids = prompt_ids(opened.model, tokenizer, asked)
    with patient_threads():
        write(opened, tokenizer, ids, options, shown)


def write(opened: "Opened", tokenizer: "Tokenizer", ids: list[int], options: Generate, shown: str) -> None:
    """To standard output, each continuation after what is shown of the prompt."""
    if options.num_beams > 1:
        sys.stdout.write(shown + searched(opened, tokenizer, ids, options) + "\n")
        return
    for i in range(options.samples):
        continuation = pieces(opened, tokenizer, ids, options, i)
        sys.stdout.write(("\n---\n" if i else "") + shown)
        for piece in continuation:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")


def conversation(tokenizer: "Tokenizer", text: str, options: Generate) -> list[int]:
    """The ids of a conversation up to where the model answers; its template says every token, the first one too."""
    messages = [] if options.system is None else [{"role": "system", "content": options.system}]
    rendered = tokenizer.apply_chat_template([*messages, {"role": "user", "content": text}])
    return tokenizer.encode(rendered, allow_special=True)


def line_start(tokenizer: "Tokenizer") -> str:
    """The prompt where none is given: a line break. Raises ValueError where the tokenizer does not know it."""
    try:
        tokenizer.encode("\n")
    except ValueError as error:
        raise ValueError(f"--prompt is not given, and a text cannot begin with a line break here: {error}") from error
    return "\n"


def pieces(opened: "Opened", tokenizer: "Tokenizer", prompt: list[int], options: Generate, sample: int) -> Any:
    """One continuation, streamed."""
    from glassformer.generation import stream_text

    temperature = 0.8 if options.temperature is None else options.temperature
    sampling = {"temperature": temperature, "top_k": options.top_k, "top_p": options.top_p,
                "min_p": options.min_p, "do_sample": True}  # fmt: skip
    if options.seed is not None:
        sampling["seed"] = options.seed + sample
    if temperature == 0:
        refuse(options, "top_k", "top_p", "min_p", "seed", reason="--temperature 0 takes the most probable token")
        if options.samples > 1:
            raise ValueError(f"--samples {options.samples} with --temperature 0 gives the same text each time")
        sampling = {}
    return stream_text(
        opened.model, tokenizer, prompt, stop_strings=options.stop, max_new_tokens=options.max_new_tokens,
        slide_context=True, eos_token_id=opened.eos_token_ids(), **unlikely(options), **sampling,
    )  # fmt: skip


def searched(opened: "Opened", tokenizer: "Tokenizer", ids: list[int], options: Generate) -> str:
    """The continuation that beam search finds."""
    from glassformer.generation import generate
    from glassformer.models.language_model import LanguageModel

    refuse(options, "top_k", "top_p", "min_p", "seed", reason="beam search does not sample")
    if options.temperature:  # 0 asks for what is most probable, as beams do
        refuse(options, "temperature", reason="beam search does not sample")
    if options.stop or options.samples > 1:
        raise ValueError(f"--num-beams {options.num_beams} goes with neither --stop nor --samples")
    end = tokenizer.end_of_text
    eos = opened.eos_token_ids() or (() if end is None else (end,))
    before = len(ids) if isinstance(opened.model, LanguageModel) else 1  # an answer begins with its start token
    room = max(opened.model.config.max_positions - before, 1) if opened.model.has_position_table else math.inf
    found = generate(
        opened.model, ids, max_new_tokens=int(min(options.max_new_tokens, room)), num_beams=options.num_beams,
        eos_token_id=eos, **unlikely(options),
    )[0, before:].tolist()  # fmt: skip
    ends = [place for place, token in enumerate(found) if token in eos]
    return tokenizer.decode(found[: min(ends, default=len(found))])


def unlikely(options: Generate) -> dict[str, Any]:
    """What is kept from being said, with beams and without."""
    names = ("repetition_penalty", "no_repeat_ngram_size", "min_new_tokens")
    return {name: getattr(options, name) for name in names}


def refuse(options: Generate, *names: str, reason: str) -> None:
    """Raise ValueError where one of these options was given."""
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(options, name)} has no effect: {reason}")
