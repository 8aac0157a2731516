"""A task's metrics by name."""

import pytest

from glassformer.metrics import judge


def test_each_task_is_judged_by_its_metrics():
    examples = [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}]
    assert judge("classification", ["a", "a"], examples) == {"accuracy": 0.5, "f1": pytest.approx(1 / 3)}
    tagged = [{"tokens": ["Anna", "came"], "tags": ["B-PER", "O"]}]
    assert judge("tagging", [["B-PER", "B-PER"]], tagged) == {
        "f1": pytest.approx(2 / 3), "precision": 0.5, "recall": 1.0, "accuracy": 0.5,
    }  # fmt: skip
    asked = [{"context": "it is ten", "question": "?", "answers": [{"text": "ten", "start": 6}]}]
    assert judge("question_answering", ["is ten"], asked) == {"exact_match": 0, "f1": pytest.approx(2 / 3)}
    dated = [{"source": "x", "target": "1984-03-03"}]
    assert judge("translation", ["1984-03-03 "], dated, ["exact_match", "rougeL"]) == {"exact_match": 1, "rougeL": 1}
    lines = [{"source": "x", "target": "The cat sat on the mat"}]
    scores = judge("translation", ["the cat sat on the mat"], lines, ["bleu", "bleu_lowercased"])
    assert scores["bleu_lowercased"] == pytest.approx(100)
    assert scores["bleu"] < 90


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no task 'taging' \(did you mean 'tagging'\?\)"):
        judge("taging", [], [])
    with pytest.raises(ValueError, match=r"tagging has no metric 'F1' \(choose from|did you mean 'f1'"):
        judge("tagging", [], [], ["F1"])
