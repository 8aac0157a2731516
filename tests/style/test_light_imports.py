"""What loads when: the package and `--help` start at once, and the hand-written half needs no torch."""

import os
import subprocess
import sys

import house
import pytest

import glassformer

HEAVY = ("torch", "numpy", "transformers", "safetensors", "jaxtyping", "einops")
BARE_MODULES = 60  # the package alone may add this many modules to a bare interpreter (typing takes most of them)
HELP_MODULES = 350  # `glassformer --help`, tyro and rich in it (230 of them): far under half a second of CPU time


def python(code: str) -> list[str]:
    """The lines that a fresh interpreter prints."""
    environment = {**os.environ, "PYTHONPATH": str(house.ROOT / "src"), "COLUMNS": "80"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_importing_the_package_loads_nothing_heavy() -> None:
    count, *loaded = python(
        "import sys; before = len(sys.modules); import glassformer\n"
        f"print(len(sys.modules) - before, *(name for name in {HEAVY} if name in sys.modules), sep='\\n')"
    )
    assert loaded == []
    assert int(count) <= BARE_MODULES


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["generate", "--help"]])
def test_help_loads_nothing_heavy_and_few_modules(arguments: list[str]) -> None:
    *_, count, loaded = python(
        f"import sys; sys.argv = ['glassformer', *{arguments}]\n"
        "from glassformer.cli import main\n"
        "try:\n    status = main()\nexcept SystemExit as stop:\n    status = stop.code\n"
        "assert not status, status\n"
        f"print(len(sys.modules)); print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert loaded == "[]"
    assert int(count) <= HELP_MODULES


def test_the_hand_written_half_imports_where_only_numpy_is_installed() -> None:
    names = [module.name for module in house.modules() if module.room == "by_hand" and module.path.stem != "__main__"]
    assert len(names) > 5
    imported = python(
        "import sys, importlib\n"
        "class Nothing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        package = name.partition('.')[0]\n"
        "        if package in sys.stdlib_module_names or package in ('numpy', 'glassformer'): return None\n"
        "        raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Nothing())\n"
        f"for name in {names}: importlib.import_module(name)\n"
        "print(*sorted(name for name in sys.modules if name.startswith('glassformer')), sep='\\n')"
    )
    assert set(names) <= set(imported)
    assert [name for name in imported if not name.startswith(("glassformer.by_hand",))] == ["glassformer"]


@pytest.mark.parametrize("name", glassformer.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(glassformer, name) is not None
    assert name in dir(glassformer)


def test_a_public_name_stands_in_all_three_places() -> None:
    init = next(module for module in house.modules() if module.path.as_posix() == "__init__.py")
    for_checkers = house.type_checking_names(init.tree)
    assert for_checkers == set(glassformer.__all__) == set(glassformer._HOMES)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'glassformer' has no attribute 'GPT5'"):
        _ = glassformer.GPT5  # pyright: ignore
