"""Reading Hugging Face folders with NumPy alone: config.json and safetensors files, whole or in shards."""

import json
from collections.abc import Mapping
from math import prod
from operator import index
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy import ndarray as Array

Names = dict[str, str | tuple[str, ...]]
"""Their name -> ours, or ("T" to transpose or "", ours, ...): rows of one tensor of theirs, shared out equally."""

Config = TypeVar("Config")

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


def read_safetensors(path: str | Path) -> dict[str, Array]:
    """Every tensor of a file: 8 bytes with the header's length, the header in JSON, then the numbers themselves.

    The arrays are views of the file, read when used; bfloat16, which NumPy does not know, becomes float32.
    Raises OSError where the file cannot be read, ValueError where it is damaged.
    """
    path = Path(path)
    size = path.stat().st_size
    raw = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if size < 8 or 8 + length > size:
        raise ValueError(f"{path} is no safetensors file, or cut short: {size} bytes, header of {length} announced")
    try:
        header = json.loads(raw[8 : 8 + length].tobytes())
        header.pop("__metadata__", None)
        entries = [(name, e["dtype"], _DTYPES[e["dtype"]], _whole(e["shape"]), _whole(e["data_offsets"]))
                   for name, e in header.items()]  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} has a header that cannot be understood: {error}") from error
    body, tensors = raw[8 + length :], {}
    for name, word, dtype, shape, offsets in entries:
        expected = prod(shape) * np.dtype(dtype).itemsize
        start, end = offsets if len(offsets) == 2 else (0, -1)
        if min(shape, default=0) < 0 or not 0 <= start <= end <= len(body) or end - start != expected:
            raise ValueError(f"{path}: {name} has shape {shape} and offsets {offsets}; expected {expected} bytes "
                             f"within {len(body)}")  # fmt: skip
        array = body[start:end].view(dtype).reshape(shape)
        tensors[name] = _from_bfloat16(array) if word == "BF16" else array
    return tensors


def _whole(numbers: list) -> tuple[int, ...]:
    return tuple(map(index, numbers))


def _from_bfloat16(halves: Array) -> Array:
    """bfloat16 is the upper half of a float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def read_config(folder: Path, architecture: str) -> dict[str, Any]:
    """The content of config.json, which must be that of `architecture`."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    found = config.get("architectures") or [architecture]
    if architecture not in found:
        raise ValueError(f"{path} is of {', '.join(found)}; expected {architecture}")
    return config


def rename(
    theirs: Mapping[str, Any], config: type[Config], names: Mapping[str, str], *, fixed: Mapping[str, Any]
) -> Config:
    """Our config from their attributes; what they leave out keeps our default, and `fixed` must be as it says."""
    for name, value in fixed.items():
        if theirs.get(name, value) != value:
            raise ValueError(f"config.json has {name}={theirs[name]!r}; only {value!r} is implemented")
    values = {ours: theirs[name] for name, ours in names.items() if name in theirs}
    if "activation" in values:
        known = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu",
                 "silu": "silu", "swish": "silu"}  # fmt: skip
        if values["activation"] not in known:
            raise ValueError(f"config.json has the activation {values['activation']!r}; known: {', '.join(known)}")
        values["activation"] = known[values["activation"]]
    return config(**values)


def read_state(folder: Path, names: Names) -> dict[str, Array]:
    """The tensors of all safetensors files of a folder under our names; the names of `names` are all that count.

    Raises OSError where there is no such file, ValueError where a tensor is missing or is not known.
    """
    tensors: dict[str, Array] = {}
    for file in _weight_files(folder):
        tensors |= {_short(name): tensor for name, tensor in read_safetensors(folder / file).items()}
    unknown = [name for name in tensors.keys() - names.keys() if not name.endswith(_SAID_TWICE)]
    if missing := sorted(names.keys() - tensors.keys()):
        raise ValueError(f"{folder} lacks {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}")
    if unknown:
        raise ValueError(f"{folder} holds {', '.join(sorted(unknown)[:5])}, which this model does not know")
    state = {}
    for theirs, ours in names.items():
        turn, *parts = ("", ours) if isinstance(ours, str) else ours
        tensor = tensors[theirs].T if turn else tensors[theirs]
        state |= zip(parts, np.split(tensor, len(parts)), strict=True)
    return state


def _weight_files(folder: Path) -> list[str]:
    """The one file, or the shards that the index names; each is a plain name inside the folder."""
    path = folder / "model.safetensors.index.json"
    if not path.exists():
        return ["model.safetensors"]
    try:
        files = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        outside = [file for file in files if Path(file).name != file]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no index of shards: {error!r}") from error
    if outside:
        raise ValueError(f"{path} points to {outside[0]}, which is not a file of this folder")
    return files


# Masks, frequencies and places that files carry; the embedding and the head, where they are one; their biases.
_SAID_TWICE = (".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq", "lm_head.weight", ".position_ids",
               "cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "cls.predictions.bias",
               ".embed_tokens.weight", ".embed_positions.weight", "final_logits_bias")  # fmt: skip


def _short(name: str) -> str:
    for prefix in ("transformer.", "model.", "bert."):
        name = name.removeprefix(prefix)
    return name
