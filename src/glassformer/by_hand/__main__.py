"""`python -m glassformer.by_hand`: train a small GPT on characters, in NumPy, and let it write."""

import argparse
import sys

from glassformer.by_hand.machine import prepare


def parser() -> argparse.ArgumentParser:
    """The options; none of this needs NumPy, so `--help` is quick."""
    described = argparse.ArgumentParser(
        prog="python -m glassformer.by_hand",
        description="Train a small character-level GPT-2 in NumPy, forward and backward written by hand, and let it "
        "write. By default it reads the reference of the Python language that ships inside Python.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, value, meaning in (
        ("--steps", 1500, "training steps"),
        ("--layers", 4, "blocks"),
        ("--dim", 128, "width of the model"),
        ("--heads", 4, "attention heads; divides --dim"),
        ("--context", 64, "characters that the model sees"),
        ("--batch", 12, "sequences in a step"),
        ("--sample", 500, "characters to write at the end"),
        ("--seed", 0, "of weights, batches and sample"),
    ):
        described.add_argument(name, type=int, default=value, metavar="N", help=meaning)
    described.add_argument("--learning-rate", type=float, default=2e-3, metavar="X", help="at its peak")
    described.add_argument("--text", metavar="FILE", help="a text file in UTF-8 to learn from")
    return described


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status, 2 where the options or the text are wrong."""
    values = vars(parser().parse_args(arguments))
    # Small products gain little from a second thread, and lose much where another program keeps its core.
    prepare(threads=1 if values["dim"] < 256 else None)
    from glassformer.by_hand.training import Options, run

    try:
        run(Options(**values))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
