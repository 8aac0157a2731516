"""Plant the classic mistakes, one at a time, and ask that some property notices each of them."""

import pytest
from declared import DECLARED
from mutations import MUTATIONS, Mutation
from properties import PROPERTIES

BY_NAME = {case.name: case for case in DECLARED}


def noticed(mutation: Mutation, patch: pytest.MonkeyPatch) -> str | None:
    """The name of the first property that fails under the mutation."""
    mutation.plant(patch)
    for property_ in PROPERTIES:
        try:
            property_(BY_NAME[mutation.model])
        except AssertionError:  # another exception would be a mutation that does not run, and fails the test
            return property_.__name__
    return None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_planted_mistake_is_noticed(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert noticed(mutation, monkeypatch) is not None, f"no property notices: {mutation.name}"
