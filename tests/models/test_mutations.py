"""Plant the classic mistakes, one at a time, and ask that some property notices each of them."""

import mutations_detection  # noqa: F401 (declares its own)
import mutations_encoder_decoders  # noqa: F401 (declares its own)
import mutations_encoders  # noqa: F401 (declares its own)
import mutations_segmentation  # noqa: F401 (declares its own)
import mutations_transformer  # noqa: F401 (declares its own)
import mutations_video  # noqa: F401 (declares its own)
import mutations_vision  # noqa: F401 (declares its own)
import mutations_vision_descendants  # noqa: F401 (declares its own)
import pytest
from declared import DECLARED
from every_property import properties_of
from mutations import MUTATIONS, Mutation

BY_NAME = {case.name: case for case in DECLARED}


def noticed(mutation: Mutation, patch: pytest.MonkeyPatch) -> str | None:
    """The name of the first property that fails under the mutation."""
    mutation.plant(patch)
    case = BY_NAME[mutation.model]
    for property_ in sorted(properties_of(case), key=lambda property_: property_.__name__ != mutation.by):
        try:
            property_(case)
        except AssertionError:  # another exception would be a mutation that does not run, and fails the test
            return property_.__name__
    return None


def test_what_is_asked_first_is_there_to_be_asked() -> None:
    for mutation in MUTATIONS:
        names = [property_.__name__ for property_ in properties_of(BY_NAME[mutation.model])]
        assert mutation.by is None or mutation.by in names, mutation.name


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_planted_mistake_is_noticed(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert noticed(mutation, monkeypatch) is not None, f"no property notices: {mutation.name}"
