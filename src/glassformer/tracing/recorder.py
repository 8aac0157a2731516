"""Writes down every operator that runs, in the call of the module that ran it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    _global_forward_hooks_with_kwargs,
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from glassformer.tracing.flops import flops_of
from glassformer.tracing.keeper import Keeper
from glassformer.tracing.memory import MemoryCounter
from glassformer.tracing.modules import modules_of
from glassformer.tracing.source import SourceLine, calling_line
from glassformer.tracing.statistics import statistics_of
from glassformer.tracing.tree import ModuleCall, Operation
from glassformer.tracing.values import info, is_plain, num_bytes, tensors_in

READ_NOTHING = ("empty", "zeros", "ones", "full", "fill", "zero_", "bernoulli_", "normal_", "uniform_", "random_",
                "arange", "new_", "scalar_tensor", "eye", "linspace", "rand", "native_dropout_mask")  # fmt: skip
READ_WHAT_THEY_PICK = frozenset(f"aten::{name}" for name in ("embedding", "index", "index_select", "gather"))


class Recorder(TorchDispatchMode):
    """While entered (by `recording`), what runs in this thread is written into `root`.

    Modules are followed by PyTorch's hooks for all modules, so none is touched; operators by a dispatch mode, which
    sees what really runs: below autograd and autocast, each operator made of others taken apart.
    """

    def __init__(self, model: nn.Module, keeper: Keeper, *, statistics: bool) -> None:
        super().__init__()
        self.model, self.keeper, self.statistics = model, keeper, statistics
        modules = modules_of(model)
        self.names = {id(module): name for name, module in modules.items()}
        self.root = ModuleCall("", type(model).__name__, num_parameters=sum(p.numel() for p in model.parameters()))
        self.memory = MemoryCounter(model)
        self.backward = False  # set once the forward pass has ended
        self._failed: Operation | None = None
        self._stack: list[ModuleCall] = []
        self._modules: list[nn.Module] = []
        self._counts: dict[int, int] = {}
        self._thread = threading.get_ident()
        self._first = torch.autograd._get_sequence_nr()  # pyright: ignore
        self._owner_of = {
            id(parameter): name for name, module in modules.items() for parameter in module.parameters(recurse=False)
        }
        self._made_by: dict[int, tuple[ModuleCall, Operation]] = {}  # by the autograd node's sequence number
        self._last_call: dict[str, ModuleCall] = {"": self.root}

    def enter_module(self, module: nn.Module, args: Any) -> None:
        """Before each module's forward."""
        if threading.get_ident() != self._thread:
            return
        if module is self.model and not self._stack and id(module) not in self._counts:
            call = self.root
        else:
            parent = self._stack[-1] if self._stack else self.root
            own = getattr(module, "name", None)  # as Keras has it
            unnamed = own if isinstance(own, str) else f"({type(module).__name__})"
            name = self.names.get(id(module), f"{parent.path}.{unnamed}".lstrip("."))
            count = self._counts.get(id(module), 0)
            weights = sum(p.numel() for p in module.parameters())
            call = ModuleCall(name, type(module).__name__, call=count, num_parameters=weights)
            parent.items.append(call)
        self._counts[id(module)] = self._counts.get(id(module), 0) + 1
        self._given(call, args)
        self._last_call[call.path] = call
        self._stack.append(call)
        self._modules.append(module)

    def _given(self, call: ModuleCall, arguments: Any) -> None:
        found = list(tensors_in(arguments))
        if found and not call.inputs:
            with _unseen():
                call.inputs = tuple(info(tensor) for tensor in found)
                self.keeper.given(call, found)

    def leave_module(self, module: nn.Module, args: Any, *rest: Any) -> None:
        """After each module's forward, with keyword arguments and the result; without them where it failed."""
        if threading.get_ident() != self._thread or not any(module is each for each in self._modules):
            return
        while self._modules.pop() is not module:
            self._stack.pop()
        call, *kwargs, out = self._stack.pop(), *rest
        call.failed = not kwargs
        self._given(call, (args, kwargs))
        found = list(tensors_in(out))
        with _unseen():
            call.outputs = tuple(info(tensor) for tensor in found)
            if self.statistics and found:
                call.statistics = statistics_of(found[0])
            self.keeper.gave(call, found)

    def failed_by(self, error: BaseException) -> Operation | None:
        """The operator that this error came from, if it came from one."""
        return self._failed if self._failed is not None and self._failed.error == str(error) else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_made_of_others(func):  # inference mode sends these whole
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        inputs = list(tensors_in((args, kwargs)))
        call, maker = self._belongs_to()
        operation = Operation(
            _readable(func), call.path, tuple(info(tensor) for tensor in inputs), is_backward=self.backward,
            source=self._source(maker), backward_of=_function_of_node() if self.backward else None,
        )  # fmt: skip
        (call.backward if self.backward else call.items).append(operation)
        self.memory.inputs(inputs)
        operation.parameters = self._parameters(inputs)
        _wait(inputs)
        start = time.perf_counter_ns()
        try:
            out = func(*args, **kwargs)
        except Exception as error:
            operation.error, self._failed = str(error), operation
            raise
        _wait(inputs)
        operation.seconds = (time.perf_counter_ns() - start) / 1e9
        self._finish(operation, func, args, kwargs, inputs, out)
        number = torch.autograd._get_sequence_nr() - 1  # pyright: ignore
        if not self.backward and number >= self._first:  # below it are nodes of what ran before
            self._made_by.setdefault(number, (call, operation))
        return out

    def _finish(self, operation: Operation, func: Any, args: Any, kwargs: Any, inputs: list[Tensor], out: Any) -> None:
        """What can be said once the operator has run; its time is taken already."""
        name, outputs = func._schema.name, list(tensors_in(out))
        arguments = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        operation.outputs = tuple(info(tensor) for tensor in outputs)
        operation.is_view = is_view(func, inputs, outputs)
        operation.flops = flops_of(name, arguments, out)
        self.memory.outputs(outputs)
        self.memory.derived(name, inputs, outputs)
        operation.live = self.memory.live
        if not operation.is_view:
            operation.read, operation.written = traffic(name, inputs, outputs)
            if self.statistics and outputs and not name.startswith(("aten::empty", "aten::new_empty")):
                operation.statistics = statistics_of(outputs[0])
        self.keeper.ran(operation, name, arguments, out)

    def _belongs_to(self) -> tuple[ModuleCall, Operation | None]:
        """The call that an operator is written into; in a backward pass, that of the operator whose gradient it is."""
        if self._stack:
            return self._stack[-1], None  # a forward pass, or one that is made again during the backward pass
        if not self.backward:
            return self.root, None
        node = torch._C._current_autograd_node()
        if node is None:
            return self.root, None
        variable = getattr(node, "variable", None)  # a leaf, where its gradient is added up
        if variable is not None:
            path = self._owner_of.get(id(variable), "")
            while path not in self._last_call:  # a module that is never called holds a weight for the one above it
                path = path.rpartition(".")[0]
            return self._last_call[path], None
        return self._made_by.get(node._sequence_nr(), (self.root, None))

    def _source(self, maker: Operation | None) -> SourceLine | None:
        """The line that called; of a gradient without one, the line of the forward pass."""
        found = calling_line(recording_code)
        if maker is None or (found is not None and found.function == "backward"):  # of an autograd.Function
            return found
        return maker.source

    def _parameters(self, inputs: list[Tensor]) -> tuple[str, ...]:
        """The parameters among the inputs; for a packed weight, those of the module whose sizes it has."""
        names = self.memory.parameters(inputs)
        packed = [tensor for tensor in inputs if tensor.is_mkldnn]
        if not packed or not self._modules or any("weight" in name for name in names):
            return names
        path = self.names.get(id(self._modules[-1]), "")
        rows, found = 0, []
        for name, parameter in self._modules[-1].named_parameters():
            if parameter.ndim == 2 and packed[0].ndim == 2 and parameter.shape[1] == packed[0].shape[1]:
                if rows < packed[0].shape[0]:
                    rows += parameter.shape[0]
                    found.append(f"{path}.{name}".lstrip("."))
        return (*names, *found) if rows == packed[0].shape[0] else names


