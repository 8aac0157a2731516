"""Exact match and F1 of answers, by the rules of SQuAD's script."""

import pytest

from glassformer.metrics import exact_match, squad_f1


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("The Statement", "statement", 1, 1),  # case and articles do not count
        ("a try-except block.", "tryexcept block", 1, 1),  # punctuation goes without leaving a space
        ("an  apple\nin the\ttree", "apple in tree", 1, 1),
        ("theory", "ory", 0, 0),  # "the" goes as a word only
        ("New York City", "York", 0, 2 * (1 / 3) / (1 / 3 + 1)),
        ("york york", "new york", 0, 0.5),  # a word counts as often as it is in both
        ("", "", 1, 1),  # no answer where there is none
        ("the", "", 1, 1),
        ("", "something", 0, 0),
        ("something", "", 0, 0),
        ("»naïve«", "»naïve«", 1, 1),  # other punctuation stays
    ],
)
def test_answers_are_compared_normalized(answer, reference, exact, f1):
    assert exact_match([answer], [reference]) == exact
    assert squad_f1([answer], [reference]) == pytest.approx(f1)


def test_the_best_of_several_references_counts_and_questions_are_averaged():
    references = [["no", "ten years", "decade"], ["blue"]]
    assert exact_match(["a decade", "red"], references) == 0.5
    assert squad_f1(["ten long years", "blue"], references) == pytest.approx((0.8 + 1) / 2)


def test_a_question_without_references_is_refused():
    with pytest.raises(ValueError, match="question 1 has no reference answer"):
        squad_f1(["a", "b"], [["a"], []])
    with pytest.raises(ValueError, match="1 predictions and 2 references"):
        exact_match(["a"], ["a", "b"])
