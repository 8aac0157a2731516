"""What is said to be kept for the backward pass is what the derivatives need, each memory once."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from glassformer.parts import Attention, kernels
from glassformer.tracing import saved_for_backward


def shapes(model: nn.Module, *inputs: torch.Tensor) -> list[tuple[int, ...]]:
    return [each.tensor.shape for each in saved_for_backward(model, *inputs)]


def test_a_product_keeps_its_input_and_what_two_operators_keep_counts_once() -> None:
    x = torch.randn(3, 4)
    found = saved_for_backward(nn.Linear(4, 5), x)
    assert [(str(each.tensor), each.bytes) for each in found] == [("f32(3, 4)", 48)]
    both = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    assert shapes(both, x) == [(3, 4), (3, 6)]  # the ReLU's output is the input of the second product
    assert shapes(nn.Sequential(nn.Linear(4, 6), nn.Softmax(-1)), x) == [(3, 4), (3, 6)]


def test_parameters_are_left_out_and_views_are_their_memory() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x @ self.weight.T).exp()[:1] * x[:1]

    found = saved_for_backward(Views(), torch.randn(3, 4))
    assert [each.bytes for each in found] == [48, 48]  # x, and exp's output: of each two views are kept


def test_nothing_is_kept_without_gradients_and_inputs_alone_under_checkpointing() -> None:
    layer = nn.Sequential(nn.Linear(4, 64), nn.GELU(), nn.Linear(64, 4))
    with torch.no_grad():
        assert saved_for_backward(layer, torch.randn(3, 4)) == []

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.layer, x, use_reentrant=False)  # pyright: ignore

    inner = sum(each.bytes for each in saved_for_backward(layer, torch.randn(3, 4)))
    assert inner >= 48 + 2 * 3 * 64 * 4
    assert sum(each.bytes for each in saved_for_backward(Again(), torch.randn(3, 4))) <= 48


def test_fused_attention_keeps_no_weights() -> None:
    layer, x = Attention(16, 2), torch.randn(1, 64, 16)
    with kernels(layer, attend="reference"):
        assert (1, 2, 64, 64) in shapes(layer, x)
    with kernels(layer, attend="sdpa"):
        assert (1, 2, 64, 64) not in shapes(layer, x)
        assert (1, 2, 64) in shapes(layer, x)  # the logarithm of each row's sum
