"""The command line, `glassformer COMMAND`: each command is a frozen dataclass of options and a function.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

import dis
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Union

COMMANDS = {
    "train": "Train",
    "eval": "Eval",
    "generate": "Generate",
    "predict": "Predict",
    "doctor": "Doctor",
    "convert": "Convert",
    "bench": "Bench",
    "demo": "Demo",
    "xray": "XRay",
    "draw": "Draw",
    "compare": "Compare",
    "cost": "Cost",
    "plan": "Plan",
    "sentiment": "Sentiment",
}
"""The commands, in the order of `--help`; `eval`'s options are `glassformer.cli.eval.Eval`, which `run` takes."""

OPTIONAL = {
    "PIL": ("pillow", "vision"),
    "scipy": ("scipy", "vision"),
    "sklearn": ("scikit-learn", "vision"),
    "faster_coco_eval": ("faster-coco-eval", "metrics"),
    "transformers": ("transformers", "course"),
    "jinja2": ("jinja2", "hub"),
}
"""Modules that the core does without: the package of each, and the extra that brings it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for a mistake of the user's, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows ?, and the rest
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if not is_meant(error):
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int:
    from glassformer import __version__

    if arguments in (["--version"], ["-V"]):
        print(f"glassformer {__version__}")
        return 0
    from glassformer.cli.options import check_names, parse

    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        module = import_module(f"glassformer.cli.{name}")
        options, rest = check_names(name, getattr(module, COMMANDS[name]), arguments[1:])
        parsed = parse(getattr(module, COMMANDS[name]), options, f"glassformer {name}")
        return int(module.run(parsed, rest) or 0)
    if name and not name.startswith("-"):
        from glassformer.foundation.suggest import did_you_mean

        raise ValueError(f"there is no command {name!r}{did_you_mean(name, COMMANDS)}")
    return _overview(arguments or ["--help"])


def _overview(arguments: list[str]) -> int:
    """`glassformer --help`: the commands, each with its first sentence."""
    from typing import Annotated

    import tyro

    kinds: Any = [getattr(import_module(f"glassformer.cli.{name}"), kind) for name, kind in COMMANDS.items()]
    each = tuple(
        Annotated[kind, tyro.conf.subcommand(name, description=(kind.__doc__ or "").split("\n\n")[0])]
        for name, kind in zip(COMMANDS, kinds, strict=True)
    )
    described = "Transformers you can see through. 'glassformer COMMAND --help' shows a command's options."
    tyro.cli(Union[each], args=arguments, prog="glassformer", description=described)  # type: ignore[arg-type]  # noqa: UP007
    return 0


def is_meant(error: Exception) -> bool:
    """Whether an error is a sentence to the user rather than a fault of ours.

    The system's refusals are (no such file, no room on the disk), and what our code says by a `raise`. A ValueError out
    of torch, or a KeyError of a lookup, was not foreseen: it keeps its traceback.
    """
    if isinstance(error, OSError) or lacks(error):
        return True
    if not isinstance(error, ValueError | TypeError | LookupError | ImportError | ArithmeticError | RuntimeError):
        return False
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    raised_by = dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]]
    return raised_by == "RAISE_VARARGS" and trace.tb_frame.f_globals.get("__name__", "").startswith("glassformer.")


def lacks(error: Exception) -> tuple[str, str] | None:
    """The package and the extra it comes with, where that is all that an import failed for."""
    return OPTIONAL.get(error.name or "") if isinstance(error, ModuleNotFoundError) else None


def sentence(error: Exception) -> str:
    """What the error says, on one line."""
    if needed := lacks(error):
        return "this needs {}: pip install 'glassformer[{}]'".format(*needed)
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, OSError) and error.strerror:  # else "[Errno 11] ..."
        said = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return " ".join(said.split()) or type(error).__name__
