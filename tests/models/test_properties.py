"""Every property over every declared model."""

import pytest
from declared import DECLARED, Declared
from properties import PROPERTIES, Property


@pytest.mark.parametrize("property_", PROPERTIES, ids=lambda p: p.__name__)
@pytest.mark.parametrize("case", DECLARED, ids=lambda c: c.name)
def test_property_holds(case: Declared, property_: Property) -> None:
    property_(case)
