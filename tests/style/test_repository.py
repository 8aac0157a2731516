"""The files beside the library keep their promises too."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import house
import pytest

TESTS = sorted((house.ROOT / "tests").rglob("*.py"))
OF_ONE_MACHINE = re.compile(r"(?<![\w.~}\]-])/(?:work|home|root|Users|tmp|opt|mnt)/\w")
OUTSIDE = re.compile(r"\.\./shared/(?!data/tinyshakespeare\.txt)")


def tracked() -> list[Path]:
    """The files that git holds."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=house.ROOT, capture_output=True, text=True)
    if listing.returncode != 0:
        pytest.skip("this is not a git checkout")
    return [path for name in listing.stdout.split("\0") if name and (path := house.ROOT / name).is_file()]


def test_no_file_names_a_folder_of_one_machine() -> None:
    found = []
    for path in tracked():
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
            if OF_ONE_MACHINE.search(line) or OUTSIDE.search(line):
                found.append(f"{path.relative_to(house.ROOT)}:{number}: {line.strip()[:120]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", ["open('/" + "home/me/x')", '"path": "/' + 'tmp/x"', "../sha" + "red/tools/x"])
def test_a_folder_of_one_machine_is_noticed(line: str) -> None:
    assert OF_ONE_MACHINE.search(line) or OUTSIDE.search(line)


def test_every_test_file_has_a_test_and_every_helper_a_reader() -> None:
    sources = {path: path.read_text("utf-8") for path in TESTS}
    imported = {
        name.partition(".")[0]
        for text in sources.values()
        for node in ast.walk(ast.parse(text))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    for path, text in sources.items():
        names = [node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        if path.stem.startswith("test_"):
            assert any(name.startswith("test_") for name in names), f"{path} holds no test"
        elif path.name != "conftest.py":
            assert path.stem in imported, f"{path} is imported by no test"


def test_test_files_have_names_of_their_own() -> None:
    stems = [path.stem for path in TESTS if path.name != "conftest.py"]
    assert sorted(stems) == sorted(set(stems))


def test_every_dependency_is_pinned_once_and_every_pin_is_a_dependency() -> None:
    project = tomllib.loads((house.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    requirements = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    names = {re.split(r"[\[<>=~! ]", requirement)[0].lower() for requirement in requirements} - {project["name"]}
    lines = (house.ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line.partition("==")[0].lower() for line in lines if line and not line.startswith("#")]
    assert sorted(pins) == sorted(names)


def test_the_licence_is_the_one_that_is_declared() -> None:
    licence = (house.ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License\n                           Version 2.0" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


def test_the_citation_names_this_version() -> None:
    citation = (house.ROOT / "CITATION.cff").read_text("utf-8")
    init = (house.ROOT / "src" / house.PACKAGE / "__init__.py").read_text("utf-8")
    version = re.search(r'__version__ = "(.+)"', init)
    assert version is not None
    assert f"\nversion: {version[1]}\n" in citation


def test_every_file_that_contributing_points_at_exists() -> None:
    text = (house.ROOT / "CONTRIBUTING.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) >= 15
    missing = [link for link in links if not (house.ROOT / link).exists()]
    assert not missing, missing
