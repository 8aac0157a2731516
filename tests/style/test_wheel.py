"""The wheel that users install holds the library whole, and nothing else."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import house
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline, with the hatchling that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    build = subprocess.run([*pip, "-w", str(folder), str(house.ROOT)], capture_output=True, text=True, timeout=300)
    assert build.returncode == 0, build.stderr
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    source = house.ROOT / "src"
    files = [path for path in (source / house.PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    package = sorted(path.relative_to(source).as_posix() for path in files)
    assert sorted(name for name in names if ".dist-info/" not in name) == package
    assert any(name.startswith("glassformer/recipes/") and name.endswith(".toml") for name in package)
    assert "glassformer/py.typed" in package
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_library_works_from_the_wheel_outside_any_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import glassformer; from importlib.resources import files\n"
        f"assert glassformer.__file__.startswith({str(site)!r}), glassformer.__file__\n"
        "assert any(p.name.endswith('.toml') for p in (files('glassformer') / 'recipes').iterdir())\n"
        "print(*[getattr(glassformer, name) for name in glassformer.__all__])"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300
    )
    assert run.returncode == 0, run.stderr
