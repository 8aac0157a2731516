"""The house rules that a machine can check: each takes modules and gives one sentence per place that breaks it."""

import ast
import sys
from collections.abc import Iterable, Iterator

from house import LEVEL, PACKAGE, Import, Module

MAX_ARGUMENTS = 12
MAX_FUNCTION_LINES = 60
READERS_OF_BY_HAND = ("explorer", "learn", "cli", "__main__")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Complaints = Iterator[str]


LISTS = ("__init__.py", "catalog.py")  # of models: none of them is one


def upward_imports(modules: Iterable[Module]) -> Complaints:
    """A room imports from its own floor and from below; only the topmost rooms know the hand-written half."""
    for module, imported, room in _imports_between_rooms(modules):
        if room == "by_hand":
            if module.room not in READERS_OF_BY_HAND:
                yield _at(module, imported, f"{module.room} imports by_hand, which only {READERS_OF_BY_HAND} may")
        elif LEVEL[room] > LEVEL[module.room]:
            yield _at(module, imported, f"{module.room} imports upward, from {room}")


def rooms_in_a_circle(modules: Iterable[Module]) -> Complaints:
    """Of two rooms on one floor, only one imports the other."""
    edges = {(module.room, room) for module, _, room in _imports_between_rooms(modules) if module.room != room}
    for one, other in sorted(edges):
        if one < other and (other, one) in edges:
            yield f"{one} and {other} import each other; one of them must stand below"


def unknown_rooms(modules: Iterable[Module]) -> Complaints:
    """Every room has a floor."""
    for room in sorted({module.room for module in modules} - {*LEVEL, "by_hand"}):
        yield f"{room} has no floor: give it one in tools/house.py"


def by_hand_imports(modules: Iterable[Module]) -> Complaints:
    """The hand-written half stands alone, on NumPy and the standard library."""
    allowed = {"numpy", *sys.stdlib_module_names}
    for module in modules:
        if module.room != "by_hand":
            continue
        for imported in module.imports:
            if imported.room != "by_hand" and imported.name.partition(".")[0] not in allowed:
                yield _at(module, imported, f"by_hand imports {imported.name}; it stands on NumPy alone")


def undeclared_imports(modules: Iterable[Module], core: set[str], extras: set[str]) -> Complaints:
    """Core dependencies anywhere; an extra only inside a function, so that the library loads without it."""
    for module in modules:
        for imported in module.imports:
            package = imported.name.partition(".")[0]
            if package in core or package == PACKAGE or package in sys.stdlib_module_names:
                continue
            if package not in extras:
                yield _at(module, imported, f"imports {package}, which pyproject.toml does not declare")
            elif imported.at_top:
                yield _at(module, imported, f"imports the extra {package} when it is loaded; import it where used")


def too_many_arguments(modules: Iterable[Module]) -> Complaints:
    """A reader can hold about a dozen arguments."""
    for module, function in _functions(modules):
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        if count > MAX_ARGUMENTS:
            yield _at(module, function, f"{function.name} takes {count} arguments, more than {MAX_ARGUMENTS}")


def too_long(modules: Iterable[Module]) -> Complaints:
    """A model reads top to bottom in 250 lines, anything else in 400; a function in 60."""
    modules = list(modules)
    for module in modules:
        of_models = module.room == "models" or module.path.parts[:2] == ("by_hand", "models")
        limit = 250 if of_models and module.path.name not in LISTS else 400
        if module.num_lines > limit:
            yield f"{module.path}: {module.num_lines} lines, more than {limit}"
    for module, function in _functions(modules):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            yield _at(module, function, f"{function.name} is {lines} lines long, more than {MAX_FUNCTION_LINES}")


def concrete_inheritance(modules: Iterable[Module]) -> Complaints:
    """Only abstract classes have children: a base of ours is an ABC, a Protocol, or an exception."""
    modules = list(modules)
    classes = {f"{module.name}.{node.name}": node for module in modules for node in _classes(module)}
    exported = _re_exported(modules, classes)
    for module in modules:
        names = {imported.name.rpartition(".")[2]: imported.name for imported in module.imports}
        names |= {node.name: f"{module.name}.{node.name}" for node in _classes(module)}
        for node in _classes(module):
            for base in node.bases:
                path = names.get(ast.unparse(base).partition("[")[0], "")
                parent = classes.get(exported.get(path, path))
                if parent is not None and not _is_abstract(parent) and not _is_exception(parent):
                    yield _at(module, node, f"{node.name} inherits {parent.name}, which is concrete")


def missing_docstrings(modules: Iterable[Module]) -> Complaints:
    """A module with code, a public class and a public function say what they are; so does a long method of its own.

    A method need not repeat what its name is told to mean where a base of ours, or torch, introduces it.
    """
    modules = list(modules)
    told = {"forward", "backward", "step"} | {f.name for _, f in _functions(modules) if ast.get_docstring(f)}
    for module in modules:
        if module.tree.body and not ast.get_docstring(module.tree):
            yield f"{module.path}: the module has no docstring"
        for node in module.tree.body:
            if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                yield _at(module, node, f"public {node.name} has no docstring")
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, Function) and not method.name.startswith("_") and method.name not in told:
                    if (method.end_lineno or 0) - method.lineno >= 12:
                        yield _at(module, method, f"public {node.name}.{method.name} has no docstring")


