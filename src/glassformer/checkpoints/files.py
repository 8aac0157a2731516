"""One safetensors file, read lazily and suspiciously, written atomically.

The format (https://github.com/huggingface/safetensors, "Format"): eight bytes, the length n of the header as a
little-endian integer; n bytes of JSON, `{name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__":
{text: text}}`; then the tensors' bytes, which the offsets cover without gap or overlap.

It is read and written here directly: a tensor read is the file's own pages, mapped privately (a page that is written to
becomes ours, the file stays as it is), so that a model is in memory once; a name given twice, a hole, a damaged tensor
are refused by name.

Digests: with `digests=True` the metadata has a SHA-256 of each tensor (dtype, shape and bytes) and of the other
metadata, so any flipped bit is found when the tensor is read, and its tensor is named.
"""

import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from glassformer.foundation.atomic import atomic_file

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
METADATA = "__metadata__"
DIGEST = "sha256:"  # + a tensor's name, or METADATA
HEADER_LIMIT = 100_000_000  # bytes, as the format's own library has it
READERS = 4  # threads that check digests: hashing is slower than reading
READ = 2**24  # bytes that one of them reads before the pages are let go: as little as that stays in memory


@dataclass(frozen=True)
class Entry:
    """What the header says of one tensor; `begin` and `end` count from the start of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def described(dtype: torch.dtype, shape: tuple[int, ...]) -> Any:
    """A hash that has taken in what the bytes alone do not say."""
    return hashlib.sha256(f"{NAMES[dtype]} {list(shape)}\n".encode())


def raw(tensor: Tensor) -> memoryview:
    """A tensor's bytes, without a copy where it lies in one piece in main memory."""
    flat = tensor.detach().cpu().resolve_conj().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def digest(tensor: Tensor) -> str:
    """SHA-256 of one tensor: its dtype, its shape, its bytes."""
    taken = described(tensor.dtype, tuple(tensor.shape))
    taken.update(raw(tensor))
    return taken.hexdigest()


def digests(state: Mapping[str, Tensor]) -> dict[str, str]:
    """SHA-256 of each tensor's dtype, shape and bytes, in hexadecimal."""
    return {name: digest(tensor) for name, tensor in state.items()}


def metadata_digest(metadata: Mapping[str, str]) -> str:
    """SHA-256 of a file's metadata, the digests themselves left out."""
    plain = {key: value for key, value in metadata.items() if not key.startswith(DIGEST)}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


