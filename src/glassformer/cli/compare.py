"""`glassformer compare A B --text "some text"`"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

if TYPE_CHECKING:
    from glassformer.cli.models import Opened
    from glassformer.tracing.points import Inputs

TRANSFORMERS = "transformers:"


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Find where two models first differ, by how much, and what it looks like; exit status 1 where they do.

    Each is a run folder, a Hugging Face folder or a hub id. `transformers:FOLDER` opens a folder by transformers, to
    hold it against ours.
    """

    a: Positional[str]
    """the one"""
    b: Positional[str]
    """the other"""
    text: str | None = None
    """what both read, tokenized by a's tokenizer; if not given, ids drawn at random"""
    tolerance: float | None = None
    """what may differ, as a share of the largest value; what the dtypes allow, if not given"""
    dtype: str | None = None
    """float32, bfloat16 or float16, for both; the weights' own if not given"""
    length: int = 16
    """tokens that are drawn, without --text"""
    json: bool = False
    """print JSON"""


def run(options: Compare, _: list[str]) -> int:
    """Print where they differ; 1 where they do."""
    from rich.console import Console

    from glassformer.tracing.compare import compare

    if options.length < 1:
        raise ValueError(f"--length is {options.length}; expected 1 or more")
    a, of_a = opened(options.a, options.dtype)
    b, of_b = opened(options.b, options.dtype)
    inputs = read(options, a, b, of_a or of_b)
    found = compare(a, b, inputs, tolerance=options.tolerance)
    if options.json:
        print(found.to_json())
    else:
        Console(highlight=False).print(found)
    return int(bool(found))


def opened(name: str, dtype: str | None) -> "tuple[Any, Opened | None]":
    """A model in evaluation mode, and what belongs to it where we opened it."""
    from glassformer.cli.models import named_dtype, open_model

    if not name.startswith(TRANSFORMERS):
        found = open_model(name, dtype=dtype, device="cpu")
        return found.model.eval(), found
    return theirs(name.removeprefix(TRANSFORMERS), None if dtype is None else named_dtype(dtype)), None


def theirs(name: str, dtype: Any) -> Any:
    """The folder's model, opened by transformers as the class that its config names."""
    from glassformer.checkpoints.folders import read_json
    from glassformer.checkpoints.hub import resolve

    try:
        import transformers
    except ImportError as error:
        raise ModuleNotFoundError(f"{TRANSFORMERS}{name} needs transformers: pip install transformers") from error
    folder = resolve(name)
    architecture = (read_json(folder / "config.json").get("architectures") or ["AutoModel"])[0]
    if not hasattr(transformers, architecture):
        raise ValueError(f"transformers {transformers.__version__} has no {architecture}, which {folder} names")
    return getattr(transformers, architecture).from_pretrained(folder, dtype=dtype).eval()


def read(options: Compare, a: Any, b: Any, at_hand: "Opened | None") -> "Inputs":
    """What both are given: a text's ids, or ids drawn at random; ids for the decoder too, where there is one."""
    import torch

    if options.text is not None:
        if at_hand is None:
            from glassformer.checkpoints.hub import resolve
            from glassformer.text import load_tokenizer

            tokenizer = load_tokenizer(resolve(options.a.removeprefix(TRANSFORMERS)))
        else:
            tokenizer = at_hand.tokenizer()
        ids = torch.tensor([tokenizer.encode(options.text)])
        if not ids.numel():
            raise ValueError(f"--text {options.text!r} has no tokens")
    else:
        sizes = [size for model in (a, b) if (size := getattr(model.config, "vocab_size", None)) is not None]
        if not sizes:
            raise ValueError(f"{type(a).__name__} reads no tokens; glassformer.tracing.compare takes any inputs")
        ids = torch.randint(min(sizes), (1, options.length), generator=torch.Generator().manual_seed(0))
    from inspect import signature

    both = all("decoder_input_ids" in signature(model.forward).parameters for model in (a, b))
    return {"input_ids": ids, "decoder_input_ids": ids} if both else {"input_ids": ids}
