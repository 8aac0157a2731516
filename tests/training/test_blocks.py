from collections.abc import Callable
from typing import Any

import pytest
import torch

from glassformer.models.bigram import Bigram, BigramConfig
from glassformer.models.gpt import GPT, GPTConfig
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.training import checkpoint_activations, zero_residuals

SIZE: dict[str, Any] = {"vocab_size": 13, "max_positions": 8, "dim": 8, "num_layers": 3, "num_heads": 2}
MAKE: dict[str, Callable[[], Any]] = {
    "gpt": lambda: GPT(GPTConfig(**SIZE)),
    "gpt2": lambda: GPT2(GPT2Config(**SIZE)),
    "llama": lambda: Llama(LlamaConfig(**SIZE, hidden_dim=12, attention_dropout=0.2)),
}
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9, 3]])


def gradients(model: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)  # of the dropout
    model.train()
    model.zero_grad()
    model(IDS, labels=IDS).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", MAKE)
def test_gradients_with_recomputed_activations_are_bit_equal_with_dropout(name: str) -> None:
    model = MAKE[name]()
    plain = gradients(model)
    recomputed = gradients(checkpoint_activations(model))
    assert plain.keys() == recomputed.keys()
    for key, gradient in plain.items():
        assert gradient.equal(recomputed[key]), key


def test_blocks_are_indeed_computed_twice_in_training_and_once_elsewhere() -> None:
    model = MAKE["gpt2"]()
    calls = []
    model.blocks[1].feed_forward.register_forward_hook(lambda *_: calls.append(1))
    checkpoint_activations(model)
    gradients(model)
    assert len(calls) == 2
    calls.clear()
    with torch.no_grad():
        model(IDS)
    model.eval()
    model(IDS)
    model.generate(IDS[:, :2], max_new_tokens=2)
    assert len(calls) == 4


def test_the_state_dict_is_as_it_was() -> None:
    model = MAKE["gpt2"]()
    names = list(model.state_dict())
    assert list(checkpoint_activations(model).state_dict()) == names


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_zeroed_residuals_make_every_block_the_identity(name: str) -> None:
    model = zero_residuals(MAKE[name]()).eval()
    entered, left = [], []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    model.blocks[-1].register_forward_hook(lambda _, __, output: left.append(output))
    model(IDS)
    assert entered[0].equal(left[0])


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="Bigram has no blocks"):
        checkpoint_activations(Bigram(BigramConfig(vocab_size=5)))
