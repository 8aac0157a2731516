"""`glassformer convert SOURCE TARGET`"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

if TYPE_CHECKING:
    from glassformer.cli.models import Opened
    from glassformer.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write a model as a Hugging Face folder: from a run folder, a Hugging Face folder or a hub id.

    What is written is opened by transformers, and by glassformer.from_pretrained.
    """

    source: Positional[str]
    """a run folder, a Hugging Face folder, or a hub id"""
    target: Positional[Path]
    """the folder to write"""
    dtype: str | None = None
    """float32, bfloat16 or float16; the weights' own if not given"""
    max_shard_gb: float = 5.0
    """weights beyond this are written as several files"""
    overwrite: bool = False
    """write into a folder that holds something already"""
    onnx: bool = False
    """write ONNX files beside the weights, for ONNX Runtime and others"""
    onnx_size: tuple[int, int] | None = None
    """rows and columns of the pictures that they read; the config's if not given, any where it names none"""


def run(options: Convert, _: list[str]) -> None:
    """Write the folder, and say what is in it."""
    from glassformer.cli.models import open_model
    from glassformer.image.processor_file import FILE as PROCESSOR_FILE
    from glassformer.text.characters import CharacterTokenizer

    target = options.target.expanduser()
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file; expected a folder to write")
    if target.is_dir() and any(target.iterdir()) and not options.overwrite:
        raise FileExistsError(f"{target} holds something already; give an empty folder, or --overwrite")
    if not options.max_shard_gb > 0:
        raise ValueError(f"--max-shard-gb is {options.max_shard_gb}; expected more than 0")
    if options.onnx_size is not None and not options.onnx:
        raise ValueError(f"--onnx-size {' '.join(map(str, options.onnx_size))} is of ONNX files; give --onnx too")
    opened = open_model(options.source, dtype=options.dtype, device="cpu")
    if options.onnx:
        from glassformer.export.onnx import exported_programs

        exported_programs(opened.model, options.onnx_size)  # refuses, if it must, before anything is written
    if target.exists() and target.samefile(opened.folder):
        raise ValueError(f"{target} is the source itself; give another folder")
    tokenizer = tokenizer_of(opened)
    special = special_tokens_of(opened, tokenizer)
    opened.model.save_pretrained(target, max_shard_bytes=int(options.max_shard_gb * 1e9), special_tokens=special)
    if opened.run is None:
        keep_files(opened.folder, target)
    else:
        opened.run.readers.save(target)
    weight = next(opened.model.parameters())
    named = "with its tokenizer" if tokenizer is not None else "without a tokenizer: the source has none"
    if tokenizer is not None and (target / CharacterTokenizer.file_name).is_file():
        named += ", which this library alone reads (transformers opens one of --data.tokenizer bpe)"
    if (target / PROCESSOR_FILE).is_file():
        named = "with its image processor" + (" and its tokenizer" if tokenizer is not None else "")
    print(f"{target}: {type(opened.model).__name__}, {opened.model.num_parameters:,} parameters, "
          f"{str(weight.dtype).removeprefix('torch.')}, {named}")  # fmt: skip
    if options.onnx:
        write_onnx(opened.model, target, options.onnx_size)


def write_onnx(model: Any, target: Path, size: tuple[int, int] | None) -> None:
    """Export the model, and say how near ONNX Runtime comes to it."""
    from importlib.util import find_spec

    from glassformer.export import export_onnx, onnx_difference

    for path in export_onnx(model, target, picture_size=size):
        print(f"{path}: {path.stat().st_size:,} bytes")
    if find_spec("onnxruntime") is not None:
        difference = onnx_difference(model, target, picture_size=size)
        print(f"ONNX Runtime's outputs differ from ours by {difference:.0e} of the largest value")


def tokenizer_of(opened: "Opened") -> "Tokenizer | None":
    """The model's tokenizer, None where its folder has none."""
    from glassformer.text.tokenizer import FORMATS

    if opened.run is not None:
        return opened.run.readers.tokenizer
    return opened.tokenizer() if any((opened.folder / name).is_file() for name in FORMATS) else None


def special_tokens_of(opened: "Opened", tokenizer: "Tokenizer | None") -> dict[str, Any]:
    """The special tokens for `config.json`: those that the folder's says, and the tokenizer's where it is silent."""
    from glassformer.checkpoints.config import special_tokens
    from glassformer.checkpoints.folders import read_json

    said = special_tokens(read_json(opened.folder / "config.json")) if opened.run is None else {}
    roles = {} if tokenizer is None else tokenizer.special
    return {f"{role}_token_id": roles[role] for role in ("bos", "eos", "pad") if role in roles} | said


def keep_files(source: Path, target: Path) -> None:
    """Copy what belongs to tokenizer, processor and generation, byte for byte; remove what an earlier one left."""
    from glassformer.foundation.atomic import atomic_file
    from glassformer.training.readers import READER_FILES

    for name in (*READER_FILES, "generation_config.json"):
        if (source / name).is_file():
            with atomic_file(target / name) as file:
                file.write((source / name).read_bytes())
        else:
            (target / name).unlink(missing_ok=True)
