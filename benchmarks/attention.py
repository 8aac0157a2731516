"""Long sequences: attention under a window, and linear attention, against the same layer with every score formed."""

from benchmarks.board import Board, Results, console, tell
from benchmarks.harness import Competitor, race

MODULE = "attention_competitors"
WINDOW = 256


def long_attention(rounds: int) -> Results:
    """One causal layer, 256 wide, 4 heads, forward and backward, at 1,024, 4,096 and 16,384 tokens."""
    out: Results = {}
    for length in (1024, 4096, 16_384):
        shape = dict(dim=256, num_heads=4, window_size=WINDOW, length=length)
        field = [
            Competitor("all scores, sdpa", MODULE, "attention_layer", shape | {"attend": "sdpa"}),
            Competitor("windowed", MODULE, "attention_layer", shape | {"attend": "windowed"}),
            Competitor("auto", MODULE, "attention_layer", shape | {"attend": "auto"}),
            Competitor("linear attention", MODULE, "linear_layer", dict(dim=256, num_heads=4, length=length)),
        ]
        timings = race(field, rounds=rounds, tell=tell)
        values = [timings[name].results[0] for name in ("all scores, sdpa", "windowed", "auto")]
        assert max(values) - min(values) <= 1e-4 * abs(values[0]), f"outputs differ: {values}"
        board = Board(f"Causal attention in a window of {WINDOW}, {length:,} tokens, a training step", timings, length,
                      "tokens/s")  # fmt: skip
        board.against("windowed", "all scores, sdpa")
        board.against("auto", "all scores, sdpa")
        board.against("linear attention", "all scores, sdpa")
        measured = board.show()
        peaks = {name: timing.peak_bytes for name, timing in timings.items()}
        for name, peak in peaks.items():
            console.print(f"  {name}: peak memory of the process {peak / 1e9:.2f} GB")
        console.print()
        out[str(length)] = measured | {"peak_bytes": peaks}
    return out
