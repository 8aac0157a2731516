"""`glassformer xray "some text" --model FOLDER`"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

if TYPE_CHECKING:
    from torch import nn


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


@dataclass(frozen=True)
class Subject:
    """A model, what goes into it, the tokens as text, and who wrote it."""

    model: "nn.Module"
    inputs: dict[str, Any]
    tokens: list[str]
    written_by: str


def run(options: XRay, _: list[str]) -> int:
    """Print the tree, and write what is asked for; 1 where the model failed."""
    import torch

    from glassformer.tracing import xray

    if not options.text:
        raise ValueError("the text is empty; give one for the model to read")
    if options.depth < 1:
        raise ValueError(f"--depth is {options.depth}; expected 1 or more")
    subject = opened(options)
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


def opened(options: XRay) -> Subject:
    """The model: ours where we have its class, else transformers'."""
    from glassformer.checkpoints.folders import read_json
    from glassformer.checkpoints.hub import resolve
    from glassformer.models.catalog import ARCHITECTURES
    from glassformer.training import is_run

    if not is_run(options.model):
        folder = resolve(options.model)
        attributes = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        known = {name for cls in ARCHITECTURES.values() for name in cls.config_table.model_types}
        classes = attributes.get("architectures") or []
        foreign = classes[0] not in ARCHITECTURES if classes else attributes.get("model_type", "bert") not in known
        if foreign:
            return theirs(options, folder, classes)
    return ours(options)


def ours(options: XRay) -> Subject:
    """A model of ours with its text, framed as it has learned to read it."""
    import torch

    from glassformer.cli.models import open_model
    from glassformer.models.encoder import Encoder
    from glassformer.models.language_model import LanguageModel
    from glassformer.models.sequence_to_sequence import SequenceToSequenceModel

    found = open_model(options.model, dtype=options.dtype, device=options.device)
    model, device = found.model, next(found.model.parameters()).device
    encoder = getattr(model, "encoder", model)
    if not isinstance(model, LanguageModel | SequenceToSequenceModel) and not isinstance(encoder, Encoder):
        raise ValueError(f"{type(model).__name__} reads no text; call glassformer.tracing.xray on it in Python")
    tokenizer = found.tokenizer()
    ids, types = tokenizer.encode(options.text), None
    if isinstance(model, LanguageModel | SequenceToSequenceModel):
        ids = model.framed([*tokenizer.beginning, *ids])
    else:
        ids, types = tokenizer.template.around(ids)
    inputs = {"input_ids": torch.tensor([ids], device=device)}
    if types is not None and encoder.num_segments > 1:
        inputs["token_type_ids"] = torch.tensor([types], device=device)
    if isinstance(model, SequenceToSequenceModel):
        inputs["decoder_input_ids"] = torch.tensor([[model.config.decoder_start_token_id]], device=device)
    elif options.backward and isinstance(model, LanguageModel):
        inputs["labels"] = inputs["input_ids"]
    return Subject(model, inputs, [tokenizer.decode([i]) for i in ids], "glassformer")


def theirs(options: XRay, folder: Path, classes: list[str]) -> Subject:
    """A model of a family that is not here, with its tokenizer, by transformers.

    Raises ImportError where transformers is missing.
    """
    import torch

    from glassformer.cli.models import device_named, named_dtype

    try:
        import transformers
    except ImportError as error:
        kind = classes[0] if classes else "of a family that is not here"
        raise ImportError(f"{folder} holds a {kind}; to open it, pip install transformers") from error
    kind = getattr(transformers, classes[0], None) if classes else None
    device = device_named(options.device)
    dtype = "auto" if options.dtype is None else named_dtype(options.dtype)
    loader: Any = kind or transformers.AutoModel
    model = loader.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = torch.tensor([tokenizer(options.text)["input_ids"]], device=device)
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([[model.config.decoder_start_token_id]], device=device)
    elif options.backward and "LM" in type(model).__name__ and "Masked" not in type(model).__name__:
        inputs["labels"] = ids
    return Subject(model, inputs, tokenizer.convert_ids_to_tokens(ids[0].tolist()), "transformers")
