"""`xray(model, *inputs)`: everything that happens when one calls `model(*inputs)`.

**Whose an operator is.** Forward, the innermost module's that is being called. Backward, the module's whose forward
operator it differentiates: autograd numbers the nodes that the forward pass makes, and the same number runs backward.
Where the gradient of a parameter is added up, it is the parameter's module's. A sum of the gradients of several uses of
one tensor goes to the node that ran last before it. What belongs to no node (the loss's own gradient) is the model's.
Where the forward pass is computed again (checkpointing), those operators stand in the modules that run again.

**Time** is that of the operator alone: no Python, and none of the statistics. A module's is the sum of its operators'.

**Memory** is that of the tensors made in the run; see `memory.py`. **FLOPs** are those of products; see `flops.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.ops.linear_switch import onednn_matmul_is_exact
from glassformer.ops.machine import machine
from glassformer.parts import Linear, TiedLinear, kernels
from glassformer.parts.kernels import ATTENTIONS
from glassformer.tracing.failure import failure_of
from glassformer.tracing.keeper import Keeper
from glassformer.tracing.patterns import activation_names, require_seen, resolve
from glassformer.tracing.recorder import Recorder, recording
from glassformer.tracing.statistics import Statistics, statistics_of
from glassformer.tracing.trace import Trace
from glassformer.tracing.values import info, tensors_in


def xray(
    model: nn.Module,
    *inputs: Any,
    backward: bool = False,
    attention: bool = False,
    keep: Sequence[str] = (),
    statistics: bool = True,
    raises: bool = False,
    **kwargs: Any,
) -> Trace:
    """Call `model(*inputs, **kwargs)` once and write down what happens, without touching the model.

    The model runs as it is: in its mode (train or eval), with gradients or without as the caller has it, drawing the
    random numbers that it would draw. A result that is a generator is read to its end, and is a list in the trace. The
    parameters' `.grad` are put back after a backward pass; statistics of what they became are `trace.gradients`.

    Args:
        backward: also differentiate the output: its `loss`, or the scalar it is, or the sum of its floating tensors.
        attention: have the weights of every head, `trace.attention(layer)`. Our layers get the reference kernel for it;
            of other models, the weights are computed beside each fused call.
        keep: activations to keep, by name or pattern, such as "blocks.*.attention.weights"; see `activation_names`.
        statistics: without them a run is faster.
        raises: raise what the model raises; else the trace says it, `trace.error`.

    Raises:
        ValueError: for names in `keep` that the model has not or that recorded nothing, and for a backward pass where
            the output depends on no parameter.
        TypeError: for what is no module.
    """
    model = getattr(model, "_orig_mod", model)  # of a compiled model, the one that was compiled
    if not isinstance(model, nn.Module):
        raise TypeError(f"xray looks into an nn.Module, and this is a {type(model).__name__}")
    names = resolve(keep, activation_names(model)) if keep else []
    keeper = Keeper(model, names, attention=attention)
    recorder = Recorder(model, keeper, statistics=statistics)
    recorder.root.inputs = tuple(info(tensor) for tensor in tensors_in((inputs, kwargs)))
    trace = Trace(recorder.root, tensors=keeper.tensors, weights=keeper.weights.found)
    with _prepared(model, trace, backward, statistics, weights=attention or keeper.wants_weights):
        try:
            recording(recorder, lambda: _run(recorder, trace, inputs, kwargs, backward))
        except Exception as error:
            if raises:
                raise
            recorder.root.failed = True
            trace.error = failure_of(error, model, recorder.failed_by(error))
    _check(trace, keep, backward)
    return trace


def _run(recorder: Recorder, trace: Trace, inputs: Sequence[Any], kwargs: Mapping[str, Any], backward: bool) -> None:
    out = recorder.model(*inputs, **kwargs)
    trace.output = list(out) if isinstance(out, GeneratorType) else out
    loss, objective = _objective(trace.output) if backward else (None, None)
    if loss is not None:
        trace.objective, recorder.backward = objective, True
        loss.backward()


def _objective(output: Any) -> tuple[Tensor | None, str]:
    """What is differentiated, and its name."""
    loss = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if isinstance(loss, Tensor) and loss.requires_grad:
        return (loss if loss.ndim == 0 else loss.sum()), "the loss"
    found = [tensor for tensor in tensors_in(output) if tensor.requires_grad]
    if not found:
        return None, ""
    if len(found) == 1 and found[0].ndim == 0:
        return found[0], "the output"
    return sum((tensor.sum() for tensor in found[1:]), found[0].sum()), "the sum of the output"


def _check(trace: Trace, keep: Sequence[str], backward: bool) -> None:
    """Raise ValueError for what was asked for and is not there, though the model ran."""
    if trace.error is not None:
        return
    if backward and trace.objective is None:
        raise ValueError("the output depends on no parameter that asks for a gradient; there is no backward pass")
    require_seen(keep, trace.tensors)


@contextmanager
def _prepared(model: nn.Module, trace: Trace, backward: bool, statistics: bool, *, weights: bool) -> Iterator[None]:
    if any(isinstance(module, Linear | TiedLinear | ATTENTIONS) for module in model.modules()):
        machine()  # what our kernels measure once on each machine is no part of the model
        onednn_matmul_is_exact()
    with ExitStack() as stack:
        if weights:
            stack.enter_context(_weights_formed(model))
        if backward:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(_own_gradients(model, trace.gradients, statistics))
        yield


@contextmanager
def _weights_formed(model: nn.Module) -> Iterator[None]:
    """While entered, no kernel of ours hides the weights, and torch.nn's own layers run operator by operator."""
    ours = any(isinstance(module, ATTENTIONS) for module in model.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    with kernels(model, attend="reference") if ours else nullcontext():
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _own_gradients(model: nn.Module, said: dict[str, Statistics], statistics: bool) -> Iterator[None]:
    """While entered the parameters have gradients of this run alone; what they were is put back."""
    before = {parameter: parameter.grad for parameter in model.parameters()}
    for parameter in before:
        parameter.grad = None
    try:
        yield
        for name, parameter in model.named_parameters() if statistics else ():
            found = None if parameter.grad is None else statistics_of(parameter.grad)
            if found is not None:
                said[name] = found
    finally:
        for parameter, gradient in before.items():
            parameter.grad = gradient
