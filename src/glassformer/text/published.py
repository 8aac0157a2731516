"""Public data sets: Multi30k, from a folder or by download, and those of Hugging Face's hub by `datasets`."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from glassformer.foundation.atomic import atomic_file, cache_folder
from glassformer.text.rows import PAIR, Row, read_rows

MULTI30K_URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"
MULTI30K_VARIABLE = "GLASSFORMER_MULTI30K"
MULTI30K_SHA256 = {  # of the texts, unpacked
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
}

Rows = tuple[list[Row], list[Row] | None]  # to train on, and to validate on where the set says so


def multi30k(folder: str | None) -> Rows:
    """29,000 and 1,014 captions in German (column "de") and English ("en").

    From `folder`, which holds train.de, train.en, val.de and val.en, or these as .gz. Without one: the folder that
    $GLASSFORMER_MULTI30K names, or a download, kept in the cache.

    Source: Elliott et al. 2016, "Multi30K: Multilingual English-German Image Descriptions".

    Raises:
        FileNotFoundError: a file is not in the folder. OSError: the download fails.
        ValueError: what was downloaded is not Multi30k.
    """
    folder = folder or os.environ.get(MULTI30K_VARIABLE)
    place = Path(folder).expanduser() if folder else downloaded()
    train, validation = (
        read_rows(PAIR.join(str(_file(place, f"{part}.{language}")) for language in ("de", "en")), ("de", "en"))
        for part in ("train", "val")
    )
    return train, validation


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz, which Multi30k consists of")


def downloaded() -> Path:
    """The folder in the cache, filled from the public repository where a file is missing or damaged."""
    folder = cache_folder() / "multi30k"
    folder.mkdir(parents=True, exist_ok=True)
    for name, sha256 in MULTI30K_SHA256.items():
        path = folder / f"{name}.gz"
        if path.is_file() and _unpacked_sha256(path.read_bytes()) == sha256:
            continue
        url = f"{MULTI30K_URL}{name}.gz"
        try:
            with urlopen(url, timeout=30) as answer:
                content = answer.read()
        except OSError as error:
            raise OSError(
                f"cannot download {url} ({error}): set ${MULTI30K_VARIABLE} to a folder with its files, or give it as "
                "'multi30k:FOLDER'"
            ) from error
        if _unpacked_sha256(content) != sha256:
            raise ValueError(f"what {url} sent is not Multi30k's {name}: its sha256 differs from {sha256}")
        with atomic_file(path) as file:
            file.write(content)
    return folder


def _unpacked_sha256(content: bytes) -> str | None:
    try:
        return hashlib.sha256(gzip.decompress(content)).hexdigest()
    except (OSError, EOFError, zlib.error):
        return None


def from_hub(name: str) -> Rows:
    """The rows of "NAME" or "NAME:CONFIG" on Hugging Face's hub: of "train", and of "validation" or else "test".

    Class ids become the classes' names.

    Raises:
        ImportError: `datasets` is not installed. OSError: the set cannot be fetched. ValueError: it has no "train".
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("hf: needs the package datasets: pip install 'glassformer[datasets]'") from error
    path, _, config = name.partition(":")
    try:
        found = datasets.load_dataset(path, config or None)
    except (OSError, ValueError, RuntimeError) as error:
        raise OSError(f"cannot load the data set {name!r}: {error}") from error
    parts = {str(split): rows for split, rows in found.items()}
    if "train" not in parts:
        raise ValueError(f"the data set {name!r} has {', '.join(parts)}; a part 'train' is needed")
    held = next((parts[split] for split in ("validation", "test") if split in parts), None)
    return _rows(name, "train", parts["train"]), None if held is None else _rows(name, "validation", held)


def _rows(name: str, part: str, dataset: Any) -> list[Row]:
    features: Mapping[str, Any] = dataset.features or {}
    rows = []
    for number, row in enumerate(dataset, 1):
        values = {key: _named(features.get(key), value) for key, value in row.items()}
        rows.append(Row(f"hf:{name}, {part} example {number}", values))
    return rows


def _named(feature: Any, value: Any) -> Any:
    """Names for class ids, in lists too; −1, which stands for no class, stays."""
    inner = getattr(feature, "feature", None)
    if isinstance(value, list) and inner is not None:
        return [_named(inner, each) for each in value]
    names = getattr(feature, "names", None)
    return names[value] if names and isinstance(value, int) and value >= 0 else value
