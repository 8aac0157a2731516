"""Build and execute the notebook beside each chapter: `python tools/notebooks.py [CHAPTER.py ...]`.

A chapter is a Python file in the percent format; the notebook is made from it and never edited. Outputs are kept, so
that it reads well on the web, without what changes from run to run (times, execution metadata).
"""

import sys
import time
from pathlib import Path
from typing import Any

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat import write as write_notebook

ROOT = Path(__file__).resolve().parents[1]
COURSE = ROOT / "course"
CELL_LIMIT_S = 600


def chapters() -> list[Path]:
    """Every chapter of the course, in order."""
    return sorted(path for path in COURSE.rglob("*.py") if "# %%" in path.read_text(encoding="utf-8"))


def source(chapter: Path) -> NotebookNode:
    """The notebook of a chapter, not executed, with stable cell ids."""
    notebook = jupytext.read(chapter)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"] = {}
    return notebook


def execute(chapter: Path) -> NotebookNode:
    """The notebook with its outputs. Raises nbclient's CellExecutionError, which shows the cell, where one fails."""
    notebook = source(chapter)
    client = NotebookClient(
        notebook, timeout=CELL_LIMIT_S, kernel_name="python3", resources={"metadata": {"path": str(chapter.parent)}},
        record_timing=False, coalesce_streams=True,
    )  # fmt: skip
    client.execute()
    for cell in notebook.cells:
        cell["metadata"] = {}
        for output in cell.get("outputs", []):
            output.get("metadata", {}).clear()
    return notebook


def sources(notebook: NotebookNode) -> list[tuple[str, Any]]:
    """What a reader sees of a notebook, without its outputs."""
    return [(cell["cell_type"], cell["source"]) for cell in notebook.cells]


def main() -> None:
    """Execute the named chapters, or all, and write their notebooks."""
    for chapter in [Path(name).resolve() for name in sys.argv[1:]] or chapters():
        start = time.perf_counter()
        notebook = execute(chapter)
        target = chapter.with_suffix(".ipynb")
        write_notebook(notebook, target)
        print(f"{target.relative_to(ROOT)}: {time.perf_counter() - start:.0f} s, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