def swallowed_errors(modules: Iterable[Module]) -> Complaints:
    """An error is handled or it is heard: nothing catches everything and goes on."""
    everything = ("", "Exception", "BaseException")
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                caught = _names(node.type)
                silent = all(isinstance(s, ast.Pass | ast.Continue | ast.Break) or _is_ellipsis(s) for s in node.body)
                if node.type is None:
                    yield _at(module, node, "`except:` catches even KeyboardInterrupt; name the errors")
                elif silent and any(name in everything for name in caught):
                    yield _at(module, node, f"`except {ast.unparse(node.type)}` swallows every error")
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                if any(ast.unparse(argument) in everything for argument in node.args):
                    yield _at(module, node, "suppress(Exception) swallows every error")


def silent_errors(modules: Iterable[Module]) -> Complaints:
    """What is raised is a particular error with a sentence; `assert` is not how input is refused.

    `assert x is not None` and `assert isinstance(x, T)` only tell a type checker what is known.
    """
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Assert) and node.msg is None and not _narrows_a_type(node.test):
                yield _at(module, node, "asserts without a sentence; raise an error, or say what must hold")
            elif isinstance(node, ast.Raise) and node.exc is not None:
                call = node.exc
                name = ast.unparse(call.func if isinstance(call, ast.Call) else call)
                is_builtin_error = name.endswith("Error") or name in ("Exception", "BaseException")
                if name in ("Exception", "BaseException"):
                    yield _at(module, node, f"raises {name}; choose the error that says what is wrong")
                elif is_builtin_error and not (isinstance(call, ast.Call) and (call.args or call.keywords)):
                    yield _at(module, node, f"raises {name} without a sentence")


def unsafe_loading(modules: Iterable[Module]) -> Complaints:
    """A file from outside is data: nothing here unpickles."""
    pickles = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for module in modules:
        for imported in module.imports:
            if imported.name.partition(".")[0] in pickles:
                yield _at(module, imported, f"imports {imported.name}, which can run code from a file")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
                yield _at(module, node, "uses torch.load, which unpickles; safetensors does not")
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
                yield _at(module, node.value, "allows pickles inside arrays")


def unfinished(modules: Iterable[Module]) -> Complaints:
    """What is not done is an issue, not a comment."""
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")
    for module in modules:
        for number, line in enumerate(module.text.splitlines(), 1):
            for word in words:
                if word in line:
                    yield f"{module.path}:{number}: {word}"


def _imports_between_rooms(modules: Iterable[Module]) -> Iterator[tuple[Module, Import, str]]:
    """Imports of the house by the house, with the room imported; `by_hand` looks after itself."""
    for module in modules:
        for imported in module.imports if module.room in LEVEL else ():
            room = imported.room
            if room is None or imported.name == f"{PACKAGE}.__version__":  # the one thing all may ask of the top
                continue
            yield module, imported, room if room in LEVEL or room == "by_hand" else "__init__"


def _functions(modules: Iterable[Module]) -> Iterator[tuple[Module, Function]]:
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, Function):
                yield module, node


def _classes(module: Module) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef))


def _re_exported(modules: list[Module], classes: dict[str, ast.ClassDef]) -> dict[str, str]:
    """`glassformer.parts.Linear` is `glassformer.parts.linear.Linear`: names that a package's __init__ passes on."""
    return {
        f"{module.name}.{imported.name.rpartition('.')[2]}": imported.name
        for module in modules
        if module.path.name == "__init__.py"
        for imported in module.imports
        if imported.name in classes
    }


def _is_abstract(node: ast.ClassDef) -> bool:
    bases = {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
    bases |= {ast.unparse(keyword.value).rpartition(".")[2] for keyword in node.keywords if keyword.arg == "metaclass"}
    if bases & {"ABC", "ABCMeta", "Protocol"}:
        return True
    methods = (method for method in node.body if isinstance(method, Function))
    return any("abstractmethod" in ast.unparse(mark) for method in methods for mark in method.decorator_list)


def _is_exception(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).endswith(("Error", "Exception", "Warning", "Interrupt")) for base in node.bases)


def _names(node: ast.expr | None) -> list[str]:
    if isinstance(node, ast.Tuple):
        return [ast.unparse(element) for element in node.elts]
    return [ast.unparse(node)] if node is not None else [""]


def _narrows_a_type(test: ast.expr) -> bool:
    return ast.unparse(test).startswith("isinstance(") or ast.unparse(test).endswith(" is not None")


def _is_ellipsis(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _at(module: Module, place: Import | ast.stmt | ast.expr | ast.ExceptHandler, sentence: str) -> str:
    line = place.line if isinstance(place, Import) else place.lineno
    return f"{module.path}:{line}: {sentence}"
