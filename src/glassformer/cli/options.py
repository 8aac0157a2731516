"""From arguments to a command's options. tyro does it; what is unknown is answered before, with the nearest name."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

from glassformer.foundation.suggest import did_you_mean

Options = TypeVar("Options")


def parse(kind: type[Options], arguments: Sequence[str], prog: str) -> Options:
    """The options of a command from its arguments. `--help` prints them, and ends the program as a mistake does."""
    import tyro

    return tyro.cli(kind, args=list(arguments), prog=prog, config=(tyro.conf.FlagCreatePairsOff,))


def check_names(command: str, kind: Any, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments, and beside them those that the command passes on (`passes_on` of its options says which).

    Raises ValueError for an option that the command does not have, with the nearest that it has.
    """
    known = {"--help"}
    for field in fields(kind):
        known.add(f"--{field.name}".replace("_", "-"))
    passes_on = getattr(kind, "passes_on", None)
    own: list[str] = []
    rest: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, _ = argument.partition("=")
        if passes_on == "everything" and argument not in ("-h", "--help"):
            rest += [argument, *left]
            break
        if passes_on == "dotted" and name.startswith("--") and "." in name:
            rest += [argument, *([left.pop(0)] if left and not equals else [])]
        elif name.startswith("--") and name.replace("_", "-") not in known:
            dotted = ", or a setting such as --model.num-layers" if passes_on == "dotted" else ""
            raise ValueError(f"'glassformer {command}' has no option {name!r}{did_you_mean(name, known)}{dotted}")
        else:
            own.append(argument)
    return own, rest
