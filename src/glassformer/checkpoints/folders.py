"""The weights of a Hugging Face folder: one `model.safetensors`, or shards named by `model.safetensors.index.json`."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from glassformer.checkpoints.files import RepeatedName, TensorFile, once, write_tensors
from glassformer.foundation.atomic import atomic_file

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = "model-*-of-*.safetensors"
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ValueError naming the file where it is none, or has a name twice."""
    try:
        value = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=once)
    except RepeatedName as error:
        raise ValueError(f"{path} gives the name {error.args[0]!r} twice") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as JSON, whole or not at all."""
    with atomic_file(path) as file:
        file.write((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


class TensorFolder(Mapping[str, Tensor]):
    """The tensors of a folder, single or sharded; all headers are checked at once, tensors are read when asked for.

    Raises ValueError naming the file for an index and shards that disagree, a name in two shards, a folder of pickles
    only, and what `TensorFile` raises.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        single, index = self.folder / SINGLE, self.folder / INDEX
        if single.exists() and index.exists():
            raise ValueError(f"{self.folder} holds both {SINGLE} and {INDEX}; remove the one that is out of date")
        if single.exists():
            self.files = [TensorFile(single)]
        elif index.exists():
            self.files = read_shards(self.folder, read_json(index))
        else:
            raise no_weights(self.folder)
        self.where = {name: file for file in self.files for name in file}

    def __getitem__(self, name: str) -> Tensor:
        return self.where[name][name]

    def let_go(self) -> None:
        """Give the pages of all files back, as `TensorFile.let_go` does."""
        for file in self.files:
            file.let_go()

    def __iter__(self) -> Iterator[str]:
        return iter(self.where)

    def __len__(self) -> int:
        return len(self.where)

    def meta(self) -> dict[str, Tensor]:
        """Tensors without memory that have the shapes and dtypes of the folder's."""
        return {name: tensor for file in self.files for name, tensor in file.meta().items()}


def read_shards(folder: Path, index: Mapping[str, Any]) -> list[TensorFile]:
    """The files that an index names, held to what it says."""
    where = index.get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
        raise ValueError(f"{folder / INDEX} must have a weight_map of tensors' names and files' names")
    names = sorted(set(where.values()))
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise ValueError(f"{folder / INDEX} names the file {name!r}; only files of its own folder may be named")
        if not (folder / name).is_file():
            raise ValueError(f"{folder / INDEX} names {len(names)} files, of which {name!r} is missing")
    files = [TensorFile(folder / name) for name in names]
    for file in files:
        for name in file:
            if name not in where:
                raise ValueError(f"{file.path} holds the tensor {name!r}, which {INDEX} does not name")
            if where[name] != file.path.name:
                raise ValueError(f"{file.path} holds the tensor {name!r}, which {INDEX} says is in {where[name]}")
    held = {name for file in files for name in file}
    if missing := [name for name in where if name not in held]:
        raise ValueError(f"{folder / INDEX} says that {where[missing[0]]} holds {missing[0]!r}, but it does not")
    return files


def no_weights(folder: Path) -> ValueError:
    """What to say of a folder without safetensors."""
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        said = read_json(folder / CONFIG).get("architectures") if (folder / CONFIG).is_file() else None
        theirs = said[0] if isinstance(said, list) and said else "AutoModel"  # which would leave the head out
        return ValueError(
            f"{folder} has its weights in {pickles[0]}, a pickle, which may run a program when it is opened, so it is "
            f"not opened; if you trust it, convert it once with transformers: "
            f"{theirs}.from_pretrained({str(folder)!r}).save_pretrained(NEW_FOLDER)"
        )
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    return ValueError(f"{folder} has no weights: neither {SINGLE} nor {INDEX} (it holds {there})")


def weight_files(folder: Path) -> list[str]:
    """The names of the files in a folder that hold a model's weights, of whatever save."""
    return sorted(path.name for pattern in (SINGLE, INDEX, SHARDS) for path in folder.glob(pattern))


def shards(like: Mapping[str, Tensor], max_shard_bytes: int) -> list[list[str]]:
    """Names in order, cut where the next tensor would pass the limit; a larger tensor has a shard of its own."""
    if max_shard_bytes <= 0:
        raise ValueError(f"max_shard_bytes={max_shard_bytes} must be positive")
    out: list[list[str]] = [[]]
    size = 0
    for name, tensor in like.items():
        more = tensor.numel() * tensor.dtype.itemsize
        if out[-1] and size + more > max_shard_bytes:
            out.append([])
            size = 0
        out[-1].append(name)
        size += more
    return out


def write_folder(
    folder: Path, state: Mapping[str, Tensor], like: Mapping[str, Tensor], *, max_shard_bytes: int, digests: bool
) -> None:
    """Write weights into a folder that is there and has none: one file, or shards with their index.

    `like` has the shapes and dtypes of `state`, whose tensors are asked for one at a time.
    """
    parts = shards(like, max_shard_bytes)
    if len(parts) == 1:
        write_tensors(folder / SINGLE, state, like=like, digests=digests)
        return
    where: dict[str, str] = {}
    for i, names in enumerate(parts, start=1):
        file = f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        write_tensors(folder / file, state, like={name: like[name] for name in names}, digests=digests)
        where |= dict.fromkeys(names, file)
    total = sum(tensor.numel() * tensor.dtype.itemsize for tensor in like.values())
    count = sum(tensor.numel() for tensor in like.values())
    write_json(folder / INDEX, {"metadata": {"total_parameters": count, "total_size": total}, "weight_map": where})
