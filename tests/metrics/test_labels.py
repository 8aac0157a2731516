"""Accuracy, F1 and confusion: equal to scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from glassformer.metrics import accuracy, confusion, confusion_matrix, f1, top_k

PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abc")), min_size=1, max_size=30)


@given(PAIRS)
def test_they_equal_scikit_learns(pairs):
    predictions, references = zip(*pairs, strict=True)
    labels = sorted({*predictions, *references})
    assert accuracy(predictions, references) == pytest.approx(sklearn.accuracy_score(references, predictions))
    for average in ("macro", "micro"):
        expected = sklearn.f1_score(references, predictions, labels=labels, average=average, zero_division=0)
        assert f1(predictions, references, average=average) == pytest.approx(expected)
    for label in labels:
        (expected,) = sklearn.f1_score(references, predictions, labels=[label], average=None, zero_division=0)
        assert f1(predictions, references, average="binary", positive=label) == pytest.approx(expected)
    matrix = sklearn.confusion_matrix(references, predictions, labels=list("abcd"))
    counts = confusion(predictions, references)
    assert [[counts[row, column] for column in "abcd"] for row in "abcd"] == matrix.tolist()


def test_f1_knows_its_averages_by_hand():
    predictions, references = list("aabbc"), list("abbbb")  # a: 1 of 2 and 1; b: 2 of 2 and 4; c: none of 1
    assert f1(predictions, references) == pytest.approx((2 / 3 + 4 / 6 + 0) / 3)
    assert f1(predictions, references, average="micro") == pytest.approx(3 / 5)
    assert f1(predictions, references, average="binary", positive="b") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"average": "makro"}, r"average is 'makro' \(did you mean 'macro'\?\)"),
        ({"average": "binary"}, "'binary', and nothing else, needs positive"),
        ({"positive": "a"}, "'binary', and nothing else, needs positive"),
        ({"average": "binary", "positive": "z"}, "positive is 'z', a label of no prediction and no reference"),
    ],
)
def test_f1_refuses_what_has_no_meaning(arguments, said):
    with pytest.raises(ValueError, match=said):
        f1(["a"], ["b"], **arguments)


@pytest.mark.parametrize("metric", [accuracy, confusion, f1])
def test_each_prediction_needs_its_reference(metric):
    with pytest.raises(ValueError, match="2 predictions and 1 references"):
        metric(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no predictions"):
        metric([], [])


def test_top_k_looks_so_far_down_each_ranking():
    rankings, there = [list("abc"), list("bca"), list("cab")], list("aaa")
    assert [top_k(rankings, there, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])
    scores = np.random.default_rng(0).random((200, 7))
    classes = np.random.default_rng(1).integers(0, 7, 200)
    ranked = (-scores).argsort(1).tolist()
    for k in (1, 3, 5):
        assert top_k(ranked, classes.tolist(), k) == pytest.approx(sklearn.top_k_accuracy_score(classes, scores, k=k))
    with pytest.raises(ValueError, match="k=0"):
        top_k(rankings, there, 0)


def test_a_confusion_matrix_has_what_is_there_in_rows():
    predictions, references = list("abbca"), list("abcca")
    matrix = confusion_matrix(predictions, references, list("abcd"))
    assert matrix == [[2, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    with pytest.raises(ValueError, match="label 'c' is not among the 2 labels"):
        confusion_matrix(predictions, references, list("ab"))
