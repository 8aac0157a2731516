"""ALiBi's slopes, for head counts that are a power of two and others, and its distances."""

import pytest
import torch
from transformers.models.bloom.modeling_bloom import _get_alibi_slopes

from glassformer.parts.position import ALiBi, alibi_slopes


def test_slopes_of_eight_heads_are_the_paper_s() -> None:
    assert alibi_slopes(8).tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_slopes_of_twelve_heads_are_those_of_eight_and_four_from_between() -> None:
    torch.testing.assert_close(
        alibi_slopes(12), torch.cat([alibi_slopes(8), 0.5 ** torch.tensor([0.5, 1.5, 2.5, 3.5])])
    )


@pytest.mark.parametrize("num_heads", [*range(1, 34), 40, 71, 112])
def test_slopes_equal_those_of_bloom(num_heads: int) -> None:
    slopes = alibi_slopes(num_heads)
    assert len(set(slopes.tolist())) == num_heads
    torch.testing.assert_close(slopes, _get_alibi_slopes(num_heads, torch.device("cpu")), rtol=1e-6, atol=0)


def test_the_bias_is_minus_slope_times_distance_wherever_both_stand() -> None:
    alibi = ALiBi(4)
    bias = alibi(torch.tensor([3, 4]), torch.arange(5))
    assert bias.shape == (1, 4, 2, 5)
    assert bias[0, 0].tolist() == [[-0.75, -0.5, -0.25, 0.0, 0.25], [-1.0, -0.75, -0.5, -0.25, 0.0]]
    assert torch.equal(bias, alibi(torch.tensor([103, 104]), torch.arange(100, 105)))


def test_rows_with_positions_of_their_own_get_biases_of_their_own() -> None:
    keys = torch.tensor([[0, 0, 1, 2], [0, 1, 2, 3]])
    bias = ALiBi(6)(keys[:, -1:], keys)
    assert bias.shape == (2, 6, 1, 4)
    assert torch.equal(bias[1], ALiBi(6)(keys[1, -1:], keys[1])[0])
    assert bias[0, 0, 0].tolist() == [-0.5, -0.5, -0.25, 0.0]
