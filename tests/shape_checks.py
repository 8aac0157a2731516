"""How annotations are checked while the tests run: jaxtyping's shapes, seen by beartype at every call of a function."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Self, get_args

import jaxtyping
import torch
from beartype import BeartypeConf, beartype

_jaxtyped = jaxtyping.jaxtyped
_checks = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a float too, as for pyright


def install(modules: Sequence[str]) -> None:
    """Check every function of `modules`, which must not be imported yet.

    jaxtyping's import hook puts `@jaxtyping.jaxtyped(...)` on each definition; what it finds there is `_decorator`.
    """
    jaxtyping.jaxtyped = _decorator  # pyright: ignore
    jaxtyping.install_import_hook(modules, "shape_checks.checked")


def checked(function: Callable) -> Callable:
    """`function`, with its arguments and result checked, its protocols aside.

    Protocols are left to pyright: at run time Python only looks whether the names exist, and since 3.12 it does not see
    the children of an `nn.Module` when it does.
    """
    function.__annotations__ = {
        name: Any if _is_left_out(hint) else hint for name, hint in function.__annotations__.items()
    }
    return _checks(function)


def _is_left_out(hint: Any) -> bool:
    if hint is Self or getattr(hint, "_is_protocol", False):  # `Self` names no class to beartype here
        return True
    return any(_is_left_out(inner) for inner in get_args(hint))


def _decorator(*, typechecker: Callable) -> Callable[[Any], Any]:
    """What stands on each definition: nothing on classes, and on functions a check that a compiler does not see.

    The check is Python that `torch.compile(fullgraph=True)` cannot trace, and so is that of a dataclass's `__init__`.
    """

    def decorate(definition: Any) -> Any:
        if isinstance(definition, type):
            return definition
        looked_at = _jaxtyped(definition, typechecker=typechecker)

        @functools.wraps(definition)
        def call(*args: Any, **kwargs: Any) -> Any:
            function = definition if torch.compiler.is_compiling() else looked_at
            return function(*args, **kwargs)

        return call

    return decorate
