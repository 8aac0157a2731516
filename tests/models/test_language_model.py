"""What the shared half of a language model promises beyond the properties."""

import pytest
import torch

from glassformer.models.bigram import Bigram, BigramConfig
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.tracing import attention_weights

CONFIG = GPT2Config(vocab_size=11, max_positions=16, dim=16, num_layers=2, num_heads=2)
IDS = torch.arange(10).remainder(11)[None]


def test_output_answers_by_name_and_unpacks_what_is_there() -> None:
    out = GPT2(CONFIG)(IDS, labels=IDS)
    loss, logits = out
    assert out["loss"] is loss
    assert out["logits"] is logits
    assert [value is logits for value in GPT2(CONFIG).eval()(IDS)] == [False]
    with pytest.raises(KeyError, match="CausalLMOutput has no 'hidden'; it has"):
        out["hidden"]


def test_fitted_bigram_is_the_count_of_pairs() -> None:
    tokens = torch.tensor([0, 1, 0, 2, 0, 1])
    model = Bigram(BigramConfig(vocab_size=3)).fit(tokens, smoothing=0.0)
    probabilities = model(tokens[None]).logits.softmax(-1)[0, 0]
    torch.testing.assert_close(probabilities, torch.tensor([0.0, 2 / 3, 1 / 3]))


def test_fitted_bigram_beats_every_step_of_gradient_descent() -> None:
    tokens = torch.randint(5, (400,), generator=torch.Generator().manual_seed(0)).cumsum(0) % 5
    fitted = Bigram(BigramConfig(vocab_size=5)).fit(tokens, smoothing=0.0)
    best = fitted(tokens[None, :-1], targets=tokens[None, 1:]).loss
    learned = Bigram(BigramConfig(vocab_size=5))
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss = learned(tokens[None, :-1], targets=tokens[None, 1:]).loss
        assert loss >= best - 1e-6
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(loss, best, rtol=0, atol=2e-3)


def test_gpt2_draws_residual_weights_smaller_by_the_root_of_their_number() -> None:
    model = GPT2(GPT2Config(vocab_size=11, dim=256, num_layers=8, num_heads=2))
    plain, residual = model.blocks[3].feed_forward.up.weight.std(), model.blocks[3].feed_forward.down.weight.std()
    torch.testing.assert_close(plain, torch.tensor(0.02), rtol=0.02, atol=0)
    torch.testing.assert_close(residual, torch.tensor(0.02 / 16**0.5), rtol=0.02, atol=0)


def test_attention_weights_are_causal_distributions_and_leave_the_model_as_it_was() -> None:
    model = GPT2(CONFIG).train()
    before = [layer.kernel for layer in model.modules() if hasattr(layer, "kernel")]
    seen = attention_weights(model, IDS)
    assert list(seen) == ["blocks.0.attention", "blocks.1.attention"]
    for weights in seen.values():
        assert weights.shape == (1, 2, 10, 10)
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 10))
        assert (weights.triu(1) == 0).all()
    assert model.training
    assert [layer.kernel for layer in model.modules() if hasattr(layer, "kernel")] == before
    assert not any(layer._forward_hooks for layer in model.modules())


def test_attention_weights_of_a_model_without_attention_are_refused() -> None:
    with pytest.raises(ValueError, match="Bigram has no attention layer"):
        attention_weights(Bigram(BigramConfig(vocab_size=11)), IDS)
