"""Docstrings of the standard library to their first line, which says in short what the rest says (PEP 257).

Whole modules are kept for validation.
"""

import ast
import sysconfig
import tokenize
import warnings
from functools import cache
from inspect import cleandoc
from pathlib import Path

from glassformer.text.generated.python_docs import by_topic, is_prose
from glassformer.text.generated.split import Example

LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "lib2to3"})
SHORTEST_SOURCE, SHORTEST_TARGET, LONGEST_TARGET = 80, 20, 160  # characters


def make(seed: int) -> tuple[list[Example], list[Example]]:
    """Training and validation examples, source and target; a docstring that occurs twice is taken once."""
    found, seen = [], set()
    for module, name, text in docstrings():
        target, *rest = [" ".join(part.split()) for part in cleandoc(text).split("\n\n")]
        source = f"{name}: {' '.join(part for part in rest if part and is_prose(part))}"
        long_enough = len(source) - len(name) >= SHORTEST_SOURCE and SHORTEST_TARGET <= len(target) <= LONGEST_TARGET
        if long_enough and is_prose(target) and target[-1] == "." and not {source, target} & seen:
            seen |= {source, target}
            found.append((module, {"source": source, "target": target}))
    return by_topic(found, seed, part=0.1)


@cache
def docstrings() -> list[tuple[str, str, str]]:
    """Module, name and docstring of everything in the standard library that has one.

    Raises:
        FileNotFoundError: this Python came without the sources of its library.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = [path for path in sorted(root.rglob("*.py")) if not LEFT_OUT & set(path.relative_to(root).parts)]
    if not files:
        raise FileNotFoundError(f"this Python has no sources of its standard library in {root}: choose other examples")
    found = []
    for path in files:
        with tokenize.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old escapes in the sources
            tree = ast.parse(file.read())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef | ast.Module):
                text = ast.get_docstring(node, clean=False)
                if text:
                    found.append((str(path), path.stem if isinstance(node, ast.Module) else node.name, text))
    return found
