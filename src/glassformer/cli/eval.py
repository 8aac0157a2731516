"""`glassformer eval --model FOLDER`"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassformer.cli.models import Opened


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Loss, perplexity and bits per byte of a model on text.

    Every token but the first is predicted once, from at most --context tokens before it.
    """

    model: str
    """a run folder, a Hugging Face folder, or a hub id"""
    data: str | None = None
    """a corpus, a file, a folder or a glob; a run's own corpus if not given"""
    split: str = "validation"
    """validation (the last tenth), train (the rest), or all"""
    context: int | None = None
    """tokens in a row; the run's, or as many as the model has positions, if not given"""
    batch_size: int = 16
    """rows at a time"""
    device: str = "auto"
    """auto, cpu, cuda"""
    dtype: str | None = None
    """float32, bfloat16 or float16; the weights' own if not given"""
    json: bool = False
    """print JSON"""


def run(options: Eval, _: list[str]) -> None:
    """Print what was measured."""
    from rich.console import Console

    from glassformer.cli.models import open_model

    if options.split not in ("validation", "train", "all"):
        raise ValueError(f"--split is {options.split!r}; expected validation, train or all")
    opened = open_model(options.model, dtype=options.dtype, device=options.device)
    measured = measure(opened, options)
    if options.json:
        print(json.dumps(measured, indent=2))
        return
    Console(highlight=False).print(
        f"loss {measured['loss']:.4f} nats per token   perplexity {measured['perplexity']:.3f}   "
        f"bits per byte {measured['bits_per_byte']:.4f}\n"
        f"{measured['tokens']:,} tokens, {measured['bytes']:,} bytes of {measured['data']} ({measured['split']}), "
        f"context {measured['context']}, {measured['seconds']:.1f} s"
    )


def measure(opened: "Opened", options: Eval) -> dict:
    """The mean of −log p over the text's tokens, and what follows from it."""
    import math
    import time

    import torch
    from rich.console import Console
    from rich.progress import track

    from glassformer.text import SequentialLoader, load_corpus

    run, tokenizer, config = opened.run, opened.tokenizer(), opened.model.config
    data = options.data or (None if run is None else run.recipe.data.corpus)
    if data is None:
        raise ValueError(f"--data is not given, and {options.model} is no run folder that would name its corpus")
    context = options.context or (min(config.max_positions or 1024, 1024) if run is None else run.recipe.data.context)
    if opened.model.has_position_table and context > config.max_positions:
        raise ValueError(f"--context {context} is more than the model's {config.max_positions} positions")
    corpus = load_corpus(data)
    text = {"validation": corpus.validation, "train": corpus.train, "all": corpus.train + corpus.validation}[
        options.split
    ]
    ids = tokenizer.encode(text)
    loader = SequentialLoader(ids, batch_size=options.batch_size, length=context)
    device = next(opened.model.parameters()).device
    total, counted, start = 0.0, 0, time.perf_counter()
    with torch.inference_mode():
        for batch in track(loader, "evaluating", console=Console(stderr=True), transient=True):
            here = batch.to(device)
            loss = opened.model(here.inputs, targets=here.targets).loss
            total += loss.item() * batch.counted
            counted += batch.counted
    num_bytes = len(text.encode()) - len(tokenizer.decode(ids[:1]).encode())
    loss = total / counted
    return {
        "loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "bits_per_byte": total / math.log(2) / num_bytes, "tokens": counted, "bytes": num_bytes, "data": corpus.name,
        "split": options.split, "context": context, "seconds": time.perf_counter() - start,
    }  # fmt: skip
