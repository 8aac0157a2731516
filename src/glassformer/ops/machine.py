"""What this machine is good at: measured once, kept in a small file, shown by `glassformer doctor`.

The file is `machine.json` in `$GLASSFORMER_CACHE`, else `$XDG_CACHE_HOME/glassformer`, else `~/.cache/glassformer`.
It holds one record per machine, told apart by the CPU's name and flags, PyTorch's version and the number of threads;
another machine, another PyTorch or a file that cannot be read is measured anew, which takes about a second.
Nothing is measured at import, nor for a tensor that is not on the CPU.
"""

import ctypes
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F

from glassformer.foundation.atomic import atomic_file, cache_folder
from glassformer.foundation.processors import processor_seconds
from glassformer.ops.linear_onednn import OneDNN, missing
from glassformer.ops.linear_switch import onednn_matmul, onednn_matmul_is_exact

Case = Literal["one row", "few rows", "many rows", "training"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FEW = 16  # rows: the beams of a search, a small batch that is decoded
# rows, in, out of a product that is all call and of one that is all work. One row: a weight as large as the caches.
SIZES: dict[Case, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "one row": ((1, 16, 16), (1, 1024, 8192)),
    "few rows": ((4, 16, 16), (4, 512, 1024)),
    "many rows": ((8, 16, 16), (64, 768, 3072)),
    "training": ((8, 16, 16), (512, 256, 1024)),
}
FORMAT = 5
# Of one row, in between: 48 weights that take turns are in no cache, as in a large model; one weight alone is in one.
MIDDLE, WEIGHTS = (1, 512, 512), 48
CROWDED = 0.15  # of the machine in the hands of others: what is measured then may choose wrongly
CROWDED_FOR = 600.0  # seconds after which a crowded record is measured anew
RELEVANT = ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni", "amx_tile",
            "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm", "sve", "sve2")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine's record.

    gflops: of a 512 × 1024 × 1024 product, by "float32 reference", "float32 onednn", "bfloat16 reference", ...
    memory_gb_per_s: reading 128 MB once.
    int8_pays: whether a row is multiplied faster by a weight in int8 than by the same in float32.
    onednn_pays_from: dtype -> case -> the number of multiply-adds from which oneDNN is faster (inf: never).
    notes: what could not be measured or kept, in sentences.
    others: the share of the machine that other processes took meanwhile; a crowded record is soon measured anew.
    measured_at: seconds since 1970.
    """

    cpu: str
    cores: int
    threads: int
    flags: tuple[str, ...]
    torch_version: str
    gflops: dict[str, float]
    memory_gb_per_s: float
    onednn_pays_from: dict[str, dict[str, float]]
    int8_pays: bool
    notes: tuple[str, ...] = ()
    others: float = 0.0
    measured_at: float = 0.0

    @property
    def is_stale(self) -> bool:
        """True where other processes were in the way, and some minutes have passed: it is time to try again."""
        return self.others > CROWDED and time.time() - self.measured_at > CROWDED_FOR

    @property
    def kernels(self) -> dict[str, dict[str, str]]:
        """dtype -> case -> the linear kernel that `measured` uses there for products that are not tiny."""
        return {
            dtype: {case: "reference" if math.isinf(pays) else "onednn" for case, pays in cases.items()}
            for dtype, cases in self.onednn_pays_from.items()
        }

    def peak_gflops(self, dtype: torch.dtype = torch.float32) -> float:
        """The fastest matrix product measured in `dtype`. Raises ValueError where none was."""
        name = str(dtype).removeprefix("torch.")
        measured = [speed for kind, speed in self.gflops.items() if kind.startswith(f"{name} ")]
        if not measured:
            raise ValueError(f"no matrix product was measured in {name}, only {', '.join(self.gflops)}")
        return max(measured)


_machine: Machine | None = None


def machine() -> Machine:
    """This machine's record: from memory, else from the file, else measured and kept."""
    global _machine
    if _machine is None:
        kept = _read(cache_file(), _key())
        _machine = measure() if kept is None or kept.is_stale else kept
    return _machine


def measure() -> Machine:
    """Measure this machine anew and keep the record; a folder that cannot be written is noted in the record."""
    global _machine
    record = _measure()
    try:
        _write(cache_file(), _key(), record)
    except OSError as error:
        note = f"the record could not be kept in {cache_file()}: {error.strerror}; it is measured anew in each process"
        record = Machine(**{**_fields(record), "notes": (*record.notes, note)})
    _machine = record
    _pays_from.clear()
    return record


def onednn_pays_from(dtype: torch.dtype, case: Case) -> float:
    """The number of multiply-adds from which oneDNN's linear product is the faster one here (inf: never)."""
    key = dtype, case
    if key not in _pays_from:
        _pays_from[key] = machine().onednn_pays_from[str(dtype).removeprefix("torch.")][case]
    return _pays_from[key]


