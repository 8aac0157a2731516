"""What the tracing room costs: nothing to who does not use it, and how much to who does."""

from benchmarks.board import Board, Results, console, tell
from benchmarks.harness import Competitor, race

MODULE = "tracing_competitors"
SHAPE = dict(vocab_size=65, max_positions=64, dim=128, num_layers=4, num_heads=4)
BATCH, STEPS = 12, 10
AS_FAST = 0.98  # what is measured of two equal things on a shared machine


def tracing(rounds: int) -> Results:
    """A step of a model that was looked into and of one that never was; and what looking costs while it lasts."""
    return {
        "eager": _after(rounds, compiled=False),
        "compiled": _after(rounds, compiled=True),
        "meanwhile": _meanwhile(rounds),
    }


def _after(rounds: int, *, compiled: bool) -> Results:
    arguments = dict(shape=SHAPE, batch_size=BATCH, steps=STEPS, compiled=compiled)
    field = [
        Competitor("never looked into", MODULE, "step", arguments | {"looked": "never"}),
        Competitor("looked into before", MODULE, "step", arguments | {"looked": "before"}),
    ]
    timings = race(field, rounds=rounds, tell=tell)
    never, before = (timings[each.name].results for each in field)
    assert never == before, f"a model that was looked into learns otherwise: {never} and {before}"
    how = ", torch.compile(fullgraph=True)" if compiled else ""
    board = Board(f"Training, 4 layers × 128 wide{how}, after tracing", timings,
                  BATCH * SHAPE["max_positions"] * STEPS, "tokens/s")  # fmt: skip
    board.against("looked into before", "never looked into", AS_FAST)
    out = board.show()
    console.print(f"  losses are the same to the bit: {never[-1][0] if compiled else never[-1]:.6f}")
    if compiled:
        graphs = before[-1][1]
        assert graphs == never[-1][1] == 1, f"{graphs} graphs, where there should be one"
        console.print("  both compile to one graph")
    console.print()
    return out


def _meanwhile(rounds: int) -> Results:
    ways = ("as it is", "recorded", "x-rayed")
    field = [Competitor(how, MODULE, "looking", dict(shape=SHAPE, batch_size=BATCH, how=how)) for how in ways]
    timings = race(field, rounds=rounds, tell=tell)
    board = Board("Forward, 4 layers × 128 wide, while it is looked into", timings, BATCH * SHAPE["max_positions"],
                  "tokens/s")  # fmt: skip
    for how in ways[1:]:
        board.against(how, ways[0], 0.0)  # the price of looking: nothing that we could lose
    return board.show()
