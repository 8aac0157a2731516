"""Sends PyTorch's own float32 matrix products on the CPU to oneDNN for as long as one asks.

    with onednn_matmul:
        scores = q @ k.transpose(-1, -2)

For operands that have to be transposed this is the fastest way there is: oneDNN reads them where they lie.
"""

from functools import cache
from threading import Lock
from typing import Any

import torch


class Switch:
    """While entered, torch.mm and torch.bmm in float32 go to oneDNN. Counted, so that threads may enter together.

    The switch is PyTorch's `fp32_precision = "bf16"` of oneDNN's matmul, which permits bfloat16 arithmetic; oneDNN has
    such a kernel only for CPUs with AMX and elsewhere computes in IEEE float32: ask `onednn_matmul_is_exact` first. It
    is not left on, because PyTorch's CPU attention is several times slower under it.
    """

    def __init__(self) -> None:
        self._lock, self._depth, self._before = Lock(), 0, "none"
        self._matmul: Any = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                self._before = self._matmul.fp32_precision
                self._matmul.fp32_precision = "bf16"
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._matmul.fp32_precision = self._before


onednn_matmul = Switch()


@cache
def onednn_matmul_is_exact() -> bool:
    """Whether the switch leaves float32 products exact: an x86 CPU without AMX, and a product that shows it."""
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX") or amx is None or amx():
        return False
    one_and_a_bit = torch.full((64, 64), 1 + 2.0**-12)  # bfloat16 would round it to 1
    with onednn_matmul:
        return bool(((one_and_a_bit @ torch.eye(64)) == one_and_a_bit).all())