class TensorFile(Mapping[str, Tensor]):
    """A safetensors file: its header is read and checked at once, the tensors when the first is asked for.

    Raises ValueError naming the file, and the tensor, for a truncated file, a forged header, a name given twice, and,
    where the file has digests, for a damaged tensor.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with self.path.open("rb") as file:
            self.stat = os.fstat(file.fileno())
            size = self.stat.st_size
            header, start = read_header(self.path, file, size)
        self.metadata = checked_metadata(self.path, header.pop(METADATA, {}))
        self.entries = {name: checked_entry(self.path, name, entry, start) for name, entry in header.items()}
        check_cover(self.path, self.entries, start, size)
        self.digests = {k.removeprefix(DIGEST): v for k, v in self.metadata.items() if k.startswith(DIGEST)}
        if self.digests:
            self._check_digests()

    def __getitem__(self, name: str) -> Tensor:
        if name in self._damaged:
            raise ValueError(
                f"{self.path}: tensor {name!r} is damaged: its bytes do not have the SHA-256 they were saved with"
            )
        return self.part(self.entries[name])

    def let_go(self, begin: int = 0, end: int | None = None) -> None:
        """Give the file's pages, or those of some bytes, back to the system: they come again when they are touched.

        What was written to the tensors would be lost: this is for who has only read them.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            begin -= begin % mmap.PAGESIZE
            self._pages.madvise(mmap.MADV_DONTNEED, begin, (len(self._pages) if end is None else end) - begin)

    def part(self, entry: Entry) -> Tensor:
        """The numbers where an entry says, in its shape; they need not be a tensor of the header."""
        count = math.prod(entry.shape)
        if count == 0:
            return torch.empty(entry.shape, dtype=entry.dtype, device="cpu")
        if entry.end > len(self._pages):
            raise ValueError(f"{self.path} was cut off while it was read")
        if entry.begin % entry.dtype.itemsize:  # an odd place: some processors read no numbers there
            aligned = bytearray(self._pages[entry.begin : entry.end])
            return torch.frombuffer(aligned, dtype=entry.dtype).view(entry.shape)
        return torch.frombuffer(self._pages, dtype=entry.dtype, count=count, offset=entry.begin).view(entry.shape)

    @cached_property
    def _pages(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    @cached_property
    def _damaged(self) -> frozenset[str]:
        """The tensors that do not have their digests; all are looked at, several at a time, when the first is read."""

        def is_damaged(name: str) -> bool:
            tensor = self.part(self.entries[name])
            taken, data = described(tensor.dtype, tuple(tensor.shape)), raw(tensor)
            for start in range(0, len(data), READ):
                taken.update(data[start : start + READ])
                self.let_go()  # those that are read are soon back: they are in the system's cache
            return taken.hexdigest() != self.digests[name]

        if not self.digests:
            return frozenset()
        with ThreadPoolExecutor(READERS) as pool:
            bad = pool.map(is_damaged, self.digests)
            return frozenset(name for name, is_bad in zip(self.digests, bad, strict=True) if is_bad)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def meta(self) -> dict[str, Tensor]:
        """Tensors without memory that have the shapes and dtypes of the file's."""
        return {n: torch.empty(e.shape, dtype=e.dtype, device="meta") for n, e in self.entries.items()}

    def _check_digests(self) -> None:
        if self.digests.pop(METADATA, None) != metadata_digest(self.metadata):
            raise ValueError(f"{self.path}: its metadata is damaged: it does not have the SHA-256 it was saved with")
        if odd := sorted(self.digests.keys() ^ self.entries.keys()):
            raise ValueError(f"{self.path}: its header is damaged: {odd[0]!r} has a tensor or a SHA-256, but not both")


def read_header(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors' bytes start."""
    if size < 8:
        raise ValueError(f"{path} has {size} bytes; a safetensors file has at least 8 (is it cut off?)")
    length = int.from_bytes(file.read(8), "little")
    if length > HEADER_LIMIT:
        raise ValueError(f"{path} is no safetensors file: its first 8 bytes announce a header of {length:,} bytes")
    if 8 + length > size:
        raise ValueError(f"{path} is cut off: it has {size:,} bytes, its header alone needs {8 + length:,}")
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=once)
    except RepeatedName as error:
        raise ValueError(f"{path}: its header gives the name {error.args[0]!r} twice") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: its header is not valid JSON ({error}); is it damaged, or no safetensors file?"
        ) from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its header is a {type(header).__name__}, expected an object of names and tensors")
    return header, 8 + length


class RepeatedName(ValueError):
    """A JSON object with the same name twice; the plain parser would take the last."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict; raises RepeatedName where a name comes twice, which JSON readers pass over."""
    out: dict[str, Any] = {}
    for name, value in pairs:
        if name in out:
            raise RepeatedName(name)
        out[name] = value
    return out


def checked_metadata(path: Path, metadata: Any) -> dict[str, str]:
    """The header's metadata. Raises ValueError unless they are texts by name."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"{path}: its header's {METADATA} must be an object of texts, got {str(metadata)[:80]}")
    return metadata


def checked_entry(path: Path, name: str, entry: Any, start: int) -> Entry:
    """What the header says of one tensor. Raises ValueError where it contradicts itself."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{path}: tensor {name!r} must have dtype, shape and data_offsets, got {str(entry)[:80]}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{path}: tensor {name!r} has dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    if not is_naturals(shape):
        raise ValueError(f"{path}: tensor {name!r} has shape {shape!r}; expected a list of integers, none negative")
    if not is_naturals(offsets) or len(offsets) != 2:
        raise ValueError(f"{path}: tensor {name!r} has data_offsets {offsets!r}; expected two integers, none negative")
    needed, given = math.prod(shape) * DTYPES[dtype].itemsize, offsets[1] - offsets[0]
    if needed != given:
        raise ValueError(
            f"{path}: tensor {name!r} of dtype {dtype} and shape {shape} needs {needed:,} bytes, has {given:,}"
        )
    return Entry(DTYPES[dtype], tuple(shape), start + offsets[0], start + offsets[1])


