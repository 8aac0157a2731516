"""Packages whose names load on first use: each is where the stub says, and nothing is loaded before."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from glassformer.foundation.lazy import attach, homes

ROOMS = ("advanced", "image", "models", "text", "training", "video")


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_a_stub_is_where_it_says_and_is_listed(room: str) -> None:
    package = import_module(f"glassformer.{room}")
    known = homes(Path(package.__file__ or "").with_suffix(".pyi"))
    for name, home in known.items():
        assert home.startswith(f"glassformer.{room}.")
        assert getattr(package, name) is getattr(import_module(home), name)
    assert package.__all__ == dir(package) == sorted(known)


def test_nothing_is_loaded_before_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "__init__.py").write_text(
        "from glassformer.foundation.lazy import attach\n__getattr__, __dir__, __all__ = attach(__name__, __file__)\n"
    )
    (tmp_path / "room" / "__init__.pyi").write_text(
        "from room.heavy import one as one\nfrom room.light import two as two"
    )
    (tmp_path / "room" / "heavy.py").write_text("raise SystemExit('loaded')")
    (tmp_path / "room" / "light.py").write_text("two = 2")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import room; print(room.two, room.__all__)\nroom.one"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "2 ['one', 'two']\n"
    assert run.stderr == "loaded\n"


def test_a_name_that_no_stub_has_is_an_attribute_error(tmp_path: Path) -> None:
    (tmp_path / "__init__.pyi").write_text("from room.light import two as two")
    load, _, _ = attach("room", str(tmp_path / "__init__.py"))
    with pytest.raises(AttributeError, match="module 'room' has no attribute 'three'"):
        load("three")
