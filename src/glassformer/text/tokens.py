"""Token files: a text encoded once, then read straight from the disk (memory-mapped), however large."""

import hashlib
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassformer.foundation.atomic import atomic_file, cache_folder
from glassformer.text.tokenizer import Tokenizer

_HEADER_BYTES = 512
_FORMAT = "glassformer-tokens-1"


@dataclass(frozen=True)
class TokenFile:
    """A row of token ids on disk.

    The file is one line of JSON, filled up with spaces to 512 bytes (`head -1` shows it), then the ids as little-endian
    integers: two bytes each where the vocabulary allows it, else four. `sha256` is that of the ids' bytes.
    """

    path: Path
    tokens: NDArray[np.unsignedinteger] = field(repr=False)
    vocab_size: int
    tokenizer: str  # its fingerprint, "" where unknown
    sha256: str

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def write(cls, path: str | Path, ids: ArrayLike, *, vocab_size: int, tokenizer: str = "") -> "TokenFile":
        """Writes `ids` (N,) atomically and opens them.

        Raises:
            ValueError: an id is outside [0, vocab_size).
            OSError: the file cannot be written.
        """
        row = one_dimensional(ids)
        if len(row) and not 0 <= row.min() <= row.max() < vocab_size:
            raise ValueError(f"ids from {row.min()} to {row.max()} do not fit a vocabulary of {vocab_size}")
        row = np.ascontiguousarray(row, dtype=smallest_dtype(vocab_size))
        header = {
            "format": _FORMAT,
            "dtype": row.dtype.name,
            "count": len(row),
            "vocab_size": vocab_size,
            "sha256": hashlib.sha256(row.data).hexdigest(),
            "tokenizer": tokenizer,
        }
        line = json.dumps(header | {"check": _check_of(header)}).encode().ljust(_HEADER_BYTES - 1) + b"\n"
        if len(line) != _HEADER_BYTES:
            raise ValueError(f"tokenizer={tokenizer!r} is too long for a header of {_HEADER_BYTES} bytes")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(line)
            file.write(row.data)
        return cls.open(path, verify=False)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> "TokenFile":
        """Maps the file into memory. `verify` reads it once (about a second per gigabyte) and compares the sha256.

        Raises:
            ValueError: it is no token file, or is truncated or damaged.
            OSError: it cannot be read.
        """
        path = Path(path)
        with open(path, "rb") as file:
            header = _parse_header(path, file.read(_HEADER_BYTES))
        dtype, count = np.dtype(header["dtype"]).newbyteorder("<"), header["count"]
        expected = _HEADER_BYTES + count * dtype.itemsize
        found = path.stat().st_size
        if found != expected:
            raise ValueError(f"{path} is damaged: {found} bytes long, but {count} tokens take {expected}")
        # an empty file cannot be mapped
        tokens = np.memmap(path, dtype, "r", _HEADER_BYTES, (count,)) if count else np.empty(0, dtype)
        if verify and hashlib.sha256(tokens.data).hexdigest() != header["sha256"]:
            raise ValueError(f"{path} is damaged: its tokens do not have the sha256 that its header promises")
        if verify and count and tokens.max() >= header["vocab_size"]:
            raise ValueError(f"{path} is damaged: token {tokens.max()} in a vocabulary of {header['vocab_size']}")
        return cls(path, tokens, header["vocab_size"], header["tokenizer"], header["sha256"])


def _parse_header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path} is not a token file, or is damaged: it does not begin with a header") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT or len(line) != _HEADER_BYTES:
        raise ValueError(f"{path} is not a token file of the format {_FORMAT}")
    if header.pop("check", None) != _check_of(header):
        raise ValueError(f"{path} is damaged: its header does not have the sum that it promises")
    return header


def _check_of(header: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header).encode()).hexdigest()[:16]


def cached_tokens(text: str, tokenizer: Tokenizer, *, folder: str | Path | None = None) -> TokenFile:
    """`text` encoded by `tokenizer`: once, and from then on opened. The name of the file is the hash of both.

    Without `folder`: ~/.cache/glassformer/tokens. A damaged file there is named in a warning and made anew.
    """
    key = hashlib.sha256(f"{_FORMAT} {tokenizer.fingerprint}\n".encode() + text.encode()).hexdigest()
    path = Path(folder or cache_folder() / "tokens") / f"{key[:32]}.tokens"
    if path.exists():
        try:
            return TokenFile.open(path)
        except ValueError as error:
            warnings.warn(f"{error}; the text is encoded again", stacklevel=2)
    ids = np.array(tokenizer.encode(text), dtype=smallest_dtype(tokenizer.vocab_size))
    return TokenFile.write(path, ids, vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.fingerprint)


def smallest_dtype(vocab_size: int) -> np.dtype:
    """The type that holds every id below `vocab_size`: two bytes up to 65,536 tokens, else four."""
    if not 0 < vocab_size <= 2**32:
        raise ValueError(f"vocab_size={vocab_size} is not a size of a vocabulary (1 to 2**32)")
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


def one_dimensional(ids: ArrayLike) -> NDArray[np.integer]:
    """`ids` as an array (N,) of integers.

    Raises:
        ValueError: they have another shape.
        TypeError: they are not integers.
    """
    row = np.asarray(ids)
    if row.ndim != 1:
        raise ValueError(f"token ids must be one row, not an array of shape {row.shape}")
    if row.size and not np.issubdtype(row.dtype, np.integer):
        raise TypeError(f"token ids must be integers, not {row.dtype}")
    return row.astype(np.uint16) if not row.size else row
