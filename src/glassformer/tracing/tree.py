"""What an x-ray writes down: calls of modules, one inside another, and in each the operations in order."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from glassformer.tracing.source import SourceLine
from glassformer.tracing.statistics import Statistics
from glassformer.tracing.values import TensorInfo


@dataclass
class Operation:
    """One call of an operator.

    name         the operator, as `aten.addmm`
    module       the path of the module it belongs to
    flops        of products (see flops.py)
    read, written   bytes; a view reads and writes none
    seconds      of the call alone
    live         bytes of the tensors made in this run that are alive after it
    statistics   of its first output, or None
    parameters   names of the parameters it reads, itself or by a view or copy of them
    backward_of  in a backward pass, the operator (or function) whose gradient it helps to compute
    error        what it failed with
    """

    name: str
    module: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...] = ()
    flops: int = 0
    read: int = 0
    written: int = 0
    seconds: float = 0.0
    live: int = 0
    statistics: Statistics | None = None
    parameters: tuple[str, ...] = ()
    source: SourceLine | None = None
    is_view: bool = False
    is_backward: bool = False
    backward_of: str | None = None
    error: str | None = None


@dataclass
class ModuleCall:
    """One call of a module: what went in and came out, its operations in order, its part of the backward pass.

    `path` is its name in the model (empty for the model itself), `call` counts calls of the same module from 0.
    The numbers below are sums (and the peak a maximum) over everything inside.
    """

    path: str
    kind: str
    call: int = 0
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    num_parameters: int = 0
    items: "list[Operation | ModuleCall]" = field(default_factory=list)
    backward: list[Operation] = field(default_factory=list)
    statistics: Statistics | None = None
    failed: bool = False

    @property
    def name(self) -> str:
        """The last part of the path; the class for the model itself."""
        return self.path.rpartition(".")[2] or self.kind

    @property
    def children(self) -> "list[ModuleCall]":
        return [item for item in self.items if isinstance(item, ModuleCall)]

    def calls(self) -> "Iterator[ModuleCall]":
        """This call and those inside it, outermost first."""
        yield self
        for child in self.children:
            yield from child.calls()

    def operations(self) -> Iterator[Operation]:
        """All operations inside: forward in order; those of the backward pass behind them."""
        yield from self.forward_operations()
        for call in self.calls():
            yield from call.backward

    def forward_operations(self) -> Iterator[Operation]:
        """All operations of the forward pass inside, in order."""
        for item in self.items:
            if isinstance(item, ModuleCall):
                yield from item.forward_operations()
            else:
                yield item

    def total(self, what: str) -> Any:
        """The sum of `seconds`, `flops`, `read` or `written` over all operations inside."""
        return sum(getattr(operation, what) for operation in self.operations())

    @property
    def seconds(self) -> float:
        return self.total("seconds")

    @property
    def flops(self) -> int:
        return self.total("flops")

    @property
    def peak(self) -> int:
        return max((operation.live for operation in self.operations()), default=0)
