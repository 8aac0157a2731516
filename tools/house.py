"""The house as its source files show it: rooms, floors, modules and what they import. Nothing of it is executed."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "glassformer"

FLOORS = (  # a room imports from its own floor and from the floors before it
    ("foundation",),
    ("ops", "checkpoints", "text", "image", "video", "metrics"),
    ("parts",),
    ("generation",),
    ("models",),
    ("training", "prediction", "tracing", "compression", "export"),
    ("explorer", "learn", "advanced", "transformer"),
    ("cli", "__init__", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


@dataclass(frozen=True)
class Import:
    """One imported module, or one name of it: `name` is the full dotted path."""

    name: str
    line: int
    at_top: bool  # executed when the module is imported

    @property
    def room(self) -> str | None:
        """The room of the house it belongs to; None for what is not ours."""
        package, *inner = self.name.split(".")
        if package != PACKAGE:
            return None
        return inner[0] if inner else "__init__"


@dataclass(frozen=True)
class Module:
    """One source file of the library; `path` is relative to the package's folder."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        """`parts` for parts/attention.py, `cli` for cli.py."""
        return self.path.parts[0].removesuffix(".py")

    @property
    def name(self) -> str:
        """The dotted name it is imported by."""
        parts = (PACKAGE, *self.path.with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def num_lines(self) -> int:
        return len(self.text.splitlines())

    @cached_property
    def imports(self) -> list[Import]:
        """What it imports at run time, inside functions too; what only type checkers see is left out."""
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        return list(_imports(self.tree, package, at_top=True))

    @cached_property
    def summary(self) -> str:
        """The first sentence of the docstring; empty where there is none."""
        text = " ".join((ast.get_docstring(self.tree) or "").partition("\n\n")[0].split())
        return re.split(r"(?<=(?<!et al)\.) ", text, maxsplit=1)[0]


def modules(source: Path = ROOT / "src" / PACKAGE) -> list[Module]:
    """Every Python file of the library, in the order of their paths."""
    return [Module(path.relative_to(source), path.read_text("utf-8")) for path in sorted(source.rglob("*.py"))]


def _imports(node: ast.AST, package: str, *, at_top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for otherwise in child.orelse:
                yield from _imports(ast.Module([otherwise], []), package, at_top=at_top)
        elif isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                above = package.split(".")[: len(package.split(".")) - child.level + 1]
                base = ".".join([*above, *([child.module] if child.module else [])])
            yield from (Import(f"{base}.{alias.name}", child.lineno, at_top) for alias in child.names)
        elif isinstance(child, ast.Call) and (dynamic := _named_by_string(child)):
            yield Import(dynamic, child.lineno, at_top)
            yield from _imports(child, package, at_top=at_top)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, package, at_top=at_top and not inside)


def _named_by_string(call: ast.Call) -> str | None:
    """The module in `import_module("name")`, where it is written out."""
    function = ast.unparse(call.func).rpartition(".")[2]
    if function not in ("import_module", "__import__") or not call.args:
        return None
    first = call.args[0]
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def type_checking_names(tree: ast.Module) -> set[str]:
    """The names that a module imports for type checkers alone."""
    blocks = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in imports for alias in node.names}
