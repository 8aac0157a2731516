"""Deformable attention is what its equation says, place by place, and reads no padding."""

import pytest
import torch
from properties import close, redraw
from torch import Tensor

from glassformer.parts.deformable_attention import DeformableAttention, grid_centres

SIZES = [(2, 3), (5, 4)]


def attention() -> DeformableAttention:
    return redraw(DeformableAttention(8, 2, num_levels=2, num_points=3)).double()  # type: ignore[return-value]


def interpolated(grid: Tensor, x: float, y: float) -> Tensor:
    """A grid (y, x, k) between the centres of its places, which stand at (i + ½) / size; zeros around it."""
    rows, columns, total = *grid.shape[:2], torch.zeros(grid.shape[2], dtype=grid.dtype)
    at_y, at_x = y * rows - 0.5, x * columns - 0.5
    for row in range(rows):
        for column in range(columns):
            weight = max(0.0, 1 - abs(at_y - row)) * max(0.0, 1 - abs(at_x - column))
            total = total + weight * grid[row, column]
    return total


def test_it_is_a_weighted_sum_of_interpolated_values_at_offsets_from_the_reference() -> None:
    layer, query, places = attention(), torch.randn(1, 4, 8).double(), torch.randn(1, 26, 8).double()
    reference = torch.rand(1, 4, 2, 2).double()
    value = (layer.value(places)[0, :6].unflatten(0, (2, 3)), layer.value(places)[0, 6:].unflatten(0, (5, 4)))
    offsets = layer.offsets(query).view(4, 2, 2, 3, 2)  # t h l p a
    weights = layer.weights(query).view(4, 2, 6).softmax(-1).view(4, 2, 2, 3)
    out = torch.zeros(4, 8).double()
    for t in range(4):
        for head in range(2):
            own = slice(4 * head, 4 * head + 4)
            for level, (rows, columns) in enumerate(SIZES):
                for point in range(3):
                    dx, dy = offsets[t, head, level, point].tolist()
                    x, y = reference[0, t, level].tolist()
                    there = interpolated(value[level][..., own], x + dx / columns, y + dy / rows)
                    out[t, own] += weights[t, head, level, point] * there
    with torch.no_grad():
        close(layer(query, reference, places, SIZES), layer.output(out)[None], 1e-12, "output")


def test_padding_is_not_read() -> None:
    layer, query, places = attention(), torch.randn(2, 4, 8).double(), torch.randn(2, 26, 8).double()
    present = torch.rand(2, 26) < 0.6
    other = torch.where(present[..., None], places, torch.randn(2, 26, 8).double())
    reference = torch.rand(2, 4, 2, 2).double()
    first, second = (layer(query, reference, grids, SIZES, present=present) for grids in (places, other))
    assert torch.equal(first, second)
    assert not torch.equal(layer(query, reference, other, SIZES), layer(query, reference, places, SIZES))


def test_gradients_are_those_of_finite_differences() -> None:
    layer, reference = attention(), torch.rand(1, 2, 2, 2).double()
    query, places = (torch.randn(1, n, 8).double().requires_grad_() for n in (2, 26))
    assert torch.autograd.gradcheck(lambda q, s: layer(q, reference, s, SIZES), (query, places))


def test_heads_begin_by_looking_around_in_directions_of_their_own() -> None:
    layer = DeformableAttention(8, 4, num_levels=1, num_points=2)
    offsets = layer.offsets(torch.randn(8)).view(4, 2, 2)
    expected = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]])
    close(offsets[:, 0], expected.float(), 1e-6, "first points")
    close(offsets[:, 1], 2 * expected.float(), 1e-6, "second points")


def test_places_stand_in_the_middle_of_their_part_of_each_level() -> None:
    centres = grid_centres(SIZES, torch.zeros(1))
    assert centres.shape == (1, 26, 2, 2)
    close(centres[0, 4, 1], torch.tensor([0.5, 0.75]), 1e-6, "second row, second column of 2 × 3")
    close(centres[0, 6 + 7, 0], torch.tensor([0.875, 0.3]), 1e-6, "second row, last column of 5 × 4")


@pytest.mark.usefixtures("no_shape_checks")
def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match="num_heads=3 does not divide dim=8"):
        DeformableAttention(8, 3, num_levels=1, num_points=1)
    with pytest.raises(ValueError, match="speak of 1 levels and 6 places; expected 2 levels and 26 places"):
        attention()(torch.zeros(1, 4, 8), torch.zeros(1, 4, 2, 2), torch.zeros(1, 26, 8), SIZES[:1])
