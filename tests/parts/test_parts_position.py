"""Positions: against their equations, against transformers' frequencies, and by what they promise."""

import math
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from glassformer.parts import (
    DynamicScaling,
    LearnedPosition,
    LinearScaling,
    Llama3Scaling,
    Rotary,
    RotaryScaling,
    SinusoidalPosition,
    YarnScaling,
)
from glassformer.parts.position import rotary_frequency

K, BASE, MAX = 64, 500_000.0, 256
SCALINGS: dict[str, tuple[RotaryScaling | None, dict[str, Any]]] = {  # ours, and theirs
    "linear": (LinearScaling(factor=4.0), {"rope_type": "linear", "factor": 4.0}),
    "dynamic": (DynamicScaling(factor=3.0, max_positions=MAX), {"rope_type": "dynamic", "factor": 3.0}),
    "llama3": (
        Llama3Scaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_max_positions=128),
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 128},
    ),
    "yarn": (
        YarnScaling(factor=4.0, original_max_positions=64),
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    ),
    "yarn, every number given": (
        YarnScaling(factor=2.0, original_max_positions=128, beta_fast=16.0, beta_slow=2.0, attention_factor=0.7,
                    truncate=False),
        {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 128, "beta_fast": 16.0,
         "beta_slow": 2.0, "attention_factor": 0.7, "truncate": False},
    ),
}  # fmt: skip
OURS: dict[str, RotaryScaling | None] = {"none": None} | {name: ours for name, (ours, _) in SCALINGS.items()}


@pytest.mark.parametrize("length", [10, MAX, 1000])
@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies_and_magnitudes_are_those_of_transformers(name: str, length: int) -> None:
    ours, theirs = SCALINGS[name]
    assert ours is not None
    config = LlamaConfig(
        hidden_size=4 * K,
        num_attention_heads=4,
        max_position_embeddings=MAX,
        rope_parameters=theirs | {"rope_theta": BASE},
    )
    expected, magnitude = ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, torch.device("cpu"), seq_len=length)
    frequency = ours.frequency(K, BASE, length)
    assert frequency.dtype == torch.float64
    torch.testing.assert_close(frequency.float(), expected, rtol=2e-6, atol=0)
    assert ours.magnitude == pytest.approx(magnitude)
    if name != "dynamic" or length > MAX:
        assert not torch.allclose(frequency, rotary_frequency(K, BASE)), "the scaling does nothing here"


def test_frequencies_are_those_of_the_paper() -> None:
    assert rotary_frequency(4, 100.0).tolist() == pytest.approx([1.0, 0.1])


