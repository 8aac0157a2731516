"""What a recorder is told to keep beside numbers: activations by name, attention weights."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from glassformer.tracing.decompose import AttentionWeights
from glassformer.tracing.modules import modules_of
from glassformer.tracing.tree import ModuleCall, Operation


class Keeper:
    """Copies of the activations `names`, without gradients, and where `attention` is asked for, its weights.

    Of several calls of a module the last counts, of several tensors the first.
    """

    def __init__(self, model: nn.Module, names: Sequence[str] = (), *, attention: bool = False) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.weights = AttentionWeights(modules_of(model))
        self._names, self._attention = frozenset(names), attention

    @property
    def wants_weights(self) -> bool:
        """Whether one of the names is that of attention weights."""
        return any(name.endswith(".weights") for name in self._names)

    def given(self, call: ModuleCall, tensors: Sequence[Tensor]) -> None:
        """What a module is called with."""
        self._keep(f"{call.path}.input", tensors)

    def gave(self, call: ModuleCall, tensors: Sequence[Tensor]) -> None:
        """What a module returned."""
        self._keep(call.path, tensors)
        if self._attention:
            self.weights.module(call, tensors)

    def ran(self, operation: Operation, name: str, arguments: Mapping[str, Any], out: Any) -> None:
        """What an operator computed."""
        if self._attention:
            self.weights.operation(operation, name, arguments, out)

    def _keep(self, name: str, tensors: Sequence[Tensor]) -> None:
        if name in self._names and tensors:
            self.tensors[name] = tensors[0].detach().clone()
