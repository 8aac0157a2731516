"""Tensors inside whatever goes into a module and comes out of it, and what is said of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

SHORT = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "int64": "i64", "int32": "i32",
         "int16": "i16", "int8": "i8", "uint8": "u8", "bool": "bool"}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype (without `torch.`) of one tensor."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        *kind, dtype = self.dtype.split()
        return " ".join([*kind, f"{SHORT.get(dtype, dtype)}{shape_text(self.shape)}"])


def shape_text(shape: tuple[int, ...]) -> str:
    """`(2, 7)`; `(7)` and not `(7,)`."""
    return f"({', '.join(map(str, shape))})"


def info(tensor: Tensor) -> TensorInfo:
    """What is said of a tensor; of one whose rows are of unequal lengths, the longest."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_nested and tensor.layout is torch.strided:
        sizes = tensor._nested_tensor_size()
        return TensorInfo((len(sizes), *sizes.amax(0).tolist()), f"nested {dtype}")
    return TensorInfo(tuple(int(size) if isinstance(size, int) else -1 for size in tensor.shape), dtype)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of a value in order: in mappings, sequences and dataclasses, however deep; other things hold none."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors_in(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from tensors_in(inner)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name, None))


def is_plain(tensor: Tensor) -> bool:
    """Whether its memory can be looked at: strided, and not of a device without memory."""
    usual = tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized
    return usual and tensor.device.type != "meta"


def num_bytes(tensor: Tensor) -> int:
    """Bytes of the distinct elements: what an `expand` repeats lies in memory once."""
    if not is_plain(tensor):
        return tensor.numel() * tensor.element_size() if tensor.layout is not torch.sparse_coo else 0
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride or not size else 1
    return count * tensor.element_size()
