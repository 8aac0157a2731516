"""Every chapter runs, offline, and the notebook beside it is made from it."""

import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
notebooks = pytest.importorskip("notebooks", reason="needs the extra: pip install 'glassformer[course]'")

CHAPTERS = notebooks.chapters()
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


def test_the_chapters_of_lets_build_gpt_are_there() -> None:
    assert {"bigram_model", "basic_self_attention", "gpt"} <= {path.stem for path in CHAPTERS}


def test_the_chapters_of_under_the_hood_are_there_in_their_order() -> None:
    found = [path.stem.removeprefix("transformer_") for path in CHAPTERS if path.parent.name == "00-under-the-hood"]
    assert found == ["architecture_explained", "libraries_explained", "practical_comparison"]


@each_chapter
def test_notebook_is_the_chapter_with_outputs(chapter: Path) -> None:
    committed = nbformat.read(chapter.with_suffix(".ipynb"), as_version=4)
    assert notebooks.sources(committed) == notebooks.sources(notebooks.source(chapter)), "run `make notebooks`"
    code = [cell for cell in committed.cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code), "run `make notebooks`"
    assert any(cell["outputs"] for cell in code)
    assert chapter.with_suffix(".ipynb").stat().st_size < 600_000


@each_chapter
@pytest.mark.slow
def test_chapter_runs_and_shows_what_its_notebook_shows(chapter: Path) -> None:
    fresh, committed = notebooks.execute(chapter), nbformat.read(chapter.with_suffix(".ipynb"), as_version=4)
    for new, old in zip(fresh.cells, committed.cells, strict=True):
        kinds = [[output["output_type"] for output in cell.get("outputs", [])] for cell in (new, old)]
        assert kinds[0] == kinds[1], f"the cell shows something else now; run `make notebooks`:\n{new['source']}"
