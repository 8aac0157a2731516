"""Generation by hand: the cache, the draws, padding, and what is refused."""

import numpy as np
import pytest
from mirrors import redraw

from glassformer.by_hand import GPT2, GPT2Config, Llama, LlamaConfig, generate, stream
from glassformer.by_hand.generation import sample

SHAPE = dict(vocab_size=31, max_positions=24, dim=24, num_layers=2, num_heads=4)
MODELS = {
    "gpt2": lambda: redraw(GPT2(GPT2Config(**SHAPE))).eval(),
    "llama": lambda: redraw(Llama(LlamaConfig(**SHAPE, hidden_dim=40, num_kv_heads=2))).eval(),
}
PROMPT = np.random.default_rng(0).integers(0, 31, (2, 5))


@pytest.mark.parametrize("name", MODELS)
def test_greedy_takes_the_likeliest_of_a_full_pass_each_time(name):
    model = MODELS[name]()
    ids = PROMPT
    for _ in range(12):
        ids = np.concatenate([ids, model(ids)[:, -1:].argmax(-1)], 1)
    assert (model.generate(PROMPT, max_new_tokens=12) == ids).all()
    assert len(np.unique(ids[:, 5:])) > 2


@pytest.mark.parametrize("name", MODELS)
def test_left_padded_prompts_continue_as_each_alone(name):
    model = MODELS[name]()
    prompts = [[4, 9, 1, 7, 2, 5], [8, 3], [6]]
    padded = np.array([[0] * (6 - len(prompt)) + prompt for prompt in prompts])
    mask = np.array([[0] * (6 - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    together = generate(model, padded, mask, max_new_tokens=8)[:, 6:]
    for prompt, row in zip(prompts, together, strict=True):
        assert generate(model, prompt, max_new_tokens=8)[0, len(prompt) :].tolist() == row.tolist()


def test_draws_follow_the_seed():
    model = MODELS["gpt2"]()
    options = {"max_new_tokens": 15, "do_sample": True, "temperature": 2.0}
    first = model.generate(PROMPT, seed=1, **options)
    assert (first == model.generate(PROMPT, seed=1, **options)).all()
    assert (first != model.generate(PROMPT, seed=2, **options)).any()


def test_draws_have_the_probabilities_of_the_softmax():
    logits = np.log(np.array([[0.1, 0.6, 0.0001, 0.2999]]))
    drawn = sample(np.repeat(logits, 40_000, 0), np.random.default_rng(0))
    assert np.bincount(drawn, minlength=4) / 40_000 == pytest.approx(np.exp(logits[0]), abs=0.01)
    sharp = sample(np.repeat(logits, 40_000, 0), np.random.default_rng(0), temperature=0.5)
    expected = np.exp(2 * logits[0]) / np.exp(2 * logits[0]).sum()
    assert np.bincount(sharp, minlength=4) / 40_000 == pytest.approx(expected, abs=0.01)


def test_top_k_draws_from_the_k_likeliest_only():
    logits = np.repeat(np.array([[1.0, 3.0, 2.0, 0.0]]), 2000, 0)
    assert set(sample(logits, np.random.default_rng(0), top_k=2)) == {1, 2}
    assert set(sample(logits, np.random.default_rng(0), top_k=1)) == {1}
    assert set(sample(logits, np.random.default_rng(0), top_k=9)) == {0, 1, 2, 3}
    assert (logits[0] == [1.0, 3.0, 2.0, 0.0]).all()


def test_a_row_that_ended_repeats_its_end_and_all_stop_when_all_ended():
    model = MODELS["gpt2"]()
    plain = model.generate(PROMPT, max_new_tokens=12)
    end = plain[0, 7]
    ended = model.generate(PROMPT, max_new_tokens=12, eos_token_id=end)
    first = 5 + plain[0, 5:].tolist().index(end)
    assert (ended[0, : first + 1] == plain[0, : first + 1]).all()
    assert (ended[0, first:] == end).all()
    alone = model.generate(PROMPT[:1], max_new_tokens=12, eos_token_id=end)
    assert alone.shape == (1, first + 1)


def test_streaming_gives_the_tokens_one_by_one():
    model = MODELS["llama"]()
    tokens = stream(model, PROMPT[0].tolist(), max_new_tokens=4)
    assert next(tokens).shape == (1,)
    assert len(list(tokens)) == 3


@pytest.mark.parametrize(("prompt", "options", "message"), [
    ([], {}, "the prompt is empty"),
    ([1, 2], {"max_new_tokens": 23}, r"2 \+ 23 tokens do not fit into the model's 24 positions"),
    ([1], {"max_new_tokens": 0}, "max_new_tokens=0"),
    ([1], {"temperature": 0.0}, "temperature=0.0; expected more than 0"),
    ([1], {"top_k": 0}, "top_k=0"),
    ([31], {}, "input_ids holds 31"),
])  # fmt: skip
def test_impossible_requests_are_refused(prompt, options, message):
    with pytest.raises(ValueError, match=message):
        MODELS["gpt2"]().generate(np.array(prompt, int), **options)
