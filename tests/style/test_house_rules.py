"""The library keeps the house rules (CONTRIBUTING.md tells what each is for)."""

import tomllib
from collections.abc import Iterable

import house
import pytest
import rules

IMPORT_NAMES = {  # where a package is imported by another name than its own
    "faster-coco-eval": "faster_coco_eval",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "x-transformers": "x_transformers",
}


@pytest.fixture(scope="module")
def modules() -> list[house.Module]:
    found = house.modules()
    assert len(found) > 50, "the walk over src/glassformer finds its modules"
    return found


def none_of(complaints: Iterable[str]) -> None:
    found = list(complaints)
    assert not found, f"{len(found)} places:\n" + "\n".join(found)


def test_a_room_imports_only_from_its_own_floor_and_from_below(modules: list[house.Module]) -> None:
    none_of(rules.upward_imports(modules))


def test_two_rooms_never_import_each_other(modules: list[house.Module]) -> None:
    none_of(rules.rooms_in_a_circle(modules))


def test_every_room_has_a_floor(modules: list[house.Module]) -> None:
    none_of(rules.unknown_rooms(modules))


def test_the_hand_written_half_imports_only_numpy_and_the_standard_library(modules: list[house.Module]) -> None:
    none_of(rules.by_hand_imports(modules))


def test_what_is_imported_is_declared_and_extras_only_inside_functions(modules: list[house.Module]) -> None:
    project = tomllib.loads((house.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    core = import_names(project["dependencies"])
    users = {name: needs for name, needs in project["optional-dependencies"].items() if name != "dev"}
    none_of(rules.undeclared_imports(modules, core, import_names(need for needs in users.values() for need in needs)))


def test_no_function_takes_more_than_a_dozen_arguments(modules: list[house.Module]) -> None:
    none_of(rules.too_many_arguments(modules))


def test_files_and_functions_are_short_enough_to_be_held_in_mind(modules: list[house.Module]) -> None:
    none_of(rules.too_long(modules))


def test_no_class_inherits_a_concrete_class_of_the_house(modules: list[house.Module]) -> None:
    none_of(rules.concrete_inheritance(modules))


def test_what_is_public_says_what_it_is(modules: list[house.Module]) -> None:
    none_of(rules.missing_docstrings(modules))


def test_no_error_is_swallowed(modules: list[house.Module]) -> None:
    none_of(rules.swallowed_errors(modules))


def test_what_is_raised_is_particular_and_has_a_sentence(modules: list[house.Module]) -> None:
    none_of(rules.silent_errors(modules))


def test_nothing_is_unpickled(modules: list[house.Module]) -> None:
    none_of(rules.unsafe_loading(modules))


def test_nothing_is_left_for_later(modules: list[house.Module]) -> None:
    none_of(rules.unfinished(modules))


def import_names(requirements: Iterable[str]) -> set[str]:
    """`{"torch"}` of `["torch>=2.11"]`."""
    names = (requirement.partition(">")[0].partition("[")[0].strip() for requirement in requirements)
    return {IMPORT_NAMES.get(name, name) for name in names}
