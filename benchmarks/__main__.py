"""`python -m benchmarks [NAME ...] [--rounds N]`: runs the named benchmarks (all by default) and prints the tables."""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import attention, families, tracing, vision
from benchmarks.board import Board, Results, console, tell
from benchmarks.harness import THREADS, Competitor, Timing, Worker, race

SMALL = dict(vocab_size=65, max_positions=64, dim=128, num_layers=4, num_heads=4)
LARGE = dict(vocab_size=65, max_positions=256, dim=384, num_layers=6, num_heads=6)


def training(title: str, shape: dict[str, int], batch_size: int, steps: int, rounds: int) -> Results:
    """Training steps in float32 and in bfloat16 autocast."""
    arguments = dict(shape=shape, batch_size=batch_size, steps=steps)
    makers = {"glassformer": "train_glassformer", "transformers": "train_transformers",
              "x-transformers": "train_x_transformers"}  # fmt: skip
    field = [
        Competitor(f"{name} {dtype}", "competitors", make, arguments | {"bf16": dtype == "bf16"})
        for name, make in makers.items()
        for dtype in ("float32", "bf16")
    ]
    timings = race(field, rounds=rounds, tell=tell)
    board = Board(title, timings, batch_size * shape["max_positions"] * steps, "tokens/s")
    best = {dtype: min(("transformers", "x-transformers"), key=lambda n: timings[f"{n} {dtype}"].seconds) + f" {dtype}"
            for dtype in ("float32", "bf16")}  # fmt: skip
    board.against("glassformer float32", best["float32"], 1.8)
    board.against("glassformer bf16", best["float32"], 2.3)
    board.against("glassformer bf16", best["bf16"], 1.15)
    return board.show()


def training_small(rounds: int) -> Results:
    """4 layers, 4 heads, 128 wide, context 64, batch 12."""
    return training("Training, 4 layers × 128 wide, context 64, batch 12", SMALL, 12, 10, rounds)


def training_large(rounds: int) -> Results:
    """6 layers, 6 heads, 384 wide, context 256, batch 8."""
    return training("Training, 6 layers × 384 wide, context 256, batch 8", LARGE, 8, 1, rounds)


def decode(rounds: int) -> Results:
    """GPT-2 124M, batch 1, 64 + 128 tokens, greedy, random weights."""
    import torch

    from glassformer import create_model
    from glassformer.ops.machine import int8_pays

    torch.manual_seed(0)
    prompt, new = 64, 128
    with tempfile.TemporaryDirectory() as folder:
        model = create_model("gpt2")
        num_bytes = sum(p.numel() for n, p in model.named_parameters() if n != "position.weight") * 4
        head = model.head.weight.numel()
        model.save_pretrained(folder)
        del model
        both = dict(folder=folder, prompt=prompt, new=new)
        field = [
            Competitor("transformers float32", "competitors", "decode_transformers", both),
            Competitor("transformers bf16", "competitors", "decode_transformers", both | {"dtype": "bfloat16"}),
            Competitor("glassformer float32, plain", "competitors", "decode_glassformer",
                       both | {"linear": "reference"}),
            Competitor("glassformer float32", "competitors", "decode_glassformer", both),
            Competitor("glassformer bf16", "competitors", "decode_glassformer", both | {"dtype": "bfloat16"}),
            Competitor("glassformer int8", "competitors", "decode_glassformer",
                       both | {"dtype": "bfloat16", "linear": "int8"}),
            Competitor("glassformer int4", "competitors", "decode_glassformer",
                       both | {"dtype": "bfloat16", "linear": "int4"}),
            Competitor("limit: read the float32 weights once per token", "competitors", "read_memory",
                       {"num_bytes": num_bytes}),
        ]  # fmt: skip
        timings = race(field, rounds=rounds, tell=tell)
    limit = timings.pop("limit: read the float32 weights once per token")
    tokens = {name: timing.results[0] for name, timing in timings.items()}
    assert tokens["glassformer float32"] == tokens["glassformer float32, plain"], "kernels disagree on a token"
    assert tokens["glassformer float32"] == tokens["transformers float32"], "tokens differ from transformers'"
    board = Board("Greedy decoding, GPT-2 124M, batch 1, 64 + 128 tokens", timings, new, "tokens/s")
    for name, goal in {"float32": 1.7, "bf16": 3.2, "int8": 4.0, "int4": 5.8}.items():
        board.against(f"glassformer {name}", "transformers float32", goal)
    board.against("glassformer bf16", "transformers bf16")
    out = board.show()
    bandwidth = num_bytes / limit.seconds / 1e9
    console.print(f"  memory: {bandwidth:.1f} GB/s measured; of weights read while decoding:")
    screened = 1.0 if int8_pays() else 4.0  # of the head an int8 copy (ops/linear_largest.py)
    four = 0.5 + 4 / 64
    widths = {"float32": (4.0, screened), "bf16": (2.0, 2.0), "int8": (1.0, 1.0), "int4": (four, four)}
    for name, (width, of_head) in widths.items():
        each = (num_bytes / 4 - head) * width + head * of_head
        read = each * new / timings[f"glassformer {name}"].seconds / 1e9
        console.print(f"    {name}: {read:.1f} GB/s ({read / bandwidth:.0%})")
    console.print()
    return out | {"bandwidth": bandwidth}


