"""Models as ONNX files (onnx.ai): run by ONNX Runtime and others, without Python or PyTorch.

Files, inputs and outputs are named as Hugging Face's Optimum names them, whose runners open them. A decoder is one
program, which takes its cache in and gives it back: the same reads a prompt (with an empty past, p = 0) and writes on.
An encoder-decoder is three: the source is read once; then a first token, which also makes the keys and values of the
source; then one after another.

    encoder           model.onnx    input_ids, attention_mask [, token_type_ids] (b, t) -> last_hidden_state, or logits
    image encoder     model.onnx    pixel_values (b, c, y, x) -> last_hidden_state, or logits
    clip encoder      model.onnx    pixel_values (b, t, c, y, x) -> last_hidden_state, or logits
    detector          model.onnx    pixel_values, pixel_mask (b, y, x) -> logits, pred_boxes, last_hidden_state
    set of masks      model.onnx    pixel_values -> class_queries_logits, masks_queries_logits,
                                    transformer_decoder_last_hidden_state
    decoder           model.onnx    input_ids (b, t), attention_mask (b, p + t), past_key_values.N.{key,value}
                                    (b, g, p, k) -> logits (b, t, v), present.N.{key,value} (b, g, p + t, k)
    encoder-decoder   encoder_model.onnx            input_ids, attention_mask (b, s) -> last_hidden_state (b, s, d)
                      decoder_model.onnx            input_ids (b, t), encoder_hidden_states, encoder_attention_mask
                                                    -> logits, present.N.{decoder,encoder}.{key,value}
                      decoder_with_past_model.onnx  input_ids (b, t), encoder_attention_mask,
                                                    past_key_values.N.{decoder,encoder}.{key,value}
                                                    -> logits, present.N.decoder.{key,value}

These sizes are dynamic: any batch, any length. Pictures are of any size where the config names none, as SegFormer's, a
ResNet's and a detector's; elsewhere they are of the size that it names, or of another that is asked for.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.export.programs import Program, programs
from glassformer.foundation.atomic import atomic_update
from glassformer.parts import kernels
from glassformer.parts.kernels import ATTENTIONS

OPSET = 20
LARGE = 1_500_000_000  # bytes of weights; a file of more than 2 GB is not valid, so they lie beside it


def export_onnx(
    model: nn.Module, folder: str | os.PathLike[str], *, picture_size: tuple[int, int] | None = None
) -> list[Path]:
    """Write the model's ONNX files into a folder; returns their paths.

    Args:
        model: any of this library's, in float32 or float16, on the CPU; dropout is left out.
        folder: made if it is not there; its other files stay, an error leaves it as it was.
        picture_size: rows and columns of the pictures that the program will read; None: the config's, or any.

    Raises:
        ImportError: onnx and onnxscript are not installed. ValueError: the model is of a kind that is not exported, is
        in bfloat16, which ONNX Runtime's CPU kernels do not multiply, or cannot read pictures of this size.
    """
    parts = exported_programs(model, picture_size)
    folder = Path(folder).expanduser()
    with atomic_update(folder, last=parts[-1].file) as beside, plain(model):
        for part in parts:
            _write(part, beside / part.file)
    return [folder / part.file for part in parts]


def onnx_difference(
    model: nn.Module, folder: str | os.PathLike[str], *, picture_size: tuple[int, int] | None = None
) -> float:
    """How far ONNX Runtime's outputs from the model's files lie from the model's own, in units of their largest value.

    Each program is run on the example that it was exported with. Raises ImportError where onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("running ONNX files needs onnxruntime: pip install 'glassformer[onnx]'") from error
    largest = 0.0
    with plain(model), torch.no_grad():
        for part in programs(model, picture_size):
            session = onnxruntime.InferenceSession(Path(folder) / part.file, providers=["CPUExecutionProvider"])
            wanted = part.function(*(tensor for _, tensor, _ in part.inputs))
            found = session.run(None, {name: tensor.numpy() for name, tensor, _ in part.inputs})
            for ours, theirs in zip([wanted] if isinstance(wanted, Tensor) else wanted, found, strict=True):
                error = (ours - torch.from_numpy(theirs)).abs().max() / ours.abs().max().clamp(min=1e-30)
                largest = max(largest, error.item())
    return largest


def exported_programs(model: nn.Module, picture_size: tuple[int, int] | None = None) -> list[Program]:
    """What `export_onnx` will write. Raises what it raises."""
    try:
        import onnx
        import onnxscript
    except ImportError as error:
        raise ImportError(f"exporting needs {error.name}: pip install 'glassformer[onnx]'") from error
    del onnx, onnxscript
    weight = next(model.parameters())
    if weight.dtype not in (torch.float32, torch.float16):
        raise ValueError(
            f"the model is in {weight.dtype}; ONNX Runtime computes in float32 or float16: convert it first"
        )
    training = model.training
    try:
        return programs(model.eval(), picture_size)  # an example goes through it, which batch norms must not count
    finally:
        model.train(training)


@contextmanager
def plain(model: nn.Module) -> Iterator[None]:
    """In eval mode, every kernel the reference: plain operations that any ONNX runtime knows and fuses as it likes."""
    training = model.training
    choice = {"linear": "reference"}
    if any(isinstance(module, ATTENTIONS) for module in model.modules()):
        choice["attend"] = "reference"
    try:
        with kernels(model.eval(), **choice):
            yield
    finally:
        model.train(training)


def _write(program: Program, path: Path) -> None:
    names = {size for _, _, sizes in program.inputs for size in sizes.values()}
    make, auto = torch.export.Dim, torch.export.Dim.AUTO
    dims: dict[str, Any] = {name: auto if name.startswith("?") else make(name) for name in sorted(names)}
    shapes = tuple({place: dims[size] for place, size in sizes.items()} for _, _, sizes in program.inputs)
    with quiet(), torch.no_grad():
        exported = torch.onnx.export(
            Flat(program.function), tuple(tensor for _, tensor, _ in program.inputs), dynamo=True,
            opset_version=OPSET, verbose=False, dynamic_shapes=(shapes,),
            input_names=[name for name, _, _ in program.inputs], output_names=list(program.outputs),
        )  # fmt: skip
    assert exported is not None
    weights = sum(parameter.nbytes for parameter in program.function.parameters())
    exported.save(path, external_data=weights > LARGE)
    for written in path.parent.glob(f"{path.name}*"):
        with written.open("rb") as file:
            os.fsync(file.fileno())


class Flat(nn.Module):
    """A function of any number of inputs, whatever it calls them: so the exporter takes shapes in one row."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter names every absent extra of PyTorch's in the log, and says what it is doing on the terminal."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
