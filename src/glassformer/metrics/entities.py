"""Named entities in tagged sentences: those whose type, begin and end are all right.

Source: Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 Shared Task", section 3; the reading of tags
is conlleval's, which the package seqeval took over.
"""

from collections.abc import Sequence

from glassformer.metrics.check import check_pairs, harmonic, ratio

OUTSIDE = "O"


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first, last) of each entity, in order; tags are "O", or "B-", "I-", "E-" or "S-" before a type.

    Read leniently: an "I-" that continues nothing (after "O", or after another type) begins an entity.

    Raises:
        ValueError: a tag is none of these.
    """
    found: list[tuple[str, int, int]] = []
    before = OUTSIDE
    for place, tag in enumerate(tags):
        prefix, dash, kind = tag.partition("-")
        if tag != OUTSIDE and (prefix not in ("B", "I", "E", "S") or not dash or not kind):
            raise ValueError(f"{tag!r} is no tag; expected 'O', or B-, I-, E- or S- before a type, such as 'B-PER'")
        if tag != OUTSIDE:
            goes_on = prefix in ("I", "E") and before[0] in ("B", "I") and before[2:] == kind
            first = found.pop()[1] if goes_on else place
            found.append((kind, first, place))
        before = tag
    return found


def entity_f1(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 of entities over all sentences (micro): an entity is right as a whole or not at all."""
    check_pairs(predictions, references)
    right = predicted = true = 0
    for number, (guess, reference) in enumerate(zip(predictions, references, strict=True)):
        if len(guess) != len(reference):
            raise ValueError(f"sentence {number} has {len(guess)} predicted tags and {len(reference)} true ones")
        guessed, meant = set(entities(guess)), set(entities(reference))
        right, predicted, true = right + len(guessed & meant), predicted + len(guessed), true + len(meant)
    precision, recall = ratio(right, predicted), ratio(right, true)
    return {"precision": precision, "recall": recall, "f1": harmonic(precision, recall)}
