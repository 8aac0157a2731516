"""Which properties are asked of which model."""

from declaration import CAUSAL, DETECTION, SEQUENCE_TO_SEQUENCE, Declared
from properties import GENERAL, Property
from properties_decoders import DECODER
from properties_detection import DETECTOR
from properties_encoder_decoders import ENCODER_DECODER

OF_KIND: dict[str, list[Property]] = {
    CAUSAL.name: DECODER, SEQUENCE_TO_SEQUENCE.name: ENCODER_DECODER, DETECTION.name: DETECTOR,
}  # fmt: skip


def properties_of(case: Declared, *, skipping: bool = True) -> list[Property]:
    """Those of every model, those of its kind, less what it says does not apply."""
    asked = [*GENERAL, *OF_KIND.get(case.kind.name, [])]
    return [property_ for property_ in asked if not (skipping and property_.__name__ in case.skips)]