def by_hand(rounds: int) -> Results:
    """The NumPy mirror beside torch, one thread each."""
    arguments = dict(shape=SMALL, batch_size=12, steps=5)
    field = [
        Competitor("by hand (NumPy)", "competitors", "train_by_hand", arguments, threads=1),
        Competitor("glassformer (torch)", "competitors", "train_glassformer", arguments, threads=1),
    ]
    timings = race(field, rounds=rounds, tell=tell)
    board = Board("By hand: training, 4 layers × 128 wide, context 64, batch 12, one thread", timings,
                  12 * 64 * 5, "tokens/s")  # fmt: skip
    board.against("glassformer (torch)", "by hand (NumPy)")
    first = board.show()
    from glassformer import create_model

    with tempfile.TemporaryDirectory() as folder:
        create_model("gpt2").save_pretrained(folder)
        both = dict(folder=folder, prompt=64, new=32)
        field = [
            Competitor("by hand (NumPy)", "competitors", "decode_by_hand", both, threads=1),
            Competitor("glassformer (torch)", "competitors", "decode_glassformer", both, threads=1),
        ]
        timings = race(field, rounds=rounds, tell=tell)
    assert timings["by hand (NumPy)"].results == timings["glassformer (torch)"].results, "tokens differ"
    board = Board("By hand: greedy decoding, GPT-2 124M, 64 + 32 tokens, one thread", timings, 32, "tokens/s")
    board.against("glassformer (torch)", "by hand (NumPy)")
    return {"training": first, "decode": board.show()}


def memory(rounds: int) -> Results:
    """Peak memory of a training step with the loss in chunks."""
    field = [
        Competitor(name, "competitors", "loss_memory", dict(kernel=name, batch_size=8, length=512))
        for name in ("reference", "chunked")
    ]
    timings = race(field, rounds=max(3, rounds // 2), tell=tell)
    board = Board("Cross-entropy over 50,257 words: a training step of 2 × 256 wide, 8 × 512 tokens", timings,
                  8 * 512, "tokens/s")  # fmt: skip
    board.against("chunked", "reference")
    out = board.show()
    peaks = {name: timing.peak_bytes for name, timing in timings.items()}
    for name, peak in peaks.items():
        console.print(f"  {name}: peak memory of the process {peak / 1e9:.2f} GB")
    console.print()
    return out | {"peak_bytes": peaks}


def shakespeare(_rounds: int) -> Results:
    """CPU-seconds to the validation loss of the plain setting on tiny Shakespeare, one run each."""
    local = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"
    corpus = str(local) if local.is_file() else "tinyshakespeare"
    timings = {}
    for name in ("shakespeare_char", "shakespeare_char_fast"):
        tell(f"training {name}")
        worker = Worker(Competitor(name, "competitors", "train_recipe", dict(recipe=name, corpus=corpus)))
        worker.run(timings.setdefault(name, Timing()))
        worker.close()
    console.print("[italic]Tiny Shakespeare, the whole validation text at the end[/]")
    for name, timing in timings.items():
        console.print(f"  {name}: validation loss {timing.results[0]:.3f} after {timing.cpu[0]:.0f} CPU-seconds")
    plain, fast = timings["shakespeare_char"], timings["shakespeare_char_fast"]
    share = fast.cpu[0] / plain.cpu[0]
    met = share <= 0.5 and fast.results[0] <= plain.results[0]
    verdict = "[green]reached[/]" if met else "[red]missed[/]"
    console.print(f"  {share:.0%} of the plain setting's, goal 50 % to its loss: {verdict}\n")
    return {name: dict(loss=timing.results[0], cpu_seconds=timing.cpu[0]) for name, timing in timings.items()}


BENCHMARKS: dict[str, Callable[[int], Results]] = {
    "training-small": training_small,
    "training-large": training_large,
    "decode": decode,
    "memory": memory,
    "by-hand": by_hand,
    "shakespeare": shakespeare,
    "encoder": families.encoder,
    "padded": families.padded,
    "encoder-decoder": families.encoder_decoder,
    "llama": families.llama,
    "experts": families.experts,
    "loading": families.loading,
    "long-attention": attention.long_attention,
    "vit": vision.vit,
    "swin": vision.swin,
    "detr": vision.detr,
    "videomae": vision.videomae,
    "training-vit": vision.training_vit,
    "tracing": tracing.tracing,
}


def main() -> None:
    """Run the benchmarks and print where we win and where we lose."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--rounds", type=int, default=9, help="at least 7 for figures to quote")
    parser.add_argument("--json", type=Path, help="also write what was measured to this file")
    options = parser.parse_args()
    names = options.names or list(BENCHMARKS)
    if wrong := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"unknown benchmark {wrong[0]!r}; choose from {', '.join(BENCHMARKS)}")
    import torch

    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    console.print(f"{time.strftime('%Y-%m-%d')}, {_processor()}, {THREADS} threads, {versions}")
    console.print(f"arithmetic as named; medians of {options.rounds} rounds\n")
    results = {name: BENCHMARKS[name](options.rounds) for name in names}
    lost = [row for result in results.values() for part in (result, *result.values()) if isinstance(part, dict)
            for row in part.get("ratios", []) if row["times"] < (row["goal"] or 1.0)]  # fmt: skip
    if lost:
        console.print("[bold]Where we lose, or miss our goal:[/]")
        for row in lost:
            console.print(f"  {row['name']} against {row['baseline']}: {row['times']:.2f}×, goal {row['goal'] or 1.0}×")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
