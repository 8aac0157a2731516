"""STRUCTURE.md shows the house as it is."""

from pathlib import Path

import house
import structure


def test_the_page_of_hops_is_up_to_date() -> None:
    assert structure.PAGE.read_text("utf-8") == structure.render(), "write it anew with `make structure`"


def test_every_hop_leads_somewhere() -> None:
    from re import findall

    links = findall(r"\]\(([^)]+)\)", structure.render())
    assert len(links) > 30
    assert [link for link in links if not (house.ROOT / link).exists()] == []


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")


def test_a_concept_is_found_with_its_twin_its_chapter_and_its_exercise(tmp_path: Path) -> None:
    package = "src/glassformer"
    write(
        tmp_path,
        {
            f"{package}/parts/__init__.py": "'''Parts.'''\nfrom glassformer.parts.linear import Linear",
            f"{package}/parts/linear.py": "'''y = x W, or | so. More.'''\nclass Linear: ...",
            f"{package}/parts/norm.py": "'''Norms.'''\nclass LayerNorm: ...",
            f"{package}/generation/__init__.py": "'''Text.'''",
            f"{package}/training/optimizers.py": "'''Steps.'''",
            f"{package}/by_hand/parts/linear.py": "'''By hand.'''\nclass Linear: ...",
            f"{package}/by_hand/generation.py": "'''By hand.'''",
            f"{package}/by_hand/optimizers.py": "'''By hand.'''",
            "course/a/layers.py": "# %%\nfrom glassformer.parts import Linear",
            "course/a/numpy.py": "# %%\nfrom glassformer.by_hand.parts.linear import Linear",
            "course/a/exercises/linear.py": "# see `parts/linear.py`",
            "course/a/solutions/linear.py": "from glassformer.parts import Linear",
        },
    )
    rows = structure.render(tmp_path).splitlines()
    assert (
        "| **linear**: y = x W, or \\| so. | [parts/linear.py](src/glassformer/parts/linear.py) "
        "| [parts/linear.py](src/glassformer/by_hand/parts/linear.py) "
        "| [a/layers.py](course/a/layers.py), [a/numpy.py](course/a/numpy.py) "
        "| [exercises/linear.py](course/a/exercises/linear.py) |"
    ) in rows
    assert "| **norm**: Norms. | [parts/norm.py](src/glassformer/parts/norm.py) | — | — | — |" in rows
    assert any(row.startswith("| **generation**") and "by_hand/generation.py" in row for row in rows)
    assert any(row.startswith("| **optimizers**") and "by_hand/optimizers.py" in row for row in rows)
