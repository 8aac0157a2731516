"""How many bytes of tensors are alive, by their storages, and which parameters a tensor is made of."""

import weakref
from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import Tensor, nn

from glassformer.tracing.values import is_plain

COPIES = frozenset(f"aten::{name}" for name in ("cat", "_to_copy", "clone", "contiguous", "stack", "detach"))
PACKS = frozenset(("mkldnn::_reorder_linear_weight", "aten::to_mkldnn", "aten::_convert_weight_to_int4pack_for_cpu"))


class MemoryCounter:
    """Counts the bytes of storages that came into being while it watched, until they are freed.

    What was there before (parameters, inputs, caches) counts as 0, and so does room that an operator takes and gives
    back within its call.
    """

    def __init__(self, model: nn.Module) -> None:
        self.live = 0
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._made_of: dict[int, tuple[str, ...]] = {}
        for name, parameter in model.named_parameters():
            self._notice(parameter, counted=False)
            if (key := _key(parameter)) is not None:
                self._made_of[key] = (name,)

    def inputs(self, tensors: Iterable[Tensor]) -> None:
        """Tensors that are read: those never seen were there before."""
        for tensor in tensors:
            self._notice(tensor, counted=False)

    def outputs(self, tensors: Iterable[Tensor]) -> None:
        """Tensors that were made: their storages count unless they are views of what is known."""
        for tensor in tensors:
            self._notice(tensor, counted=True)

    def parameters(self, tensors: Iterable[Tensor]) -> tuple[str, ...]:
        """The names of the parameters that these tensors are, view, or are copies of."""
        found = [name for tensor in tensors for name in self._made_of.get(_key(tensor) or 0, ())]
        return tuple(dict.fromkeys(found))

    def derived(self, operator: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """A copy made of parameters alone stands for them, as a stacked, converted or packed weight does."""
        if operator not in COPIES and operator not in PACKS:
            return
        names = [self._made_of.get(_key(tensor) or 0) for tensor in inputs]
        if names and all(names):
            for tensor in outputs:
                if (key := _key(tensor)) is not None:
                    self._made_of[key] = tuple(name for each in names if each for name in each)

    def _notice(self, tensor: Tensor, *, counted: bool) -> None:
        key = _key(tensor)
        if key is None or key in self._watched:
            return
        memory: Any = tensor.untyped_storage() if is_plain(tensor) else tensor
        size = memory.nbytes() if is_plain(tensor) and counted else 0
        self.live += size
        # Kept here and not by a finalizer, which would keep this object as long as the model lives.
        self._watched[key] = weakref.ref(memory, partial(self._forget, key, size))

    def _forget(self, key: int, size: int, _gone: Any) -> None:
        self._watched.pop(key, None)
        self._made_of.pop(key, None)
        self.live -= size


def _key(tensor: Tensor) -> int | None:
    """What tells one memory from another: the storage, or of an opaque tensor itself; None where there is none."""
    if tensor.device.type == "meta":
        return None
    try:
        return tensor.untyped_storage()._cdata if is_plain(tensor) else id(tensor)
    except (RuntimeError, NotImplementedError):
        return None
