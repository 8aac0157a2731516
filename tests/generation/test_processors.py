"""Each logits processor equals the one of the same meaning in transformers."""

import pytest
import torch
from torch import Tensor
from transformers import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    MinLengthLogitsProcessor,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from glassformer.generation import (
    ForcedToken,
    MinLength,
    MinP,
    NoRepeatNGram,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)

IDS = torch.tensor([[1, 2, 3, 3, 0], [4, 4, 4, 4, 4], [6, 5, 4, 3, 2]])


def random_logits(vocab_size: int, seed: int, *, ties: bool = False) -> Tensor:
    logits = torch.randn(3, vocab_size, generator=torch.Generator().manual_seed(seed)) * 3
    return logits.round() if ties else logits


LOGITS = {
    "small": random_logits(11, 1),
    "ties": random_logits(40, 2, ties=True),
    "all equal": torch.zeros(3, 9),
    "wide": random_logits(1000, 3),
    "wide with ties": random_logits(1000, 4, ties=True),
    "flat and wide": random_logits(1000, 5) * 0.01,
    "bfloat16's ties": random_logits(1000, 6).bfloat16().float(),
    "one token left": torch.full((3, 11), float("-inf")).index_fill(1, torch.tensor([4]), 2.0),
    "some removed": random_logits(40, 7).masked_fill(torch.arange(40) % 3 == 0, float("-inf")),
}


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *((RepetitionPenalty(x), RepetitionPenaltyLogitsProcessor(x)) for x in (0.5, 1.0, 1.3, 4.0)),
        *((Temperature(x), TemperatureLogitsWarper(x)) for x in (0.01, 0.7, 1.0, 30.0)),
        *((TopK(x), TopKLogitsWarper(x)) for x in (1, 2, 7, 40, 5000)),
        *((TopP(x), TopPLogitsWarper(x)) for x in (0.0, 1e-6, 0.1, 0.5, 0.9, 0.99)),
        *((NoRepeatNGram(x), NoRepeatNGramLogitsProcessor(x)) for x in (1, 2, 3, 5, 6)),
        *((MinLength(x, (4, 2)), MinLengthLogitsProcessor(x, [4, 2])) for x in (1, 5, 6, 9)),
        *((MinP(x), MinPLogitsWarper(x)) for x in (0.0, 0.05, 0.5, 1.0)),
    ],
    ids=lambda x: repr(x) if x.__class__.__module__.startswith("glassformer") else "",
)
def test_equals_transformers(name: str, ours, theirs) -> None:
    logits = LOGITS[name]
    before = logits.clone()
    result, expected = ours(IDS, logits), theirs(IDS, logits.clone())
    if isinstance(ours, TopP):  # which of equal logits are the last to stay is left to an unstable sort by theirs
        result, expected = result.sort(-1).values, expected.sort(-1).values
    assert torch.equal(result, expected)
    assert torch.equal(logits, before), "the given logits were changed"


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_top_p_keeps_the_very_tokens_of_transformers_where_none_tie(p: float) -> None:
    for name in ("small", "wide", "flat and wide"):
        assert torch.equal(TopP(p)(IDS, LOGITS[name]), TopPLogitsWarper(p)(IDS, LOGITS[name]))


def test_top_p_of_zero_is_greedy_with_the_smallest_id_of_equals() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 3.0, 2.0]])
    kept = TopP(0.0)(IDS[:1], logits) > float("-inf")
    assert kept.nonzero()[:, 1].tolist() == [1] == logits.argmax(-1).tolist()


def test_top_p_keeps_of_equals_at_the_edge_the_smaller_ids() -> None:
    kept = TopP(0.5)(IDS[:1], torch.zeros(1, 8)) > float("-inf")
    assert kept.nonzero()[:, 1].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", LOGITS)
def test_top_p_of_one_keeps_the_distribution(name: str) -> None:
    logits = LOGITS[name]
    ours, theirs = TopP(1.0)(IDS, logits), TopPLogitsWarper(1.0)(IDS, logits)
    assert torch.equal(ours.softmax(-1), logits.softmax(-1))
    assert torch.equal(theirs.softmax(-1), logits.softmax(-1))


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 5e-324])
def test_a_temperature_near_zero_is_the_greedy_limit_without_overflow(temperature: float) -> None:
    probabilities = Temperature(temperature)(IDS, LOGITS["small"]).softmax(-1)
    assert torch.equal(probabilities.argmax(-1), LOGITS["small"].argmax(-1))
    assert torch.allclose(probabilities.amax(-1), torch.ones(3))


def test_a_temperature_near_zero_shares_between_ties() -> None:
    logits = torch.tensor([[3.0, 1.0, 3.0]])
    assert torch.equal(Temperature(1e-12)(IDS[:1], logits).softmax(-1), torch.tensor([[0.5, 0.0, 0.5]]))


def test_top_p_searches_further_than_its_first_guess_where_it_must() -> None:
    logits = random_logits(3000, 8) * 1e-3
    kept = (TopP(0.5)(IDS, logits) > float("-inf")).sum(-1)
    assert (kept > 1000).all()
    assert torch.equal(kept, (TopPLogitsWarper(0.5)(IDS, logits) > float("-inf")).sum(-1))


@pytest.mark.parametrize("name", LOGITS)
def test_a_forced_token_is_that_of_transformers_and_elsewhere_nothing_changes(name: str) -> None:
    first, last = ForcedBOSTokenLogitsProcessor(3), ForcedEOSTokenLogitsProcessor(9, 4, device="cpu")
    for length in (1, 2, 5, 8, 9):
        ids = torch.ones(3, length, dtype=torch.int64)
        assert torch.equal(ForcedToken(1, 3)(ids, LOGITS[name]), first(ids, LOGITS[name]))
        assert torch.equal(ForcedToken(8, 4)(ids, LOGITS[name]), last(ids, LOGITS[name]))
