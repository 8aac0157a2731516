"""Entity F1: equal to seqeval, its leniency included."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import metrics as seqeval
from seqeval.metrics.sequence_labeling import get_entities

from glassformer.metrics import entities, entity_f1

TAGS = st.sampled_from(["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "ORG", "X-Y"))])
PAIR = st.integers(1, 8).flatmap(lambda n: st.tuples(*[st.lists(TAGS, min_size=n, max_size=n)] * 2))


@given(st.lists(TAGS, max_size=12))
def test_entities_are_those_that_seqeval_reads(tags):
    assert entities(tags) == get_entities(tags)


@given(st.lists(PAIR, min_size=1, max_size=4))
def test_scores_equal_seqevals(pairs):
    predictions, references = ([list(side) for side in sides] for sides in zip(*pairs, strict=True))
    ours = entity_f1(predictions, references)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where there is nothing to divide by
        assert ours["f1"] == pytest.approx(seqeval.f1_score(references, predictions))
        assert ours["precision"] == pytest.approx(seqeval.precision_score(references, predictions))
        assert ours["recall"] == pytest.approx(seqeval.recall_score(references, predictions))


def test_an_entity_is_right_as_a_whole_or_not_at_all():
    reference = [["B-ORG", "I-ORG", "I-ORG", "O", "B-PER"]]
    assert entity_f1([["B-ORG", "I-ORG", "O", "O", "B-PER"]], reference) == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert entity_f1([["I-ORG", "I-ORG", "I-ORG", "O", "I-PER"]], reference)["f1"] == 1  # I- without B- is forgiven
    assert entity_f1([["O"] * 5], reference)["f1"] == 0


def test_wrong_tags_and_lengths_are_named():
    with pytest.raises(ValueError, match="'PER' is no tag"):
        entities(["O", "PER"])
    with pytest.raises(ValueError, match="'B-' is no tag"):
        entities(["B-"])
    with pytest.raises(ValueError, match="sentence 1 has 1 predicted tags and 2 true ones"):
        entity_f1([["O"], ["O"]], [["O"], ["O", "O"]])
