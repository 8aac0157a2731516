"""Every property over every declared model: those of all models, and those of its kind."""

import pytest
from declared import DECLARED, Declared
from every_property import Property, properties_of

CASES = [
    pytest.param(case, property_, id=f"{case.name}-{property_.__name__}")
    for case in DECLARED
    for property_ in properties_of(case)
]


@pytest.mark.parametrize(("case", "property_"), CASES)
def test_property_holds(case: Declared, property_: Property) -> None:
    property_(case)


def test_what_a_model_skips_is_there_to_be_skipped() -> None:
    for case in DECLARED:
        names = [property_.__name__ for property_ in properties_of(case, skipping=False)]
        assert case.skips.keys() <= set(names), case.name
