"""`glassformer convert SOURCE TARGET`"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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


def run(options: Convert, _: list[str]) -> None:
    """Write the folder, and say what is in it."""
    from glassformer.cli.models import open_model

    target = options.target.expanduser()
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file; expected a folder to write")
    if target.is_dir() and any(target.iterdir()) and not options.overwrite:
        raise FileExistsError(f"{target} holds something already; give an empty folder, or --overwrite")
    if not options.max_shard_gb > 0:
        raise ValueError(f"--max-shard-gb is {options.max_shard_gb}; expected more than 0")
    opened = open_model(options.source, dtype=options.dtype, device="cpu")
    if target.exists() and target.samefile(opened.folder):
        raise ValueError(f"{target} is the source itself; give another folder")
    eos = opened.eos_token_ids()
    tokenizer = tokenizer_of(opened)
    if eos is None and tokenizer is not None and tokenizer.end_of_text is not None:
        eos = (tokenizer.end_of_text,)
    special = None if eos is None else {"eos_token_id": eos[0] if len(eos) == 1 else list(eos)}
    opened.model.save_pretrained(target, max_shard_bytes=int(options.max_shard_gb * 1e9), special_tokens=special)
    if tokenizer is not None:
        tokenizer.save(target)
    weight = next(opened.model.parameters())
    named = "with its tokenizer" if tokenizer is not None else "without a tokenizer: the source has none"
    print(f"{target}: {type(opened.model).__name__}, {opened.model.num_parameters:,} parameters, "
          f"{str(weight.dtype).removeprefix('torch.')}, {named}")  # fmt: skip


def tokenizer_of(opened: "Opened") -> "Tokenizer | None":
    """The model's tokenizer, None where its folder has none."""
    from glassformer.text.tokenizer import TOKENIZER_FILES

    there = opened.run is not None or any((opened.folder / name).is_file() for name in TOKENIZER_FILES)
    return opened.tokenizer() if there else None