_pays_from: dict[tuple[torch.dtype, Case], float] = {}


def int8_pays() -> bool:
    """Whether one row is multiplied faster here by a weight in int8 than by the same in float32."""
    return machine().int8_pays


def case_of(rows: int) -> Case:
    """What a product of so many rows is measured as, without gradients."""
    return "one row" if rows == 1 else "few rows" if rows <= FEW else "many rows"


def products_by_onednn() -> AbstractContextManager[Any]:
    """While entered, torch.mm and torch.bmm in float32 go to oneDNN, if that is exact here and was measured faster."""
    if onednn_matmul_is_exact() and not math.isinf(onednn_pays_from(torch.float32, "training")):
        return onednn_matmul
    return nullcontext()


def cache_file() -> Path:
    """Where the records are kept."""
    return cache_folder() / "machine.json"


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for the next allocation instead of giving it back to the system.

    A training step frees and asks for the same large blocks again and again; by default each comes back as fresh pages
    that the kernel must clear. The process keeps its peak memory until it ends. Returns whether it took effect: it
    does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold, largest = -1, -3, 2**31 - 1  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    return bool(mallopt(mmap_threshold, 1 << 30) and mallopt(trim_threshold, largest))


# Who this is ----------------------------------------------------------------------------------------------------------


def _cpu() -> tuple[str, tuple[str, ...]]:
    """The CPU's name (with family and model, as a hypervisor may shorten the name) and all its flags."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return platform.processor() or platform.machine(), (torch.backends.cpu.get_cpu_capability(),)
    pairs = [line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line]
    lines = {name.strip(): value.strip() for name, value in pairs}
    name = lines.get("model name") or lines.get("CPU part") or platform.machine()
    if "cpu family" in lines:
        name += f" (family {lines['cpu family']}, model {lines.get('model', '?')})"
    return name, tuple(sorted((lines.get("flags") or lines.get("Features") or "").split()))


def _key() -> str:
    name, flags = _cpu()
    of_flags = hashlib.sha256(" ".join(flags).encode()).hexdigest()[:12]
    return f"{name}, flags {of_flags}, torch {torch.__version__}, {torch.get_num_threads()} threads"


# The file -------------------------------------------------------------------------------------------------------------


def _fields(record: Machine) -> dict:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _records(path: Path) -> dict:
    """The records in the file; none where it is missing, damaged or of another format: they are made again."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not isinstance(content.get("machines"), dict)
    ):
        return {}
    return content["machines"]


def _read(path: Path, key: str) -> Machine | None:
    try:
        held = dict(_records(path)[key])
        record = Machine(**{**held, "flags": tuple(held["flags"]), "notes": tuple(held["notes"])})
        complete = all(float(record.onednn_pays_from[dtype][case]) >= 0 for dtype in DTYPES for case in SIZES)
    except (KeyError, TypeError, ValueError):  # no such record, or not one that this version wrote
        return None
    return record if complete else None


def _write(path: Path, key: str, record: Machine) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "machines": {**_records(path), key: asdict(record)}}
    with atomic_file(path) as file:
        file.write(json.dumps(content, indent=1).encode())


# The measurement ------------------------------------------------------------------------------------------------------


def _measure() -> Machine:
    name, flags = _cpu()
    reason = missing()
    notes = () if reason is None else (f"reference is the linear kernel: {reason}",)
    gflops: dict[str, float] = {}
    pays: dict[str, dict[str, float]] = {}
    busy, total, own = (*processor_seconds(), time.process_time())
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
        for word, dtype in DTYPES.items():
            try:
                gflops |= {f"{word} {kind}": speed for kind, speed in _gflops(dtype).items()}
                pays[word] = {case: _pays(dtype, case) if reason is None else math.inf for case in SIZES}
            except RuntimeError as error:  # this CPU's oneDNN has no such product
                pays[word] = dict.fromkeys(SIZES, math.inf)
                notes += (f"reference is the linear kernel in {word}: {str(error).splitlines()[0]}",)
        speed, faster_in_int8 = _memory(), _int8_pays()
    busy, total, own = processor_seconds()[0] - busy, processor_seconds()[1] - total, time.process_time() - own
    others = max(0.0, (busy - own) / total) if total > 0 else 0.0
    if others > CROWDED:
        notes += (f"other processes took {others:.0%} of the machine while it was measured; it is measured again soon",)
    return Machine(cpu=name, cores=os.cpu_count() or 1, threads=torch.get_num_threads(),
                   flags=tuple(flag for flag in RELEVANT if flag in flags), torch_version=str(torch.__version__),
                   gflops=gflops, memory_gb_per_s=speed, onednn_pays_from=pays, int8_pays=faster_in_int8, notes=notes,
                   others=others, measured_at=time.time())  # fmt: skip


