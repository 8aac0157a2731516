"""A trace as data, and as one page for the browser."""

import base64
import json
import math
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch

from glassformer.tracing.show import summary
from glassformer.tracing.statistics import Statistics
from glassformer.tracing.tree import ModuleCall, Operation

if TYPE_CHECKING:
    from glassformer.tracing.trace import Trace

MOST_WEIGHTS = 4_000_000
"""Attention weights on a page at most; they take a byte each."""


def data(trace: "Trace") -> dict[str, Any]:
    """The whole trace in plain values: numbers that JSON has not (NaN, ∞) are null."""
    return {
        "title": f"X-ray of {trace.root.kind}",
        "summary": summary(trace),
        "objective": trace.objective,
        "error": None if trace.error is None else _failure(trace),
        "root": _call(trace.root),
        "gradients": {name: _statistics(found) for name, found in trace.gradients.items()},
        "tokens": trace.tokens,
    }


def html(trace: "Trace") -> str:
    """The page: no other file, no network."""
    said = data(trace) | {"attention": _attention(trace)}
    text = json.dumps(said, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    template = files("glassformer.tracing").joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("__DATA__", text)


def _call(call: ModuleCall) -> dict[str, Any]:
    return {
        "path": call.path,
        "kind": call.kind,
        "call": call.call,
        "inputs": [str(each) for each in call.inputs],
        "outputs": [str(each) for each in call.outputs],
        "num_parameters": call.num_parameters,
        "statistics": _statistics(call.statistics),
        "failed": call.failed,
        "items": [_call(item) if isinstance(item, ModuleCall) else _operation(item) for item in call.items],
        "backward": [_operation(operation) for operation in call.backward],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    said = {
        "name": operation.name,
        "inputs": [str(each) for each in operation.inputs],
        "outputs": [str(each) for each in operation.outputs],
        "flops": operation.flops,
        "read": operation.read,
        "written": operation.written,
        "seconds": operation.seconds,
        "live": operation.live,
        "statistics": _statistics(operation.statistics),
        "parameters": list(operation.parameters),
        "source": None if operation.source is None else str(operation.source),
        "code": None if operation.source is None else operation.source.text,
        "view": operation.is_view,
        "backward_of": operation.backward_of,
        "error": operation.error,
    }
    return {name: value for name, value in said.items() if value not in (None, False, [])}


def _statistics(found: Statistics | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in vars(found).items()}


def _failure(trace: "Trace") -> dict[str, Any]:
    error = trace.error
    assert error is not None
    return {
        "module": error.module,
        "kind": error.kind,
        "operation": error.operation,
        "tensors": [[name, str(about)] for name, about in error.tensors],
        "source": None if error.source is None else str(error.source),
        "code": None if error.source is None else error.source.text,
        "why": error.why,
        "message": f"{type(error.exception).__name__}: {str(error.exception).strip()}",
    }


def _attention(trace: "Trace") -> list[dict[str, Any]]:
    """The first row's weights of as many layers as fit, a byte each."""
    said, left = [], MOST_WEIGHTS
    for path, weights in trace.weights.items():
        first = weights[0]
        left -= first.numel()
        if left < 0:
            break
        pixels = (first.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous()
        said.append(
            {"path": path, "shape": list(first.shape), "weights": base64.b64encode(pixels.numpy().tobytes()).decode()}
        )
    return said
