"""The encoder by hand learns classes of texts: data, batches, the loop, and what can be asked of it afterwards."""

import numpy as np
import pytest

from glassformer.by_hand.classification import Options, Vocabulary, batches, padded, train, words_of

TINY = Options(dim=16, layers=1, heads=2, batch=8, steps=60, learning_rate=5e-3, evaluate_every=20)
EXAMPLES = [(f"{noise} the {word} one", label) for noise in ("well ,", "so", "ah", "oh no")
            for word, label in (("good", "up"), ("fine", "up"), ("bad", "down"), ("poor", "down"))]  # fmt: skip


@pytest.fixture(scope="module")
def learned():
    seen = []
    return train(EXAMPLES, EXAMPLES, TINY, lambda *row: seen.append(row)), seen


def test_words_and_marks_are_tokens():
    assert words_of("I found it, frankly, NOT bad!") == ["i", "found", "it", ",", "frankly", ",", "not", "bad", "!"]


def test_unknown_words_are_one_id_and_every_text_begins_alike():
    vocabulary = Vocabulary(["a b", "b c"])
    assert vocabulary.words == ["[PAD]", "[UNK]", "[CLS]", "a", "b", "c"]
    assert vocabulary.encode("c z A") == [2, 5, 1, 3]
    assert vocabulary.decode([2, 5, 1]) == ["[CLS]", "c", "[UNK]"]


def test_rows_are_padded_behind():
    ids, mask = padded([[2, 3, 4], [2]])
    assert ids.tolist() == [[2, 3, 4], [2, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_an_epoch_has_each_row_once_and_rows_of_like_length_together():
    rows = [[0] * length for length in np.random.default_rng(0).integers(3, 30, 64)]
    order = batches(rows, 8, np.random.default_rng(1))
    epoch = [next(order) for _ in range(8)]
    assert sorted(np.concatenate(epoch)) == list(range(64))
    assert np.mean([np.ptp([len(rows[i]) for i in places]) for places in epoch]) < 8
    assert [list(next(order)) for _ in range(8)] != [list(places) for places in epoch]


def test_it_learns_and_says_how_far_it_is(learned):
    classifier, seen = learned
    assert [step for step, *_ in seen] == [20, 40, 60]
    assert seen[-1][1] < 0.2 < seen[0][1]
    assert classifier.accuracy(EXAMPLES) == seen[-1][2] == 1
    assert classifier.predict(["well , the fine one", "poor"]) == ["up", "down"]


def test_logits_of_a_text_do_not_depend_on_its_company(learned):
    classifier, _ = learned
    texts = [text for text, _ in EXAMPLES]
    together = classifier.logits(texts, size=3)
    assert np.allclose(together, [classifier.logits([text])[0] for text in texts], atol=1e-5)


def test_attention_is_a_distribution_over_the_words(learned):
    classifier, _ = learned
    words, weights = classifier.attention("so the good one")
    assert words == ["[CLS]", "so", "the", "good", "one"]
    assert weights.shape == (1, 2, 5, 5)
    assert np.allclose(weights.sum(-1), 1)


def test_the_same_seed_gives_the_same_weights():
    one, two = (train(EXAMPLES, EXAMPLES, Options(**{**vars(TINY), "steps": 5})) for _ in range(2))
    assert all((a.data == b.data).all() for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))


@pytest.mark.parametrize(("options", "sentence"), [
    ({"steps": 0}, "steps is 0"), ({"dim": 10, "heads": 4}, "does not divide"), ({"learning_rate": 0.0}, "above 0"),
])  # fmt: skip
def test_options_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Options(**options)


def test_a_single_label_is_nothing_to_learn():
    with pytest.raises(ValueError, match="fewer than two different labels"):
        train([("a", "x"), ("b", "x")], [], TINY)
