"""Write STRUCTURE.md, the table of hops: `python tools/structure.py` (or `--check`, which fails where it is stale).

Nothing is typed here twice: concepts are the files of the library, their sentences are the files' docstrings, and a
chapter or an exercise belongs to the concepts that it imports, from the library or by hand, or names by their path.
"""

import ast
import sys
from pathlib import Path

import house
from house import PACKAGE, ROOT, Module

PAGE = ROOT / "STRUCTURE.md"
ROOMS_OF_CONCEPTS = ("ops", "parts", "models")
HEAD = """\
# Where things are

<!-- Written by `make structure`; a test fails where it is stale. -->

A concept has one name and one file name everywhere. From the library it is one hop to the same thing by hand in NumPy,
to the chapter that explains it, and to its exercise.
"""
FLOORS_HEAD = """\
## Floors

A room imports from its own floor and from the floors before it; `tests/style` holds it to that. `by_hand` stands beside
the house: it imports NumPy and nothing of the other rooms.

| floor | room | what is in it |
|---|---|---|
"""
TABLE_HEAD = """
| concept | library | by hand | chapters | exercises |
|---|---|---|---|---|
"""


def render(root: Path = ROOT) -> str:
    """The page for the repository as it is now."""
    source = root / "src" / PACKAGE
    everything = [module for module in house.modules(source) if module.tree.body]
    library = [module for module in everything if module.room != "by_hand"]
    twins = {module.path: partner(module, library) for module in everything if module.room == "by_hand"}
    by_hand = {twins[module.path]: module for module in everything if module.room == "by_hand"}
    lessons = {path: {twins.get(c, c) for c in concepts_of(path, everything)} for path in lessons_of(root)}
    page = [HEAD]
    rooms = {room: [m for m in library if m.room == room and m.path.name != "__init__.py"] for room in house.LEVEL}
    elsewhere = [m for m in library if m.path in by_hand and m.room not in ROOMS_OF_CONCEPTS]
    for title, concepts in [*((room, rooms[room]) for room in ROOMS_OF_CONCEPTS), ("other rooms", elsewhere)]:
        rows = [hop(module, by_hand.get(module.path), lessons, root) for module in concepts]
        page.append(f"## {title.capitalize()}\n{TABLE_HEAD}" + "".join(rows))
    page.append(FLOORS_HEAD + "".join(floor_rows(library)))
    return "\n".join(page)


def partner(written_by_hand: Module, library: list[Module]) -> Path | None:
    """The library's file of the same place and name; else the room, or the only file, of that name."""
    inner = written_by_hand.path.relative_to("by_hand")
    paths = [module.path for module in library]
    same_name = [path for path in paths if path.name == inner.name and inner.name != "__init__.py"]
    candidates = [inner, inner.with_suffix("") / "__init__.py", *(same_name if len(same_name) == 1 else ())]
    return next((path for path in candidates if path in paths and path != Path("__init__.py")), None)


def lessons_of(root: Path) -> list[Path]:
    """Chapters and exercises of the course, not the exercises' solutions."""
    return [path for path in sorted((root / "course").rglob("*.py")) if "solutions" not in path.parts]


def concepts_of(lesson: Path, everything: list[Module]) -> set[Path]:
    """The files that a lesson imports from, or names as `parts/attention.py`."""
    text = lesson.read_text("utf-8")
    imported = Module(Path("lesson.py"), text).imports
    homes = {home for name in imported if name.room is not None for home in homes_of(name.name, everything)}
    return homes | {module.path for module in everything if f"{module.path.as_posix()}`" in text}


def homes_of(name: str, everything: list[Module]) -> list[Path]:
    """The file that is `name`, or that defines it where a package only passes it on."""
    exact = [module.path for module in everything if module.name == name]
    package, _, last = name.rpartition(".")
    inside = [m for m in everything if m.name == package or m.name.startswith(f"{package}.")]
    return exact or [module.path for module in inside if last in defined_names(module)]


def defined_names(module: Module) -> set[str]:
    """What a module defines at its top level, imports aside."""
    names = set()
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def hop(module: Module, by_hand: Module | None, lessons: dict[Path, set[Path | None]], root: Path) -> str:
    """One row of the table."""
    base = Path("src") / PACKAGE
    name = module.path.parent.name if module.path.name == "__init__.py" else module.path.stem
    mine = [path.relative_to(root) for path, concepts in lessons.items() if module.path in concepts]
    chapters = [link(path) for path in mine if "exercises" not in path.parts]
    exercises = [link(path) for path in mine if "exercises" in path.parts]
    twin = link(base / by_hand.path) if by_hand else "—"
    concept = f"**{name.replace('_', ' ')}**: {in_a_cell(module.summary)}"
    return f"| {concept} | {link(base / module.path)} | {twin} | {joined(chapters)} | {joined(exercises)} |\n"


def floor_rows(library: list[Module]) -> list[str]:
    """The rooms from the ground up, those that are there."""
    rows = []
    for level, rooms in enumerate(house.FLOORS):
        for room in rooms:
            files = [m for m in library if m.path.as_posix() in (f"{room}/__init__.py", f"{room}.py")]
            inner = [m for m in library if m.room == room]
            summary = files[0].summary if files else ", ".join(m.path.stem for m in inner)
            if inner:
                rows.append(f"| {level} | `{room}` | {in_a_cell(summary)} |\n")
    return rows


def link(path: Path) -> str:
    """A link that is read by its last two names."""
    return f"[{'/'.join(path.parts[-2:])}]({path.as_posix()})"


def joined(links: list[str]) -> str:
    """Links, or a dash where there is none."""
    return ", ".join(links) or "—"


def in_a_cell(text: str) -> str:
    """`text` as a table's cell takes it."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    now = render()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(now, "utf-8", newline="\n")
    elif not PAGE.is_file() or PAGE.read_text("utf-8") != now:
        sys.exit("error: STRUCTURE.md is stale; write it anew with `make structure`")
