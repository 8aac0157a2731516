"""`glassformer xray "some text" --model FOLDER`"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class XRay:
    """Show everything that happens when a model reads a text: modules, operators, FLOPs, memory, time.

    Any Hugging Face folder will do: of a family that is not here, the model is transformers' own.
    """

    text: Positional[str]
    """what the model reads"""
    model: str
    """a run folder, a Hugging Face folder, or a hub id"""
    html: Path | None = None
    """write a page to look at in a browser"""
    json: Path | None = None
    """write everything as JSON"""
    depth: int = 3
    """how many modules deep the printed tree goes"""
    modules: bool = False
    """print modules only, no operators"""
    attention: bool = False
    """have the attention weights of every head, to be seen on the page"""
    backward: bool = False
    """differentiate too: a language model's loss on the text, else the sum of what comes out"""
    device: str = "auto"
    """auto, cpu, cuda"""
    dtype: str | None = None
    """float32, bfloat16 or float16; the weights' own if not given"""


def run(options: XRay, _: list[str]) -> int:
    """Print the tree, and write what is asked for; 1 where the model failed."""
    import torch

    from glassformer.cli.subject import Wish, opened
    from glassformer.tracing import xray

    if not options.text:
        raise ValueError("the text is empty; give one for the model to read")
    if options.depth < 1:
        raise ValueError(f"--depth is {options.depth}; expected 1 or more")
    wish = Wish(model=options.model, text=options.text, device=options.device, dtype=options.dtype,
                labels=options.backward)  # fmt: skip
    subject = opened(wish)
    with torch.set_grad_enabled(options.backward):
        trace = xray(subject.model.eval(), **subject.inputs, backward=options.backward, attention=options.attention)
    trace.tokens = subject.tokens
    print(f"{options.model}: {type(subject.model).__name__} of {subject.written_by}")
    trace.show(options.depth, operations=not options.modules)
    for path, write in ((options.html, trace.to_html), (options.json, trace.to_json)):
        if path is not None:
            write(path.expanduser())
            print(f"written to {path}")
    return 0 if trace.error is None else 1