def is_naturals(value: Any) -> bool:
    """Whether a value out of JSON is a list of integers, none negative."""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def check_cover(path: Path, entries: Mapping[str, Entry], start: int, size: int) -> None:
    """Raise ValueError unless the tensors cover the file's bytes once each."""
    at, before = start, None
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            gap = "overlaps with" if entry.begin < at else "leaves a gap after"
            raise ValueError(f"{path}: tensor {name!r} {gap} {f'tensor {before!r}' if before else 'the header'}")
        at, before = entry.end, name
    if size < at:
        raise ValueError(f"{path} is cut off: it has {size:,} bytes, its header announces {at:,}")
    if size > at:
        raise ValueError(f"{path} has {size - at:,} bytes more than the {at:,} that its header announces")


def write_tensors(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    *,
    like: Mapping[str, Tensor] | None = None,
    digests: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file atomically: whole, or not at all, and then the old file stays.

    Args:
        path: the file; its folder must be there.
        state: the tensors; each is asked for once and let go.
        like: tensors (without memory will do) with the shapes and dtypes of `state`, where that makes them when asked.
        digests: add a SHA-256 of each tensor and of the metadata.
        metadata: further texts, beside `format: pt`.

    Raises:
        TypeError, ValueError: for a tensor that the format cannot say. OSError: for a full disk and the like.
    """
    like = like or state
    texts = {"format": "pt", **(metadata or {})}
    for name, tensor in like.items():
        if tensor.dtype not in NAMES or tensor.layout != torch.strided:
            raise TypeError(
                f"tensor {name!r} ({tensor.dtype}, {tensor.layout}) cannot be saved; dense {', '.join(DTYPES)} can"
            )
    if METADATA in like or any(key.startswith(DIGEST) for key in texts):
        raise ValueError(f"{METADATA!r} cannot name a tensor, nor a text start with {DIGEST!r}: they have a meaning")
    # Wide types first, so that every tensor starts at a multiple of its width.
    names = sorted(like, key=lambda name: -like[name].dtype.itemsize)
    sums = dict.fromkeys((METADATA, *names), "0" * 64) if digests else {}
    header = encode_header(like, names, texts, sums)
    with atomic_file(path) as file:
        file.write(header)
        for name in names:
            tensor = state[name]
            if tensor.shape != like[name].shape or tensor.dtype != like[name].dtype:
                raise ValueError(f"tensor {name!r} is not what was announced: {tuple(tensor.shape)}, {tensor.dtype}")
            data = raw(tensor)
            file.write(data)
            if digests:
                taken = described(tensor.dtype, tuple(tensor.shape))
                taken.update(data)
                sums[name] = taken.hexdigest()
        if digests:  # known only now; they take the places that were kept for them
            sums[METADATA] = metadata_digest(texts)
            file.seek(0)
            file.write(encode_header(like, names, texts, sums))


def encode_header(
    like: Mapping[str, Tensor], names: list[str], texts: Mapping[str, str], sums: Mapping[str, str]
) -> bytes:
    """The 8 bytes of length and the JSON header for tensors like these, in this order."""
    header: dict[str, Any] = {METADATA: {**texts, **{DIGEST + name: value for name, value in sums.items()}}}
    at = 0
    for name in names:
        tensor = like[name]
        end = at + tensor.numel() * tensor.dtype.itemsize
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_tensors(path: str | os.PathLike[str], *, require_digests: bool = False) -> dict[str, Tensor]:
    """All tensors of a file, in memory. Raises as `TensorFile` does, and ValueError where required digests lack."""
    file = TensorFile(path)
    if require_digests and file.entries and not file.digests:
        raise ValueError(f"{path} has no SHA-256 of its tensors, which it should have been saved with")
    return dict(file)
