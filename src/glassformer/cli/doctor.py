"""`glassformer doctor`"""

import json
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """What this machine has: hardware, measured speeds, which kernels work, which extras are installed."""

    json: bool = False
    """print JSON"""
    measure: bool = False
    """measure the speeds anew; otherwise what was measured once is shown"""


def run(options: Doctor, _: list[str]) -> int:
    """Print the findings; 1 where a kernel that everything rests on does not work."""
    found = {
        "machine": machine_facts(options.measure),
        "kernels": {
            kind: {name: outcome(trial) for name, trial in trials.items()} for kind, trials in kernels().items()
        },
        "extras": extras(),
        "cache": cache(),
    }
    print(json.dumps(found, indent=2)) if options.json else show(found)
    return int(any(found["kernels"][kind]["reference"] != "works" for kind in found["kernels"]))


def machine_facts(anew: bool) -> dict[str, Any]:
    """Versions, processors, memory, and the speeds that choose kernels."""
    import torch

    import glassformer
    from glassformer.ops.machine import machine, measure
    from glassformer.ops.threads import waiting

    record = measure() if anew else machine()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "glassformer": glassformer.__version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "memory_gb": memory_gb(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **asdict(record),
        "threads_wait": waiting(),
        "linear_kernels": record.kernels,
    }


def memory_gb() -> float | None:
    """The machine's memory, where the system says."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)


def kernels() -> dict[str, dict[str, Callable[[], None]]]:
    """Each kernel with a trial that uses it on small tensors and holds it to the reference."""
    import torch

    from glassformer.ops.attend import ATTEND
    from glassformer.ops.cross_entropy import CROSS_ENTROPY
    from glassformer.ops.linear import LINEAR
    from glassformer.ops.mask import Mask
    from glassformer.parts import Linear

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    def hold(kind: dict[str, Any], name: str, call: Callable[[Any], Any], tolerance: float) -> Callable[[], None]:
        def trial() -> None:
            with torch.inference_mode():
                expected, given = call(kind["reference"]), call(kind[name])
                error = ((given - expected).abs().max() / expected.abs().max()).item()
            if not error <= tolerance:
                raise ArithmeticError(f"differs from the reference by {error:.1e}; {tolerance:.0e} is allowed")

        return trial

    q, k, v = normal(2, 4, 32, 32), normal(2, 2, 32, 32), normal(2, 2, 32, 32)
    x, weight, bias = normal(4, 128), normal(64, 128), normal(64)
    head, targets = Linear(128, 64, bias=False), torch.arange(4)

    def attend(kernel: Any) -> torch.Tensor:
        return kernel(q, k, v, mask=Mask.causal(), score_bias=None, scale=32**-0.5, dropout=0.0)[0]

    rough = {"bfloat16": 0.02, "int8": 0.03, "int4": 0.3}
    return {
        "attend": {name: hold(ATTEND, name, attend, 1e-5) for name in ATTEND},
        "linear": {
            name: hold(LINEAR, name, lambda make: make()(x, weight, bias), rough.get(name, 1e-5)) for name in LINEAR
        },
        "cross_entropy": {
            name: hold(CROSS_ENTROPY, name, lambda kernel: kernel(x, head, targets)[0], 1e-5) for name in CROSS_ENTROPY
        },
    }


def outcome(trial: Callable[[], None]) -> str:
    """`works`, or the first line of why it does not: the trial is there to find out, so nothing is let through."""
    try:
        trial()
    except Exception as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "works"


def extras() -> dict[str, dict[str, str | None]]:
    """Extra -> package -> its version, None where it is not installed."""
    found: dict[str, dict[str, str | None]] = {}
    for requirement in metadata.requires("glassformer") or []:
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        package = re.match(r"[\w.-]+", requirement)
        if extra is None or package is None or extra[1] == "dev":
            continue
        try:
            version = metadata.version(package[0])
        except metadata.PackageNotFoundError:
            version = None
        found.setdefault(extra[1], {})[package[0]] = version
    return found


def cache() -> dict[str, Any]:
    """Where downloads, encodings and measurements are kept, and how large that has become."""
    from glassformer.ops.machine import cache_file

    folder = cache_file().parent
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    above = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    size = sum(path.stat().st_size for path in files)
    return {"folder": str(folder), "files": len(files), "megabytes": size / 1e6, "writable": os.access(above, os.W_OK)}


def show(found: dict[str, Any]) -> None:
    """The findings as tables."""
    from rich.console import Console
    from rich.table import Table

    console, facts = Console(highlight=False), found["machine"]
    table = Table(title="machine", title_justify="left", show_header=False)
    table.add_row("glassformer", facts["glassformer"])
    table.add_row("python", facts["python"])
    table.add_row("torch", f"{facts['torch_version']}, {facts['threads']} threads")
    table.add_row("its threads wait", facts["threads_wait"])
    table.add_row("system", facts["system"])
    table.add_row("processor", f"{facts['cpu']}, {facts['usable_cores']} of {facts['cores']} cores usable")
    table.add_row("its flags", " ".join(facts["flags"]))
    table.add_row("memory", "unknown" if facts["memory_gb"] is None else f"{facts['memory_gb']} GB")
    table.add_row("GPUs", ", ".join(facts["gpus"]) or "none that torch sees")
    table.add_row("memory speed", f"{facts['memory_gb_per_s']:.0f} GB/s")
    for name, speed in facts["gflops"].items():
        table.add_row(f"products, {name}", f"{speed:,.0f} GFLOP/s")
    for dtype, cases in facts["linear_kernels"].items():
        table.add_row(f"'measured' in {dtype}", ", ".join(f"{case}: {kernel}" for case, kernel in cases.items()))
    screened = "most logits are not computed" if facts["int8_pays"] else "all logits are computed"
    table.add_row("greedy, in float32", screened)
    for note in facts["notes"]:
        table.add_row("note", note)
    console.print(table)
    table = Table("kind", "kernel", "state", title="kernels, each tried", title_justify="left")
    for kind, states in found["kernels"].items():
        for name, state in states.items():
            table.add_row(kind, name, f"[green]{state}[/]" if state == "works" else f"[red]{state}[/]")
    console.print(table)
    table = Table("extra", "packages", title="extras: pip install 'glassformer\\[EXTRA]'", title_justify="left")
    for extra, packages in found["extras"].items():
        each = (
            f"{name} {version}" if version else f"[red]{name} is not installed[/]" for name, version in packages.items()
        )
        table.add_row(extra, ", ".join(each))
    console.print(table)
    where = found["cache"]
    console.print(f"cache: {where['folder']}, {where['files']} files, {where['megabytes']:.1f} MB"
                  + ("" if where["writable"] else ", [red]not writable[/]"))  # fmt: skip