def _seconds(calls: list[Callable[[], object]], *, rounds: int = 9, block: float = 5e-4) -> list[float]:
    """Seconds per call of each: the least over short rounds that go through all of them in turn.

    The least, because another program can only make a round slower.
    """
    repeats, least = [], [math.inf for _ in calls]
    for call in calls:
        call()  # the first packs and warms up
        start = time.perf_counter()
        call()
        repeats.append(max(1, min(100, int(block / (time.perf_counter() - start + 1e-9)))))
    for _ in range(rounds):
        for i, (call, repeat) in enumerate(zip(calls, repeats, strict=True)):
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            least[i] = min(least[i], (time.perf_counter() - start) / repeat)
    return least


def _calls(dtype: torch.dtype, case: Case, size: tuple[int, int, int]) -> list[Callable[[], object]]:
    """Products of this size by reference and by onednn. Constant values: the random state is not touched."""
    rows, in_dim, out_dim = size
    training = case == "training"
    x = torch.full((rows, in_dim), 0.5, dtype=dtype, requires_grad=training)
    weight = torch.full((out_dim, in_dim), 0.5, dtype=dtype, requires_grad=training)
    bias = torch.full((out_dim,), 0.5, dtype=dtype, requires_grad=training)
    dy = torch.full((rows, out_dim), 0.5, dtype=dtype)

    def call_of(kernel: Callable) -> Callable[[], object]:
        def infer() -> object:
            with torch.no_grad():
                return kernel(x, weight, bias)

        def train() -> object:
            with torch.enable_grad():
                return torch.autograd.grad(kernel(x, weight, bias), (x, weight, bias), dy)

        return train if training else infer

    return [call_of(F.linear), call_of(OneDNN())]


def _in_turn(calls: list[Callable[[], object]]) -> Callable[[], object]:
    def all_of_them() -> None:
        for call in calls:
            call()

    return all_of_them


def _pays(dtype: torch.dtype, case: Case) -> float:
    """Where the lines  seconds = call + work / speed  of the two kernels meet."""
    tiny, large = SIZES[case]
    tiny_reference, tiny_onednn = _seconds(_calls(dtype, case, tiny))
    reference, onednn = _seconds(_calls(dtype, case, large))
    if onednn > 0.95 * reference:  # within the noise: stay with the plain one
        return math.inf
    if case == "one row":
        large, (reference, onednn) = MIDDLE, _seconds_of_the_middle(dtype)
    work = math.prod(large) - math.prod(tiny)
    gained = ((reference - tiny_reference) - (onednn - tiny_onednn)) / work
    return max(0.0, (tiny_onednn - tiny_reference) / gained) if gained > 0 else 0.0


def _seconds_of_the_middle(dtype: torch.dtype) -> list[float]:
    """A row's product of middle size by reference and by onednn: the mean of weights in a cache and in none."""
    pairs = [_calls(dtype, "one row", MIDDLE) for _ in range(WEIGHTS)]
    warm, cold = _seconds(pairs[0]), _seconds([_in_turn(list(calls)) for calls in zip(*pairs, strict=True)], rounds=5)
    return [(within + without / WEIGHTS) / 2 for within, without in zip(warm, cold, strict=True)]


def _gflops(dtype: torch.dtype) -> dict[str, float]:
    size = (512, 1024, 1024)
    names = ["reference", "onednn"] if missing() is None else ["reference"]
    calls = _calls(dtype, "many rows", size)[: len(names)]
    return {
        name: 2e-9 * math.prod(size) / seconds for name, seconds in zip(names, _seconds(calls, rounds=5), strict=True)
    }


def _int8_pays() -> bool:
    rows, in_dim, out_dim = SIZES["one row"][1]
    x, q = torch.full((rows, in_dim), 0.5), torch.ones((out_dim, in_dim), dtype=torch.int8)
    rounded, scale = x.bfloat16(), torch.ones(out_dim, dtype=torch.bfloat16)
    float32 = _calls(torch.float32, "one row", (rows, in_dim, out_dim))[: 2 if missing() is None else 1]
    try:
        seconds = _seconds([lambda: torch.ops.aten._weight_int8pack_mm(rounded, q, scale), *float32])
    except (AttributeError, RuntimeError):  # another PyTorch, another CPU
        return False
    return seconds[0] < 0.8 * min(seconds[1:])


def _memory() -> float:
    block = torch.full((1 << 25,), 0.5)
    (seconds,) = _seconds([block.sum], rounds=5)
    return block.nbytes / seconds / 1e9
