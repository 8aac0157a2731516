"""Each number is kept or dropped by itself, with the share asked for, and the mean stays."""

import pytest
import torch

from glassformer.ops.dropout import kept


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5, 0.9])
def test_the_share_that_is_kept_is_as_asked_for_and_scaled_to_a_mean_of_one(dropout: float) -> None:
    torch.manual_seed(0)
    n = 400_000
    found = kept(torch.empty(n // 1000, 1000), dropout)
    assert found.unique().tolist() == pytest.approx(
        [1 / (1 - dropout)] if dropout == 0 else [0, 1 / (1 - dropout)], rel=1e-3
    )
    deviation = (dropout / (1 - dropout) / n) ** 0.5  # of the mean
    assert abs(found.double().mean().item() - 1) <= 4 * deviation


def test_neighbours_are_drawn_apart() -> None:
    torch.manual_seed(0)
    n = 400_000
    found = kept(torch.empty(n), 0.5) - 1  # 1 or -1
    for apart in range(1, 9):
        assert abs((found[apart:] * found[:-apart]).mean().item()) <= 4 / n**0.5


def test_a_seed_repeats_it_and_any_shape_and_dtype_will_do() -> None:
    for shape, dtype in [
        ((3, 5, 7), torch.float32),
        ((1,), torch.bfloat16),
        ((2, 9), torch.float64),
        ((0, 4), torch.float32),
    ]:
        torch.manual_seed(5)
        first = kept(torch.empty(shape, dtype=dtype), 0.3)
        torch.manual_seed(5)
        assert torch.equal(first, kept(torch.empty(shape, dtype=dtype), 0.3))
        assert (first.shape, first.dtype) == (shape, dtype)
