"""Boxes and assignment: values by hand, slopes where nothing meets, the least cost of all, ties always the same."""

from itertools import permutations

import pytest
import torch

from glassformer.ops.assignment import assign
from glassformer.ops.boxes import corners, generalized_iou


def box(x0: float, y0: float, x1: float, y1: float) -> torch.Tensor:
    return torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])


def test_generalized_iou_is_what_a_pencil_finds() -> None:
    first = box(0, 0, 0.4, 0.4)
    for other, expected in (
        (box(0, 0, 0.4, 0.4), 1.0),
        (box(0.2, 0, 0.6, 0.4), 1 / 3),  # a box around both that they fill: the IoU alone
        (box(0.4, 0, 0.8, 0.4), 0.0),  # side by side
        (box(0.2, 0.2, 0.6, 0.6), 0.04 / 0.28 - (0.36 - 0.28) / 0.36),
        (box(0.6, 0, 1.0, 0.4), -0.2),  # a gap of half a box between them
    ):
        torch.testing.assert_close(generalized_iou(first, other), torch.tensor(expected))
        torch.testing.assert_close(generalized_iou(other, first), torch.tensor(expected))
    torch.testing.assert_close(corners(box(0.1, 0.2, 0.3, 0.6)), torch.tensor([0.1, 0.2, 0.3, 0.6]))


def test_boxes_that_do_not_meet_still_have_a_slope_towards_each_other() -> None:
    apart = box(0.8, 0.8, 0.9, 0.9).requires_grad_()
    generalized_iou(apart, box(0, 0, 0.2, 0.2)).backward()
    assert apart.grad is not None
    assert (apart.grad[:2] < 0).all()  # nearer is better


def test_shapes_broadcast_to_each_with_each() -> None:
    a, b = torch.rand(5, 4) + 0.1, torch.rand(3, 4) + 0.1
    every = generalized_iou(a[:, None], b)
    assert every.shape == (5, 3)
    torch.testing.assert_close(every[4, 2], generalized_iou(a[4], b[2]))


def test_the_assignment_is_the_best_of_all() -> None:
    costs = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    query, target = assign(costs, [4, 2])
    for picture, start, size in ((0, 0, 4), (1, 4, 2)):
        own = slice(start, start + size)
        best = min(
            sum(costs[picture, q, start + m].item() for m, q in enumerate(chosen))
            for chosen in permutations(range(5), size)
        )
        assert costs[picture, query[own], target[own]].sum().item() == pytest.approx(best, abs=1e-5)
        assert sorted(target[own].tolist()) == list(range(start, start + size))
        assert query[own].tolist() == sorted(set(query[own].tolist()))


def test_ties_are_always_settled_alike() -> None:
    costs = torch.zeros(3, 6, 9)
    first = assign(costs, [3, 0, 6])
    assert first.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 5], list(range(9))]
    assert all(torch.equal(assign(costs + shift, [3, 0, 6]), first) for shift in (0.0, 1.0, -7.5))


def test_more_targets_than_predictions_leave_the_dearest_out() -> None:
    costs = torch.tensor([[[3.0, 1.0, 2.0], [9.0, 8.0, 1.0]]])
    assert assign(costs, [3]).tolist() == [[0, 1], [1, 2]]


def test_what_is_no_number_is_chosen_last() -> None:
    costs = torch.tensor([[[torch.nan, 5.0], [1.0, torch.inf], [2.0, 7.0]]])
    assert assign(costs, [2]).tolist() == [[0, 1], [1, 0]]
    assert assign(torch.full((1, 3, 2), torch.nan), [2]).shape == (2, 2)


def test_sizes_that_do_not_fit_are_said() -> None:
    with pytest.raises(ValueError, match=r"sizes=\[2, 2\] do not split costs of shape \(2, 3, 5\)"):
        assign(torch.zeros(2, 3, 5), [2, 2])


def test_no_targets_are_no_pairs_and_a_compiler_sees_one_operator() -> None:
    assert assign(torch.zeros(2, 3, 0), [0, 0]).shape == (2, 0)
    costs = torch.randn(2, 4, 3)
    compiled = torch.compile(lambda x: assign(x, [1, 2]) + 0, fullgraph=True, backend="eager")
    assert torch.equal(compiled(costs), assign(costs, [1, 2]))
