"""What a forward pass leaves behind for the backward pass."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.tracing.values import TensorInfo, info, is_plain, num_bytes


@dataclass(frozen=True)
class SavedTensor:
    """One memory that autograd keeps: the tensor by which it is known first, and its bytes."""

    tensor: TensorInfo
    bytes: int

    def __str__(self) -> str:
        return f"{self.tensor!s:24} {self.bytes:12,} B"


def saved_for_backward(model: nn.Module, *inputs: Any, **kwargs: Any) -> list[SavedTensor]:
    """What autograd keeps of `model(*inputs, **kwargs)`, in the order in which it asks for it.

    Each memory counts once, however many operators keep it or a view of it, and whole, as it stays alive whole. The
    parameters are there anyway and are left out; inputs count. Under `torch.no_grad()` nothing is kept.
    """
    own = {_memory(parameter) for parameter in model.parameters()}
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if (key := _memory(tensor)) not in own:
            found.setdefault(key, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _output = model(*inputs, **kwargs)  # held until all is counted: memory that is freed is used again
    return [SavedTensor(info(tensor), _bytes(tensor)) for tensor in found.values()]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if is_plain(tensor) else id(tensor)


def _bytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() if is_plain(tensor) else num_bytes(tensor)
