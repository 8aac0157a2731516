"""How annotations are checked while the tests run: jaxtyping's shapes, seen by beartype at every call of a function."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, get_args

import jaxtyping
import torch
from beartype import beartype

_jaxtyped = jaxtyping.jaxtyped


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
        name: Any if _has_protocol(hint) else hint for name, hint in function.__annotations__.items()
    }
    return beartype(function)


def _has_protocol(hint: Any) -> bool:
    return getattr(hint, "_is_protocol", False) or any(_has_protocol(inner) for inner in get_args(hint))


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
