"""Packages whose names load on first use (PEP 562). Each name is said once, in the stub beside `__init__.py`.

Type checkers and editors read `__init__.pyi`, and `attach` reads the same lines (Scientific Python's SPEC 1).
"""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def homes(stub: Path) -> dict[str, str]:
    """The module of each name that a stub imports."""
    imports = (node for node in ast.parse(stub.read_text("utf-8")).body if isinstance(node, ast.ImportFrom))
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def attach(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, given its `__name__` and `__file__`."""
    known = homes(Path(file).with_suffix(".pyi"))

    def load(name: str) -> object:
        if name not in known:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(known[name]), name)

    return load, lambda: sorted(known), sorted(known)
