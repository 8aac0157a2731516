"""Machines by their published figures, and the one that this runs on by what was measured."""

from dataclasses import dataclass
from typing import Any

import torch

from glassformer.foundation.suggest import did_you_mean
from glassformer.ops.machine import machine

THIS = "this"


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """One processor. Rates are per second, dense (no sparsity), the most that the maker promises.

    flops: dtype -> operations; memory_bytes, memory_rate: its memory and how fast it is read; link_rate: bytes a
    second to and from the processors of the same machine, both ways together; network_rate: to other machines, one way,
    by its own adapter; source: where the figures stand.
    """

    name: str
    flops: dict[str, float]
    memory_bytes: float
    memory_rate: float
    link_rate: float
    network_rate: float
    per_node: int
    source: str

    def peak(self, dtype: torch.dtype) -> float:
        """FLOPs a second in `dtype`. Raises ValueError where no figure is known."""
        name = str(dtype).removeprefix("torch.")
        if name not in self.flops:
            raise ValueError(f"{self.name} has no figure for {name}, only for {', '.join(self.flops)}")
        return self.flops[name]

    def seconds(self, flops: float, moved: float, dtype: torch.dtype) -> float:
        """The roofline (Williams, Waterman & Patterson 2009): max(FLOPs / peak, bytes / bandwidth)."""
        return max(flops / self.peak(dtype), moved / self.memory_rate)


# float32 is what PyTorch computes float32 products in by default: outside the tensor cores.
HARDWARE = {
    "a100": Hardware(
        name="NVIDIA A100 SXM 80 GB", flops={"float32": 19.5e12, "bfloat16": 312e12, "float16": 312e12},
        memory_bytes=80e9, memory_rate=2039e9, link_rate=600e9, network_rate=25e9, per_node=8,
        source="NVIDIA A100 Tensor Core GPU datasheet (2021), table of specifications, SXM 80 GB; "
               "network of a DGX A100: 200 Gb/s a GPU",
    ),
    "h100": Hardware(
        name="NVIDIA H100 SXM", flops={"float32": 67e12, "bfloat16": 989.5e12, "float16": 989.5e12},
        memory_bytes=80e9, memory_rate=3.35e12, link_rate=900e9, network_rate=50e9, per_node=8,
        source="NVIDIA H100 Tensor Core GPU datasheet (2023), SXM5; its tensor figures are with sparsity, halved here; "
               "network of a DGX H100: 400 Gb/s a GPU",
    ),
    "h200": Hardware(
        name="NVIDIA H200 SXM", flops={"float32": 67e12, "bfloat16": 989.5e12, "float16": 989.5e12},
        memory_bytes=141e9, memory_rate=4.8e12, link_rate=900e9, network_rate=50e9, per_node=8,
        source="NVIDIA H200 Tensor Core GPU datasheet (2024), SXM; its tensor figures are with sparsity, halved here; "
               "network of a DGX H200: 400 Gb/s a GPU",
    ),
    "rtx4090": Hardware(
        name="NVIDIA GeForce RTX 4090", flops={"float32": 82.6e12, "bfloat16": 165.2e12, "float16": 165.2e12},
        memory_bytes=24e9, memory_rate=1008e9, link_rate=64e9, network_rate=12.5e9, per_node=8,
        source="NVIDIA Ada GPU Architecture whitepaper (2023), appendix A: 16-bit tensor products that are summed in "
               "float32, dense; its link is PCI Express 4.0 x16, and a "
               "100 Gb/s network is assumed",
    ),
}  # fmt: skip
"""Name -> published figures, decimal units as in the sources."""


def hardware(name: str) -> Hardware:
    """The machine of a name; "this" is the CPU here, as `glassformer.ops.machine` measured it.

    Raises ValueError for a name that is not known, with the nearest that is.
    """
    key = name.lower().replace(" ", "").replace("-", "").replace("_", "")
    if key == THIS:
        return this_machine()
    if key not in HARDWARE:
        raise ValueError(f"there is no machine {name!r}{did_you_mean(key, [*HARDWARE, THIS])}")
    return HARDWARE[key]


def this_machine() -> Hardware:
    """The CPU here: its fastest measured product in each dtype, and the rate at which it reads memory."""
    record: Any = machine()
    names = {kind.split(" ")[0] for kind in record.gflops}
    peaks = {name: 1e9 * max(gflops for kind, gflops in record.gflops.items() if kind.startswith(f"{name} "))
             for name in sorted(names)}  # fmt: skip
    rate = record.memory_gb_per_s * 1e9
    return Hardware(
        name=record.cpu, flops=peaks, memory_bytes=_memory_bytes(), memory_rate=rate, link_rate=rate,
        network_rate=rate, per_node=1,
        source=f"measured here on {record.threads} threads by glassformer.ops.machine",
    )  # fmt: skip


def _memory_bytes() -> float:
    """The memory of this machine; infinite where the system does not say."""
    import os

    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return float("inf")
