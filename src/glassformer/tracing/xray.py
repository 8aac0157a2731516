"""`xray(model, *inputs)`: everything that happens when one calls `model(*inputs)`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.parts import Attention, LatentAttention, kernels
from glassformer.tracing.decompose import AttentionWeights
from glassformer.tracing.failure import failure_of
from glassformer.tracing.patterns import activation_names, resolve
from glassformer.tracing.recorder import Recorder, recording
from glassformer.tracing.statistics import Statistics, statistics_of
from glassformer.tracing.trace import Trace
from glassformer.tracing.tree import ModuleCall
from glassformer.tracing.values import tensors_in


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
    random numbers that it would draw. A result that is a generator is read to its end, and is a list in the trace.

    Times are of the operators alone: what an operator takes here includes no Python and none of the statistics. A
    module's time is the sum of its operators'.

    Backward, each operator belongs to the module whose forward operator it differentiates: autograd numbers the nodes
    that the forward pass makes, and the same number runs backward. Where the gradient of a parameter is added up, it
    belongs to the parameter's module. A sum of the gradients of several uses of one tensor belongs to the node that ran
    last before it. What belongs to no node (the loss's own gradient, 1) is the model's. Where the forward pass is
    computed again (checkpointing), those operators stand in the modules that run again. The parameters' `.grad` are put
    back afterwards; statistics of what they became are `trace.gradients`.

    Args:
        backward: also differentiate the output: its `loss`, or the scalar it is, or the sum of its floating tensors.
        attention: have the weights of every head, `trace.attention(layer)`. Our layers get the reference kernel for it;
            of other models, the weights are computed beside each fused call.
        keep: activations to keep, by name or pattern, such as "blocks.*.attention.weights"; see `activation_names`.
        statistics: without them a run is faster.
        raises: raise what the model raises; else the trace says it, `trace.error`.

    Raises:
        ValueError: for names in `keep` that the model has not; TypeError for what is no module.
    """
    model = getattr(model, "_orig_mod", model)  # of a compiled model, the one that was compiled
    if not isinstance(model, nn.Module):
        raise TypeError(f"xray looks into an nn.Module, and this is a {type(model).__name__}")
    names = resolve(keep, activation_names(model)) if keep else []
    weights = AttentionWeights(dict(model.named_modules()))
    kept: dict[str, Tensor] = {}

    def on_module(module: nn.Module, call: ModuleCall, outputs: list[Tensor]) -> None:
        if attention:
            weights.module(call, outputs)
        if call.path in names and outputs:
            kept[call.path] = outputs[0].detach().clone()

    recorder = Recorder(
        model, statistics=statistics, on_module=on_module, on_operation=weights.operation if attention else None
    )
    if any(name.endswith(".input") for name in names):
        recorder.on_input = lambda path, first: _keep_input(kept, names, path, first)
    trace = Trace(recorder.root, tensors=kept, weights=weights.found)
    with ExitStack() as stack:
        if attention or any(name.endswith(".weights") for name in names):
            stack.enter_context(_weights_formed(model))
        if backward:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(_own_gradients(model, trace.gradients, statistics))
        try:
            recording(recorder, lambda: _run(recorder, trace, model, inputs, kwargs, backward))
        except Exception as error:
            if raises:
                raise
            failed = next((op for op in reversed(list(recorder.root.operations())) if op.error is not None), None)
            _mark(recorder.root)
            trace.error = failure_of(error, model, failed if failed and failed.error == str(error) else None)
    missing = [name for name in names if name not in kept]
    if missing and trace.error is None:
        raise ValueError(f"{missing[0]!r} recorded nothing: this run did not call it, or it gave no tensor")
    return trace


def _run(recorder: Recorder, trace: Trace, model: nn.Module, inputs: Any, kwargs: Any, backward: bool) -> None:
    out = model(*inputs, **kwargs)
    trace.output = list(out) if isinstance(out, GeneratorType) else out
    if not backward:
        return
    loss, trace.objective = _objective(trace.output)
    recorder.backward = True
    loss.backward()


def _objective(output: Any) -> tuple[Tensor, str]:
    """What is differentiated, and its name."""
    loss = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if isinstance(loss, Tensor) and loss.requires_grad:
        return (loss if loss.ndim == 0 else loss.sum()), "the loss"
    found = [tensor for tensor in tensors_in(output) if tensor.requires_grad]
    if not found:
        raise ValueError("the output depends on no parameter that asks for a gradient; there is no backward pass")
    if len(found) == 1 and found[0].ndim == 0:
        return found[0], "the output"
    return sum((tensor.sum() for tensor in found[1:]), found[0].sum()), "the sum of the output"


def _mark(call: ModuleCall) -> None:
    """Mark the calls that were not finished: each is the last thing its parent did."""
    call.failed = True
    if call.items and isinstance(call.items[-1], ModuleCall) and not call.items[-1].outputs:
        _mark(call.items[-1])


@contextmanager
def _weights_formed(model: nn.Module) -> Iterator[None]:
    """While entered, no kernel of ours hides the weights, and torch.nn's own layers run operator by operator."""
    ours = any(isinstance(module, Attention | LatentAttention) for module in model.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        if ours:
            stack.enter_context(kernels(model, attend="reference"))
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


def _keep_input(kept: dict[str, Tensor], names: Sequence[str], path: str, first: Tensor) -> None:
    if f"{path}.input" in names:
        kept[f"{path}.input"] = first.detach().clone()
