"""Where a forward pass failed, which tensors met there, and why, in one sentence."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from torch import Tensor, nn

from glassformer.tracing.modules import modules_of
from glassformer.tracing.source import LIBRARY, TORCH, SourceLine, is_passed_over
from glassformer.tracing.tree import Operation
from glassformer.tracing.values import TensorInfo, info, shape_text

ROOM = str(Path(__file__).parent) + "/"


@dataclass(frozen=True)
class Failure:
    """What an x-ray says of an exception; `exception` is the exception itself.

    module, kind   path and class of the innermost module
    operation      the operator, where one failed; else the expression
    tensors        (name in the source, shape and dtype) of what met there
    source         the line
    why            one sentence
    """

    module: str
    kind: str
    operation: str
    tensors: tuple[tuple[str, TensorInfo], ...]
    source: SourceLine | None
    why: str
    exception: BaseException

    def __str__(self) -> str:
        where = f"{self.module or 'the model itself'} ({self.kind})"
        met = "".join(f"\n    {name:<16} {about}" for name, about in self.tensors)
        line = "" if self.source is None else f"\n  at {self.source}:  {self.source.text}"
        said = _plain(self.exception).strip().split("\n")[0]
        raw = "" if said == self.why else f"\n  {type(self.exception).__name__}: {said}"
        return f"failed in {where}, at {self.operation}: {self.why}{met}{line}{raw}"


def failure_of(error: BaseException, model: nn.Module, failed: Operation | None) -> Failure:
    """What can be said of an exception that came out of the model; `failed` is the operator it came from, if one."""
    frames = list(_frames(error.__traceback__))
    names = {id(module): name for name, module in modules_of(model).items()}
    module: Any = model
    for frame, _ in frames:
        inner = frame.f_locals.get("self")
        if frame.f_code.co_name == "_call_impl" and isinstance(inner, nn.Module):
            module = inner
    own = [(frame, at) for frame, at in frames if not is_passed_over(frame.f_code.co_filename)]
    near = [(frame, at) for frame, at in frames if _is_of_a_model(frame.f_code.co_filename)]
    source, tensors, code = None, [], ""
    if own or near:
        frame, at = (own or near)[-1]
        source = SourceLine(frame.f_code.co_filename, _line(frame, at), frame.f_code.co_name)
    if near:
        code = _expression(*near[-1])
        tensors = _tensors(code, near[-1][0])
    said = [(name, info(tensor)) for name, tensor in tensors]
    as_written = failed is not None and _is_product(failed.name) and _is_product(code)
    if failed is not None and not (as_written and len(said) >= len(failed.inputs)):
        said = _labelled(failed, said)
    path = names.get(id(module), type(module).__name__)
    operation = failed.name if failed is not None else " ".join(code.split())[:100] or type(error).__name__
    if operation.startswith("raise "):
        operation = "a check of its own"
    why = explain(error, failed.name if failed is not None else code, said, tensors, code)
    return Failure(path, type(module).__name__, operation, tuple(said), source, why, error)


def _plain(error: BaseException) -> str:
    """What an exception says, without the colours that some put into it for a terminal."""
    return re.sub(r"\x1b\[[\d;]*m", "", str(error))


def _is_product(operation: str) -> bool:
    """Whether an operator or an expression is a product of matrices."""
    return re.search(r"\b(add|b|badd)?mm\b|linear|matmul|@", operation) is not None


def _labelled(failed: Operation, said: list[tuple[str, TensorInfo]]) -> list[tuple[str, TensorInfo]]:
    """What the operator was given, each by the name of the variable that has its shape, where one has."""
    labels, out = list(said), []
    for i, about in enumerate(failed.inputs, 1):
        label = next((each for each in labels if each[1] == about), None)
        if label is not None:
            labels.remove(label)
        out.append((f"input {i}" if label is None else label[0], about))
    return out


def explain(
    error: BaseException,
    operation: str,
    met: list[tuple[str, TensorInfo]],
    values: list[tuple[str, Tensor]],
    code: str,
) -> str:
    """The reason in one sentence: a rule of shapes or dtypes that is broken here, else what the exception says."""
    message = " ".join(_plain(error).split()) or type(error).__name__
    if not isinstance(error, RuntimeError | IndexError) or code.startswith("raise "):
        return message
    if found := re.search(r"shape '\[(.*)\]' is invalid for input of size (\d+)", message):
        return f"{int(found[2]):,} elements do not fill the shape ({found[1]})"
    if isinstance(error, IndexError) and (said := _out_of_table(met, values)):
        return said
    if "dtype" in message or "scalar type" in message:
        kinds = [(name, about.dtype) for name, about in met]
        if different := next((each for each in kinds if each[1] != kinds[0][1]), None):
            return f"{kinds[0][0]} is {kinds[0][1]} and {different[0]} is {different[1]}"
    matrices = [(name, about.shape) for name, about in met if len(about.shape) >= 2]
    if _is_product(operation) and len(matrices) >= 2:
        is_linear = "linear" in code
        first, second = matrices[:2] if is_linear else matrices[-2:]  # what is added to a product stands first
        return _inner_sizes(first, second, is_linear) or message
    if "must match the size of tensor" not in message:
        return message
    shapes = [(name, about.shape) for name, about in met]
    pairs = ((first, second) for i, first in enumerate(shapes) for second in shapes[i + 1 :])
    return next((said for pair in pairs if (said := _not_broadcast(*pair))), message)


Named = tuple[str, tuple[int, ...]]


def _inner_sizes(first: Named, second: Named, is_linear: bool) -> str | None:
    (a, x), (b, y) = first, second
    if is_linear and "weight" in b:  # x Wᵀ
        return None if x[-1] == y[-1] else f"{a} has {x[-1]} numbers in its last dimension, and {b} takes {y[-1]}"
    if x[-1] == y[-2]:
        return None
    return f"the inner sizes of {shape_text(x)} × {shape_text(y)}, {x[-1]} and {y[-2]}, do not match"


def _not_broadcast(first: Named, second: Named) -> str | None:
    """The first sizes from the right that differ and are not 1."""
    for back, (m, n) in enumerate(zip(reversed(first[1]), reversed(second[1]), strict=False)):
        if m != n and 1 not in (m, n):
            where = "the last sizes" if back == 0 else f"the sizes in dimension {-1 - back}"
            return f"{where} of {first[0]} and {second[0]}, {m} and {n}, do not match"
    return None


def _out_of_table(met: list[tuple[str, TensorInfo]], values: list[tuple[str, Tensor]]) -> str | None:
    """An embedding that is asked for a row it has not."""
    table = next((about.shape for _, about in met if len(about.shape) == 2 and "float" in about.dtype), None)
    ids = next(((name, x) for name, x in values if not x.is_floating_point() and x.numel()), None)
    if table is None or ids is None:
        return None
    low, high = int(ids[1].min()), int(ids[1].max())
    return f"{ids[0]} holds {high if high >= table[0] else low}; the table has {table[0]} rows, 0 to {table[0] - 1}"


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lasti
        trace = trace.tb_next


def _is_of_a_model(file: str) -> bool:
    """Whether a frame's names are those of a model: PyTorch's modules are, its inner workings are not."""
    if file.startswith(TORCH):
        return file.startswith(LIBRARY) and not file.endswith("nn/modules/module.py")
    return not is_passed_over(file) and not file.startswith(ROOM)


def _line(frame: FrameType, at: int) -> int:
    return list(frame.f_code.co_positions())[at // 2][0] or frame.f_lineno


def _expression(frame: FrameType, at: int) -> str:
    """The part of the source that was being computed."""
    first, last, start, end = list(frame.f_code.co_positions())[at // 2]
    if first is None or last is None or start is None or end is None:
        return ""
    try:
        lines = Path(frame.f_code.co_filename).read_text(encoding="utf-8").split("\n")[first - 1 : last]
    except (OSError, UnicodeDecodeError):
        return ""
    if not lines:
        return ""
    raw = [line.encode() for line in lines]
    raw[-1] = raw[-1][:end]
    raw[0] = raw[0][start:]
    return b"\n".join(raw).decode(errors="replace")


def _tensors(code: str, frame: FrameType) -> list[tuple[str, Tensor]]:
    """The tensors that an expression names, as variables or attributes of them, in order."""
    try:
        tree = ast.parse(f"({code})", mode="eval")
    except SyntaxError:
        return []
    found: dict[str, Tensor] = {}
    for node in sorted(
        (n for n in ast.walk(tree) if isinstance(n, ast.Name | ast.Attribute)), key=lambda n: n.col_offset
    ):
        value = _value(node, frame)
        if isinstance(value, Tensor):
            found.setdefault(ast.unparse(node), value)
    return list(found.items())


def _value(node: ast.expr, frame: FrameType) -> Any:
    """A variable's value, or that of an attribute of a module; calls nothing."""
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, frame)
        if isinstance(owner, nn.Module):
            return owner._parameters.get(node.attr, owner._buffers.get(node.attr, owner._modules.get(node.attr)))
    return None
