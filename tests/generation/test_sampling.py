"""Samples have the distribution of the processed logits, and each row's depends on its own seed alone."""

import pytest
import torch
from declared_decoders import DECODERS
from properties import build

from glassformer.generation.choose import draw, uniforms

GPT2 = next(case for case in DECODERS if case.name == "gpt2")
BIGRAM = next(case for case in DECODERS if case.name == "bigram")
SAMPLE = {"max_new_tokens": 12, "do_sample": True}


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """(Σ (n − e)² / e − degrees of freedom) / √(2 · degrees of freedom): about normal where the expected are right."""
    assert (counts[expected == 0] == 0).all(), "a token of probability 0 was drawn"
    counts, expected = counts[expected > 0], expected[expected > 0]
    freedom = len(counts) - 1
    return ((((counts - expected) ** 2) / expected).sum().item() - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 9},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"temperature": 2.0, "top_k": 30, "top_p": 0.8},
    ],
    ids=str,
)
def test_samples_have_the_distribution_of_the_processed_logits(options: dict) -> None:
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    model, rows = build(BIGRAM, torch.float32), 20_000
    out = model.generate([7], max_new_tokens=1, do_sample=True, num_return_sequences=rows, seed=3, **options)
    theirs = {"temperature": TemperatureLogitsWarper, "top_k": TopKLogitsWarper, "top_p": TopPLogitsWarper,
              "min_p": MinPLogitsWarper}  # fmt: skip
    logits = model.embed.weight[7:8].detach()
    for name, value in options.items():
        logits = theirs[name](value)(out, logits)
    expected = logits[0].softmax(-1).double() * rows
    assert abs(chi_square(out[:, 1].bincount(minlength=61).double(), expected)) < 4


def test_draws_along_one_sequence_have_the_models_distribution() -> None:
    model, rows = build(BIGRAM, torch.float32), 2000
    with torch.no_grad():
        model.embed.weight.copy_(model.embed.weight[:1].expand_as(model.embed.weight))  # every step alike
    out = model.generate([7], max_new_tokens=rows, do_sample=True, seed=1)
    expected = model.embed.weight[0].detach().softmax(-1).double() * rows
    assert abs(chi_square(out[0, 1:].bincount(minlength=61).double(), expected)) < 4


@pytest.mark.parametrize("uniform", [0.0, 0.25, 0.5, 1 - 2**-52])
def test_a_removed_token_is_never_drawn(uniform: float) -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), float("-inf"), 0.0, float("-inf")]])
    expected = 1 if uniform < 0.5 else 4
    assert draw(logits, torch.tensor([uniform], dtype=torch.float64)).item() == expected


def test_all_uniforms_are_below_one_and_above_or_equal_to_zero() -> None:
    table = uniforms(4, 1000, seed=0)
    assert table.min() >= 0
    assert table.max() < 1
    assert abs(table.mean() - 0.5) < 0.02


def test_the_same_seed_gives_the_same_sample_and_another_another() -> None:
    model = build(GPT2, torch.float32)
    first = model.generate([1, 2], seed=5, **SAMPLE)
    assert torch.equal(model.generate([1, 2], seed=5, **SAMPLE), first)
    assert not torch.equal(model.generate([1, 2], seed=6, **SAMPLE), first)


def test_row_i_of_a_batch_is_that_prompt_alone_with_seed_plus_i() -> None:
    model, prompts = build(GPT2, torch.float32), [[1, 2, 3], [4], [5, 6]]
    together = model.generate(prompts, seed=10, temperature=0.9, top_k=20, **SAMPLE)
    for i, prompt in enumerate(prompts):
        alone = model.generate(prompt, seed=10 + i, temperature=0.9, top_k=20, **SAMPLE)
        assert torch.equal(together[i, 3 - len(prompt) :], alone[0])


def test_several_samples_of_a_prompt_stand_together_and_differ() -> None:
    model = build(GPT2, torch.float32)
    out = model.generate([[1, 2], [3]], num_return_sequences=3, seed=0, **SAMPLE)
    assert out[:, :2].tolist() == [[1, 2]] * 3 + [[0, 3]] * 3
    assert len({tuple(row.tolist()) for row in out}) == 6


def test_a_longer_sample_begins_as_the_shorter_with_the_same_seed() -> None:
    model = build(GPT2, torch.float32)
    long = model.generate([1], seed=2, do_sample=True, max_new_tokens=30)
    assert torch.equal(model.generate([1], seed=2, do_sample=True, max_new_tokens=5), long[:, :6])


def test_without_a_seed_torchs_generator_decides() -> None:
    model = build(GPT2, torch.float32)
    torch.manual_seed(4)
    first, second = (model.generate([1], **SAMPLE) for _ in range(2))
    torch.manual_seed(4)
    assert torch.equal(model.generate([1], **SAMPLE), first)
    assert not torch.equal(first, second)
    given = [model.generate([1], generator=torch.Generator().manual_seed(8), **SAMPLE) for _ in range(2)]
    assert torch.equal(*given)


def test_a_sample_with_a_seed_leaves_torchs_generator_alone() -> None:
    model = build(GPT2, torch.float32)
    state = torch.get_rng_state()
    model.generate([1], seed=0, **SAMPLE)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}], ids=str)
def test_the_narrowest_sample_is_greedy(options: dict) -> None:
    model = build(GPT2, torch.float32)
    greedy = model.generate([[1, 2], [3]], max_new_tokens=12)
    assert torch.equal(model.generate([[1, 2], [3]], **SAMPLE, **options), greedy)
