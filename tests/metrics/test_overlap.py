"""BLEU is sacrebleu's, ROUGE equals rouge-score's; perplexity by hand."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu

from glassformer.metrics import bits_per_byte, bleu, perplexity, rouge

TEXTS = st.lists(st.sampled_from(["a", "b", "The", "cat-3", "ünder", "it's", ".", "B"]), max_size=12).map(" ".join)
SCORER = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
def test_rouge_equals_rouge_score(pairs):
    predictions, references = zip(*pairs, strict=True)
    scores = [SCORER.score(reference, prediction) for prediction, reference in pairs]
    ours = rouge(predictions, references)
    for name in ("rouge1", "rouge2", "rougeL"):
        assert ours[name] == pytest.approx(sum(score[name].fmeasure for score in scores) / len(scores)), name


def test_rouge_by_hand():
    scores = rouge(["the cat sat on the mat"], ["the cat lay on a mat"])
    assert scores == {"rouge1": pytest.approx(4 / 6), "rouge2": pytest.approx(1 / 5), "rougeL": pytest.approx(4 / 6)}


def test_bleu_is_sacrebleus_with_one_reference_or_several():
    predictions = ["The cat sat on the mat.", "It is, perhaps, raining today."]
    references = ["the cat sat upon the mat.", "It is perhaps raining today."]
    assert bleu(predictions, references) == pytest.approx(corpus_bleu(predictions, [references]).score)
    lowercased = corpus_bleu(predictions, [references], lowercase=True).score
    assert bleu(predictions, references, lowercase=True) == pytest.approx(lowercased)
    assert lowercased > bleu(predictions, references)
    others = ["The cat sat on the mat.", "Perhaps it rains."]
    both = corpus_bleu(predictions, [references, others]).score
    assert bleu(predictions, [list(pair) for pair in zip(references, others, strict=True)]) == pytest.approx(both)
    with pytest.raises(ValueError, match="same number of references"):
        bleu(predictions, [["a"], ["a", "b"]])


def test_bleu_without_sacrebleu_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(ImportError, match=r"pip install 'glassformer\[metrics\]'"):
        bleu(["a"], ["a"])


def test_perplexity_of_a_uniform_guess_is_the_number_of_choices():
    assert perplexity(10 * math.log(50), 10) == pytest.approx(50)
    assert perplexity(1000, 1) == math.inf
    assert bits_per_byte(16 * math.log(2), 4) == pytest.approx(4)
    with pytest.raises(ValueError, match="tokens is 0"):
        perplexity(1.0, 0)
    with pytest.raises(ValueError, match="num_bytes is 0"):
        bits_per_byte(1.0, 0)
