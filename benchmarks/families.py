"""Races of the text families beyond GPT-2: encoders, encoder-decoders, experts, and loading a folder."""

import tempfile
from typing import Any

from benchmarks.board import Board, Results, console, tell
from benchmarks.harness import Competitor, Worker, race

MODULE = "families_competitors"
LLAMA = dict(vocab_size=32_000, max_positions=1024, dim=768, num_layers=12, num_heads=12, hidden_dim=2048)
LENGTHS = [16, 32, 48, 64, 80, 96, 112, 128]


def _both(task: str, arguments: dict[str, Any], dtypes: tuple[str, ...] = ("float32", "bf16")) -> list[Competitor]:
    """Ours and transformers', in each arithmetic."""
    return [
        Competitor(f"{name} {dtype}", MODULE, f"{task}_{name}", arguments | {"bf16": dtype == "bf16"})
        for name in ("glassformer", "transformers")
        for dtype in dtypes
    ]


def encoder(rounds: int) -> Results:
    """BERT-base, a batch of 8 × 128, forward."""
    return _encoder(rounds, [128] * 8, "BERT-base, forward, batch 8 × 128", {"float32": 2.2, "fast": 2.1, "bf16": 1.25})


def padded(rounds: int) -> Results:
    """BERT-base, a batch of 8 whose texts have 16 to 128 tokens."""
    return _encoder(rounds, LENGTHS, "BERT-base, forward, 8 texts of 16 to 128 tokens", {"float32": 3.0})


def _encoder(rounds: int, lengths: list[int], title: str, goals: dict[str, float]) -> Results:
    from glassformer import create_model

    with tempfile.TemporaryDirectory() as folder:
        create_model("bert-base").save_pretrained(folder)
        fast = "torch.nn.TransformerEncoder"
        field = _both("encode", dict(folder=folder, lengths=lengths))
        field += [Competitor(f"{fast} {dtype}", MODULE, "encode_torch", dict(lengths=lengths, bf16=dtype == "bf16"))
                  for dtype in ("float32", "bf16")]  # fmt: skip
        timings = race(field, rounds=rounds, tell=tell)
    for dtype, tolerance in (("float32", 1e-3), ("bf16", 0.2)):
        ours, theirs = (timings[f"{name} {dtype}"].results[0] for name in ("glassformer", "transformers"))
        assert abs(ours - theirs) < tolerance * abs(theirs), f"{dtype}: outputs differ: {ours}, {theirs}"
    board = Board(title, timings, sum(lengths), "tokens/s")
    board.against("glassformer float32", "transformers float32", goals["float32"])
    board.against("glassformer float32", f"{fast} float32", goals.get("fast"))
    board.against("glassformer bf16", "transformers bf16", goals.get("bf16"))
    board.against("glassformer bf16", f"{fast} bf16")
    return board.show()


def encoder_decoder(rounds: int) -> Results:
    """T5-small, one source of 64 tokens, 64 new ones: greedy, and a beam of 4."""
    from glassformer import create_model

    out: Results = {}
    with tempfile.TemporaryDirectory() as folder:
        create_model("t5-small").save_pretrained(
            folder, special_tokens={"decoder_start_token_id": 0, "pad_token_id": 0}
        )
        for beams, goal in ((1, 3.5), (4, 3.0)):
            arguments = dict(folder=folder, source=64, new=64, beams=beams)
            timings = race(_both("translate", arguments), rounds=rounds, tell=tell)
            tokens = [timings[f"{name} float32"].results[0] for name in ("glassformer", "transformers")]
            assert tokens[0] == tokens[1], "tokens differ from transformers'"
            how = "greedy" if beams == 1 else f"beam search, {beams} beams"
            board = Board(f"T5-small, {how}, batch 1, 64 tokens to 64", timings, 64, "tokens/s")
            board.against("glassformer float32", "transformers float32", goal)
            board.against("glassformer bf16", "transformers bf16")
            out[how] = board.show()
    return out


def llama(rounds: int) -> Results:
    """A Llama of 110 M parameters, greedy decoding, batch 1, 64 + 128 tokens."""
    import torch

    from glassformer import create_model

    torch.manual_seed(0)
    shape = dict(
        vocab_size=32_000, max_positions=1024, dim=768, num_layers=12, num_heads=12, hidden_dim=2048, tied=True
    )
    with tempfile.TemporaryDirectory() as folder:
        create_model("llama", num_kv_heads=12, **shape).save_pretrained(folder)
        both = dict(folder=folder, prompt=64, new=128)
        field = [
            Competitor(f"{name} {dtype}", "competitors", f"decode_{name}",
                       both | {"dtype": {"bf16": "bfloat16"}.get(dtype, dtype)})
            for name in ("glassformer", "transformers")
            for dtype in ("float32", "bf16")
        ]  # fmt: skip
        timings = race(field, rounds=rounds, tell=tell)
    tokens = [timings[f"{name} float32"].results[0] for name in ("glassformer", "transformers")]
    assert tokens[0] == tokens[1], "tokens differ from transformers'"
    board = Board("Greedy decoding, Llama of 110 M, batch 1, 64 + 128 tokens", timings, 128, "tokens/s")
    board.against("glassformer float32", "transformers float32", 2.2)
    board.against("glassformer bf16", "transformers bf16")
    return board.show()


def experts(rounds: int) -> Results:
    """A training step of a small Mixtral: 4 layers × 256, 8 experts of 512, 2 chosen, batch 8 × 128."""
    shape = dict(vocab_size=1024, max_positions=128, dim=256, num_layers=4, num_heads=8, num_kv_heads=4, hidden_dim=512)
    timings = race(_both("experts", dict(shape=shape, batch_size=8, steps=2)), rounds=rounds, tell=tell)
    board = Board(
        "Training step, Mixtral of 4 layers × 256, 8 experts, batch 8 × 128", timings, 2 * 8 * 128, "tokens/s"
    )
    board.against("glassformer float32", "transformers float32", 1.5)
    board.against("glassformer bf16", "transformers bf16")
    return board.show()


def loading(rounds: int) -> Results:
    """Opening a folder of 0.5 GB as transformers writes it, alone and with a first token; and the memory it took."""
    arguments, out = dict(folder=""), {}
    cases = (
        (True, False, "opened, the file just written"),
        (False, False, "opened again"),
        (False, True, "opened again, and one token read, which takes every weight"),
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments["folder"] = folder
        write = Worker(Competitor("the folder", MODULE, "write_llama", dict(folder=folder, **LLAMA)))
        write.close()
        for new, forward, what in cases:
            field = _both("load", arguments | {"new": new, "forward": forward}, ("float32",))
            timings = race(field, rounds=rounds, tell=tell)
            board = Board(f"Llama of 0.5 GB in float32, in the system's cache: {what}", timings, 0.5, "GB/s")
            board.against("glassformer float32", "transformers float32", 1.0)
            out[what] = board.show()
            for name, timing in timings.items():
                console.print(f"  {name}: peak memory of the process {timing.peak_bytes / 1e9:.2f} GB")
                out[what] |= {f"{name}, peak bytes": timing.peak_bytes}
            console.print()
    return out