def traffic(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> tuple[int, int]:
    """Bytes read and written: each input once, each output once; a table's rows where only some are picked."""
    short = name.rpartition("::")[2]
    written = sum(num_bytes(tensor) for tensor in outputs)
    if short.startswith(("empty", "new_empty")):
        return 0, 0
    if short.startswith(READ_NOTHING) or short.endswith("_like"):
        return 0, written
    if name in READ_WHAT_THEY_PICK:
        return written + sum(num_bytes(tensor) for tensor in inputs[1:]), written
    return sum(num_bytes(tensor) for tensor in inputs), written


def is_view(func: Any, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Whether an operator only looks at memory differently: what comes out lies where something that went in lies."""
    if func._schema.is_mutable or not outputs:
        return False
    held = {tensor.untyped_storage()._cdata for tensor in inputs if is_plain(tensor)}
    return all(is_plain(tensor) and tensor.untyped_storage()._cdata in held for tensor in outputs)


@contextmanager
def _unseen() -> Iterator[None]:
    """Operators of our own are not recorded."""
    with _disable_current_modes(), torch.no_grad():
        yield


def _wait(tensors: list[Tensor]) -> None:
    """An accelerator works behind our back: its time is known when it has finished."""
    if any(tensor.is_cuda for tensor in tensors):
        torch.cuda.synchronize()


def _is_made_of_others(func: Any) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def _readable(func: Any) -> str:
    """`aten.addmm` for `aten::addmm.default`."""
    return func._schema.name.replace("::", ".")


def _function_of_node() -> str | None:
    """The function whose gradient is being computed, as autograd names it: `AddmmBackward0`."""
    node = torch._C._current_autograd_node()
    return None if node is None else node.name().rpartition("::")[2]


def recording(recorder: Recorder, run: Callable[[], Any]) -> Any:
    """The result of `run`, whose operators and modules are written down."""
    handles = (
        register_module_forward_pre_hook(recorder.enter_module),
        register_module_forward_hook(recorder.leave_module, with_kwargs=True, always_call=True),
    )
    try:
        with recorder:
            return run()
    finally:
        for handle in handles:
            handle.remove()
            _global_forward_hooks_with_kwargs.pop(handle.id, None)  # which PyTorch forgets


recording_code = recording.__code__