@pytest.mark.parametrize("name", OURS)
def test_a_rotation_turns_each_pair_by_position_times_frequency(name: str) -> None:
    rotary = Rotary(6, base=100.0, scaling=OURS[name])
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    positions = torch.tensor([[0, 1, 2, 3, 4], [7, 8, 9, 20, 21]])
    turned = rotary(positions)(x)
    scaling = OURS[name] or LinearScaling(factor=1.0)
    frequency = scaling.frequency(6, 100.0, 22).tolist()
    for b in range(2):
        for t in range(5):
            for i in range(3):
                angle = positions[b, t].item() * frequency[i]
                cos, sin = scaling.magnitude * math.cos(angle), scaling.magnitude * math.sin(angle)
                left, right = x[b, :, t, i], x[b, :, t, i + 3]
                torch.testing.assert_close(turned[b, :, t, i], left * cos - right * sin, rtol=1e-13, atol=1e-13)
                torch.testing.assert_close(turned[b, :, t, i + 3], right * cos + left * sin, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", OURS)
def test_scores_depend_on_the_distance_only(name: str) -> None:
    rotary = Rotary(K, base=BASE, scaling=OURS[name])
    q, k = torch.randn(2, 1, 1, 1, K, dtype=torch.float64)

    def score(i: int, j: int) -> Tensor:
        # One call for both: a dynamic scaling goes by the longest position it is given.
        both = rotary(torch.tensor([i, j, 900]))(torch.cat([q, k, k], dim=2))
        return both[0, 0, 0] @ both[0, 0, 1]

    for distance in (0, 3, 40):
        near, far = score(50 + distance, 50), score(700 + distance, 700)
        torch.testing.assert_close(near, far, rtol=1e-11, atol=1e-11)
    assert not torch.isclose(score(60, 50), score(50, 60)), "the order does not matter"


def test_dynamic_scaling_leaves_short_sequences_alone() -> None:
    scaling = DynamicScaling(factor=3.0, max_positions=MAX)
    assert torch.equal(scaling.frequency(K, BASE, MAX), rotary_frequency(K, BASE))
    assert torch.equal(scaling.frequency(K, BASE, torch.tensor(700)), scaling.frequency(K, BASE, 700))
    assert scaling.frequency(K, BASE, 700)[-1] > scaling.frequency(K, BASE, 1400)[-1]
    angle = 600 * scaling.frequency(K, BASE, 601)
    cos = Rotary(K, base=BASE, scaling=scaling)(torch.tensor([3, 600])).cos[1, : K // 2]
    torch.testing.assert_close(cos, angle.cos(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_rotation_keeps_the_dtype_and_one_serves_all(dtype: torch.dtype) -> None:
    rotate = Rotary(8)(torch.arange(5))
    x = torch.randn(1, 2, 5, 8, dtype=torch.float64)
    assert rotate(x.to(dtype)).dtype == dtype
    torch.testing.assert_close(
        rotate(x.to(dtype)).double(), rotate(x), rtol=0, atol=4 * torch.finfo(dtype).eps * x.abs().max().item()
    )


def test_far_positions_keep_the_precision_of_the_dtype() -> None:
    x = torch.randn(1, 1, 1, K)
    position = torch.tensor([131_071])
    exact = Rotary(K)(position)(x.double())
    torch.testing.assert_close(Rotary(K)(position)(x).double(), exact, rtol=0, atol=1e-6)


def test_a_rotary_made_on_the_meta_device_works_and_has_no_state() -> None:
    with torch.device("meta"):
        rotary = Rotary(8, scaling=LinearScaling(factor=2.0))
    x = torch.randn(1, 1, 4, 8)
    assert torch.equal(rotary(torch.arange(4))(x), Rotary(8, scaling=LinearScaling(factor=2.0))(torch.arange(4))(x))
    assert not rotary.state_dict()
    assert torch.equal(rotary.to(torch.bfloat16)(torch.arange(4))(x), rotary(torch.arange(4))(x))


@pytest.mark.parametrize("name", ["none", "dynamic", "yarn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_rotary_compiles_whole_and_once(name: str) -> None:
    rotary = Rotary(8, scaling=OURS[name])
    torch._dynamo.reset()
    graphs = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(lambda p, x: rotary(p)(x), fullgraph=True, backend=graphs)
    for start in (0, 5, 300):
        positions, x = torch.arange(start, start + 4), torch.randn(1, 2, 4, 8)
        torch.testing.assert_close(compiled(positions, x), rotary(positions)(x))
    assert graphs.frame_count == 1


def test_sinusoids_are_the_equation_in_any_dtype() -> None:
    position = SinusoidalPosition(max_positions=50, dim=6)
    table = position(torch.tensor([[0, 3], [49, 7]]), torch.float64)
    for (b, t), p in {(0, 0): 0, (0, 1): 3, (1, 0): 49, (1, 1): 7}.items():
        for i in range(3):
            angle = p / 10_000 ** (2 * i / 6)
            assert table[b, t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-14)
            assert table[b, t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-14)
    assert position(torch.arange(3)).dtype == torch.float32
    assert position(torch.arange(3), torch.bfloat16).dtype == torch.bfloat16
    assert not position.state_dict()


def test_a_position_beyond_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match="position 50 is not below max_positions=50"):
        SinusoidalPosition(50, 6)(torch.arange(51))


def test_learned_positions_are_rows_of_their_weight() -> None:
    position = LearnedPosition(7, 3)
    ids = torch.tensor([[2, 2], [0, 6]])
    assert torch.equal(position(ids), position.weight[ids])


def test_odd_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="head_dim=7 is odd"):
        Rotary(7)
    with pytest.raises(ValueError, match="dim=7 is odd"):
        SinusoidalPosition(10, 7)
