"""`glassformer draw "some text" --model FOLDER`"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from glassformer.cli.subject import Subject

PICTURES = {
    "positions": "positional_encoding.png",
    "attention": "attention_pattern.png",
    "residual": "residual_stream.png",
    "gradients": "gradient_flow.png",
    "complexity": "complexity.png",
}
"""What can be drawn -> its file."""
NEED_NO_MODEL = ("positions", "complexity")


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Draw a model at work on a text: positions, heads, the residual stream, gradients, time against length.

    Of a model's size by name the weights are drawn anew. Without a model: sinusoidal positions, and the time of a block
    of the first paper.
    """

    text: Positional[str] = "The small bird sang because it had found the river again."
    """what the model reads"""
    model: str | None = None
    """the name of a published size (untrained), a run folder, a Hugging Face folder, or a hub id"""
    only: str | None = None
    """one of positions, attention, residual, gradients, complexity"""
    layer: str = "0"
    """whose heads: a number in the order of the run, a path, or all"""
    target: str | None = None
    """what the decoder of an encoder-decoder reads; the text if not given"""
    positions: int = 128
    """how many places"""
    seconds: float = 6.0
    """how long to measure times by length"""
    out: Path = Path()
    """the folder that the pictures are written to"""
    device: str = "auto"
    """auto, cpu, cuda"""


def run(options: Draw, _: list[str]) -> None:
    """Write the pictures, each with a line that says where."""
    from glassformer.foundation.suggest import did_you_mean
    from glassformer.tracing.plots import write_figure

    if options.only is not None and options.only not in PICTURES:
        raise ValueError(f"there is no picture {options.only!r}{did_you_mean(options.only, PICTURES)}")
    if options.only not in (None, *NEED_NO_MODEL) and options.model is None:
        raise ValueError(f"a picture of {options.only} needs a model; give --model")
    if not options.text:
        raise ValueError("the text is empty; give one for the model to read")
    names = PICTURES if options.only is None else (options.only,)
    for name, draw in _drawings(options).items():
        if name in names:
            path = options.out.expanduser() / PICTURES[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_figure(path, draw())
            print(f"written to {path}")


def _drawings(options: Draw) -> dict[str, Callable[[], "Figure"]]:
    """A function for each picture that can be made."""
    from glassformer.cli.models import device_named
    from glassformer.tracing import complexity, pictures, positions

    if options.model is None:
        device = device_named(options.device)
        block = complexity.paper_block()
        return {
            "positions": lambda: pictures.positional_encoding(
                [positions.sinusoidal_positions(options.positions, 128)], "the Transformer of 2017"
            ),
            "complexity": lambda: pictures.complexity(
                complexity.measured(block, seconds=options.seconds, device=device), "the Transformer of 2017"
            ),
        }
    subject, of = subject_of(options)
    model, device = subject.model.eval(), next(subject.model.parameters()).device
    found: dict[str, Callable[[], Figure]] = {
        "positions": lambda: pictures.positional_encoding(positions.positions_of(model, options.positions), of),
    }
    if subject.tokens:
        taught, read, targets = with_targets(subject, options)
        found["attention"] = lambda: _heads(taught, read, options.layer, of)
        found["residual"] = lambda: _stream(taught, of)
        found["gradients"] = lambda: _flow(taught, targets, of)
    elif options.only not in (None, *NEED_NO_MODEL):
        raise ValueError(f"{type(model).__name__} reads no text; draw its {' or '.join(NEED_NO_MODEL)}")
    found["complexity"] = lambda: pictures.complexity(
        complexity.measured(complexity.shape_of(model), seconds=options.seconds, device=device), of
    )
    return found


# ---------------------------------------------------------------------------------------------- the model


def subject_of(options: Draw) -> tuple["Subject", str]:
    """The model with its text, and what it is called in titles."""
    from glassformer.cli.subject import Wish, opened, untrained
    from glassformer.models.catalog import CONFIGS, model_config
    from glassformer.training import is_run

    name = str(options.model)
    wish = Wish(model=name, text=options.text, device=options.device)
    is_folder = is_run(name) or Path(name).expanduser().is_dir()
    if name in CONFIGS and not is_folder:
        return untrained(wish), f"{name}, untrained"
    if not is_folder and "/" not in name:
        model_config(name)  # says which is near
    return opened(wish), Path(name).name or name


def with_targets(subject: "Subject", options: Draw) -> tuple["Subject", list[str], "Tensor | None"]:
    """What the model is asked: its inputs, what the decoder's places are called, and the right answers at each place.

    A decoder is asked for the next token, an encoder-decoder for the target, which it reads one place behind; a masked
    language model for the tokens it reads. Other models have no answers.
    """
    from dataclasses import replace

    import torch

    ids = subject.inputs["input_ids"]
    kind = type(subject.model).__name__
    if "decoder_input_ids" in subject.inputs:
        target, words = ids, subject.tokens
        if options.target is not None:
            if subject.encode is None:
                raise ValueError(f"{kind} is untrained and has no tokenizer for --target; give a folder")
            target, words = subject.encode(options.target)
        start = subject.inputs["decoder_input_ids"][:, :1].to(target.device)
        inputs = subject.inputs | {"decoder_input_ids": torch.cat([start, target[:, :-1]], dim=1)}
        return replace(subject, inputs=inputs), ["<start>", *words[:-1]], target
    if options.target is not None:
        raise ValueError(f"{kind} has one text; only encoder-decoders read a --target too")
    if "Masked" in kind:
        return subject, subject.tokens, ids
    nothing = torch.full_like(ids[:, :1], -100)
    return subject, subject.tokens, torch.cat([ids[:, 1:], nothing], dim=1)


# ---------------------------------------------------------------------------------------------- the pictures


def _heads(subject: "Subject", read: list[str], layer: str, of: str) -> "Figure":
    import torch

    from glassformer.tracing import pictures, xray

    with torch.no_grad():
        trace = xray(subject.model, **subject.inputs, attention=True, statistics=False, raises=True)
    first = {name: weights[0].float().cpu() for name, weights in trace.weights.items()}
    if layer == "all":
        trace.attention(0)  # says what is wrong where no layer attended
        return pictures.attention_of_all(first, of)
    number = int(layer) if layer.lstrip("-").isdigit() else layer
    trace.attention(number)
    name = list(first)[number] if isinstance(number, int) else number
    return pictures.attention_pattern(first[name], name, *asking_and_seen(name, subject.tokens, read), of)


def asking_and_seen(path: str, tokens: list[str], read: list[str]) -> tuple[list[str], list[str]]:
    """The tokens that ask in a layer of attention, and those that are looked at, by the layer's path."""
    _, decoder, inside = path.partition("decoder")
    crosses = any(word in inside.lower() for word in ("cross", "enc"))
    asking = read if decoder else tokens
    return asking, tokens if crosses else asking


def _stream(subject: "Subject", of: str) -> "Figure":
    from glassformer.tracing import depth, pictures

    return pictures.residual_stream(depth.streams(subject.model, subject.inputs), of)


def _flow(subject: "Subject", targets: "Tensor | None", of: str) -> "Figure":
    from glassformer.tracing import depth, pictures

    found, objective = depth.flows(subject.model, subject.inputs, targets)
    return pictures.gradient_flow(found, objective, of)
