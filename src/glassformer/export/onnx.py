"""Models as ONNX files (onnx.ai): run by ONNX Runtime and others, without Python or PyTorch.

A decoder becomes one file, which takes the cache in and gives it back, so that the same program reads a prompt and
writes token after token. Inputs and outputs are named as Hugging Face's Optimum names them, whose runners open them.

    model.onnx    input_ids (b, t), attention_mask (b, p + t), past_key_values.N.{key,value} (b, g, p, k)
                  -> logits (b, t, v), present.N.{key,value} (b, g, p + t, k)

The prompt comes with an empty past, p = 0. Sizes named here are dynamic: any batch, any length.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.foundation.atomic import atomic_update
from glassformer.models.language_model import LanguageModel
from glassformer.parts import kernels

OPSET = 20
LARGE = 1_500_000_000  # bytes of weights; a file of more than 2 GB is not valid, so they lie beside it
PAST = ("key", "value")


@dataclass(frozen=True)
class Program:
    """One ONNX file to be: the function, an example of what it takes, and what is what.

    `sizes` names the dynamic dimensions of each input: {place: name}. A name that begins with "?" follows from others.
    """

    file: str
    function: nn.Module
    inputs: tuple[tuple[str, Tensor], ...]
    sizes: tuple[dict[int, str], ...]
    outputs: tuple[str, ...]


def export_onnx(model: nn.Module, folder: str | os.PathLike[str]) -> list[Path]:
    """Write the model's ONNX files into a folder; returns their paths.

    Args:
        model: any of this library's, in float32 or float16, on the CPU; dropout is left out.
        folder: made if it is not there; its other files stay, an error leaves it as it was.

    Raises:
        ImportError: onnx and onnxscript are not installed. ValueError: the model is of a kind that is not exported, or
        is in bfloat16, which ONNX Runtime's CPU kernels do not multiply.
    """
    require_onnx()
    weight = next(model.parameters())
    if weight.dtype not in (torch.float32, torch.float16):
        raise ValueError(
            f"the model is in {weight.dtype}; ONNX Runtime computes in float32 or float16: convert it first"
        )
    parts = programs(model)
    folder = Path(folder).expanduser()
    with atomic_update(folder, last=parts[-1].file) as beside, plain(model):
        for part in parts:
            _write(part, beside / part.file)
    return [folder / part.file for part in parts]


def programs(model: nn.Module) -> list[Program]:
    """What a model is exported as. Raises ValueError for a kind that is not."""
    for kind, make in KINDS.items():
        if isinstance(model, kind):
            return make(model)
    raise ValueError(f"{type(model).__name__} is not exported; these are: {', '.join(k.__name__ for k in KINDS)}")


def require_onnx() -> None:
    """Raise ImportError, saying what to install, where the exporter is not there."""
    try:
        import onnx
        import onnxscript
    except ImportError as error:
        raise ImportError(f"exporting needs {error.name}: pip install 'glassformer[onnx]'") from error
    del onnx, onnxscript


@contextmanager
def plain(model: nn.Module) -> Iterator[None]:
    """In eval mode, every kernel the reference: plain operations that any ONNX runtime knows and fuses as it likes."""
    training = model.training
    choice = {"linear": "reference"}
    if any(hasattr(module, "kernel") and not hasattr(module, "weight") for module in model.modules()):
        choice["attend"] = "reference"
    try:
        with kernels(model.eval(), **choice):
            yield
    finally:
        model.train(training)


# -- decoders ----------------------------------------------------------------------------------------------------------


class PastLayer:
    """One layer of a cache that is a value: what is appended is joined to the past, nothing is written in place."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.key, self.value = key, value

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The past with `k` and `v` behind it."""
        self.key, self.value = torch.cat([self.key, k], dim=2), torch.cat([self.value, v], dim=2)
        return self.key, self.value


class PastCache:
    """What `KeyValueCache` is to a model, for a program without state: the past comes in and goes out."""

    def __init__(self, past: tuple[Tensor, ...]) -> None:
        self.layers = [PastLayer(key, value) for key, value in zip(past[::2], past[1::2], strict=True)]
        self.length = past[0].shape[2]

    def require(self, t: int) -> None:
        """There is always room."""

    def advance(self, t: int) -> None:
        """The layers have grown by themselves."""

    def present(self) -> tuple[Tensor, ...]:
        """What the next call takes as its past."""
        return tuple(tensor for layer in self.layers for tensor in (layer.key, layer.value))


class DecoderStep(nn.Module):
    """Logits, and the cache as it is after these tokens."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, past: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        cache: Any = PastCache(past)
        hidden = self.model.hidden(input_ids, attention_mask, cache=cache)
        return self.model.head(hidden), *cache.present()


def decoder(model: LanguageModel) -> list[Program]:
    """The one program of a decoder. Raises ValueError for one without a cache."""
    if not hasattr(model.config, "num_layers"):
        raise ValueError(f"{type(model).__name__} has no attention and no cache; there is nothing to export")
    p, t = 3, 2
    held = model.new_cache(2, p + t).layers
    past = [(f"{i}.{kind}", getattr(layer, kind)[:, :, :p]) for i, layer in enumerate(held) for kind in PAST]
    inputs = (
        ("input_ids", torch.zeros(2, t, dtype=torch.int64)),
        ("attention_mask", torch.ones(2, p + t, dtype=torch.int64)),
        *((f"past_key_values.{name}", tensor) for name, tensor in past),
    )
    sizes = ({0: "batch_size", 1: "sequence_length"}, {0: "batch_size", 1: "?"})
    sizes += ({0: "batch_size", 2: "past_sequence_length"},) * len(past)
    outputs = ("logits", *(f"present.{name}" for name, _ in past))
    return [Program("model.onnx", DecoderStep(model), inputs, sizes, outputs)]


KINDS: dict[type, Any] = {LanguageModel: decoder}
"""Kind of model -> what makes its programs."""


# -- writing -----------------------------------------------------------------------------------------------------------


def _write(program: Program, path: Path) -> None:
    names = sorted({name for sizes in program.sizes for name in sizes.values()} - {"?"})
    dims: dict[str, Any] = {name: torch.export.Dim(name) for name in names} | {"?": torch.export.Dim.AUTO}
    shapes = [{place: dims[name] for place, name in sizes.items()} for sizes in program.sizes]
    tensors = [tensor for _, tensor in program.inputs]
    plain_inputs = sum(not name.startswith("past_key_values.") for name, _ in program.inputs)
    past, past_shapes = tuple(tensors[plain_inputs:]), tuple(shapes[plain_inputs:])
    arguments, argument_shapes = (*tensors[:plain_inputs],), (*shapes[:plain_inputs],)
    if past:
        arguments, argument_shapes = (*arguments, past), (*argument_shapes, past_shapes)
    with quiet(), torch.no_grad():
        exported = torch.onnx.export(
            program.function, arguments, dynamo=True, opset_version=OPSET, verbose=False,
            dynamic_shapes=argument_shapes, input_names=[name for name, _ in program.inputs],
            output_names=list(program.outputs),
        )  # fmt: skip
    assert exported is not None
    weights = sum(parameter.nbytes for parameter in program.function.parameters())
    exported.save(path, external_data=weights > LARGE)
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter names every absent extra of PyTorch's in the log, and says what it is doing on the terminal."""
    import warnings

    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
