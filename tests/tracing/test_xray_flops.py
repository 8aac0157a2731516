"""FLOPs equal the closed formulas, and PyTorch's counter where both count."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from glassformer.models import BERT, GPT2, BERTConfig, GPT2Config, Llama, LlamaConfig
from glassformer.parts import use_kernels
from glassformer.tracing import xray
from glassformer.tracing.flops import visible_pairs

B, T, D, L, V, M = 2, 24, 64, 3, 61, 256
IDS = torch.arange(B * T).view(B, T) % V
SIZES = {"vocab_size": V, "dim": D, "num_layers": L, "num_heads": 4}


def theirs(model: nn.Module, *inputs: object, backward: bool = False) -> int:
    with FlopCounterMode(display=False) as counter:
        out = model(*inputs)
        if backward:
            out.loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(("attend", "pairs"), [("reference", T * T), ("sdpa", T * (T + 1) // 2)])
def test_gpt2_equals_its_closed_formula(attend: str, pairs: int) -> None:
    model = use_kernels(GPT2(GPT2Config(**SIZES, max_positions=T)), attend=attend).eval()
    block = B * T * (4 * 2 * D * D + 2 * 2 * D * M) + B * 2 * 2 * D * pairs  # q, k, v, o; up, down; scores, mixing
    expected = L * block + 2 * B * T * D * V
    with torch.no_grad():
        assert xray(model, IDS).flops == expected
    trace = xray(model, IDS, labels=IDS, backward=True)
    scores_again = L * B * 2 * D * pairs if attend == "sdpa" else 0
    assert trace.flops == 3 * expected + scores_again  # each product has two gradients


def test_bert_equals_its_closed_formula() -> None:
    model = BERT(BERTConfig(**SIZES, hidden_dim=M, max_positions=T)).eval()
    block = B * T * (4 * 2 * D * D + 2 * 2 * D * M) + B * 2 * 2 * D * T * T
    with torch.no_grad():
        assert xray(model, IDS).flops == L * block + 2 * B * D * D


def test_llama_with_grouped_heads_equals_its_closed_formula() -> None:
    config = LlamaConfig(**SIZES, num_kv_heads=2, hidden_dim=M, head_dim=16, max_positions=T)
    model = use_kernels(Llama(config), attend="products").eval()
    kv = 2 * 16
    block = B * T * 2 * (2 * D * D + 2 * D * kv + 3 * D * M) + B * 2 * 2 * D * T * T
    with torch.no_grad():
        assert xray(model, IDS).flops == L * block + 2 * B * T * D * V


@pytest.mark.parametrize("backward", [False, True])
def test_flops_agree_with_the_counter_of_torch_on_plain_operators(backward: bool) -> None:
    model = use_kernels(GPT2(GPT2Config(**SIZES, max_positions=T)), attend="reference", linear="reference").eval()
    inputs = (IDS, None, IDS)
    assert xray(model, *inputs, backward=backward).flops == theirs(model, *inputs, backward=backward) > 0


def test_convolutions_agree_with_the_counter_of_torch() -> None:
    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(4, 8, 3, stride=2, groups=2), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2), nn.Conv2d(3, 5, 1)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x).square().mean()

    model, x = Loss(), torch.randn(2, 4, 15, 15, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model(x)
    trace = xray(model, x, backward=True)
    assert trace.forward_flops == counter.get_total_flops()
    assert trace.flops == 3 * trace.forward_flops


def test_onednn_products_count_as_the_products_they_are_where_the_counter_of_torch_sees_none() -> None:
    model = use_kernels(GPT2(GPT2Config(**SIZES, max_positions=T)), attend="reference").eval()
    with torch.no_grad():
        plain = xray(use_kernels(model, linear="reference"), IDS).flops
        packed = xray(use_kernels(model, linear="onednn"), IDS)
        missed = theirs(model, IDS)
    assert packed.flops == plain
    by_onednn = sum(op.flops for op in packed.operations if op.name == "mkldnn._linear_pointwise")
    assert by_onednn > 0
    assert missed == plain - by_onednn


@pytest.mark.parametrize("is_causal", [False, True])
def test_fused_attention_counts_the_pairs_that_meet(is_causal: bool) -> None:
    class Attend(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal).sum()

    q, k, v = (torch.randn(2, 4, T, 16, requires_grad=True) for _ in range(3))
    pairs = T * (T + 1) // 2 if is_causal else T * T
    trace = xray(Attend(), q, k, v, backward=True)
    assert trace.forward_flops == 2 * 4 * pairs * 2 * 2 * 16
    assert trace.flops == 2 * 4 * pairs * 2 * 7 * 16  # two products forward; five backward, the scores being lost


@pytest.mark.parametrize(("t", "s"), [(5, 5), (3, 7), (7, 3), (1, 4)])
def test_visible_pairs_are_those_of_the_causal_triangle(t: int, s: int) -> None:
    assert visible_pairs(t, s, True) == int(torch.ones(t, s).tril().sum())
    assert visible_pairs(t, s, False) == t * s


def test_the_fast_path_of_torch_is_one_operator_with_the_flops_of_its_parts() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    x = torch.randn(2, 5, 16)
    slow = xray(layer, x)
    with torch.inference_mode():
        fast = xray(layer, x)
    assert [op.name for op in fast.operations if op.flops] == ["aten._transformer_encoder_layer_fwd"]
    assert fast.flops == slow.flops > 0


@pytest.mark.filterwarnings("ignore:.*nested tensor:UserWarning")
def test_rows_of_unequal_lengths_count_as_long_as_they_are() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2).eval()
    x, padding = torch.randn(2, 5, 16), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.inference_mode():
        both = xray(model, x, src_key_padding_mask=padding)
        rows = xray(model, x[:1]).flops + xray(model, x[:1, :3]).flops
    assert both.error is None
    assert both.flops == rows
    assert "nested f32(2, 5, 16)" in [str(each) for each in both.find("layers.0").inputs]
