"""T5's biases: buckets of distances as transformers has them, to the last edge, and what is read of them at a step."""

import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from glassformer.parts import BucketedBias
from glassformer.parts.position import distance_bucket

DISTANCES = torch.arange(-3000, 3001)


def exact(num_buckets: int, both_ways: bool) -> int:
    return num_buckets // (4 if both_ways else 2)


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize("num_buckets", [4, 6, 8, 12, 16, 20, 32, 33, 64, 128, 320])
def test_buckets_equal_those_of_transformers_at_every_distance(num_buckets: int, both_ways: bool) -> None:
    for max_distance in (3, 5, 9, 20, 64, 100, 127, 128, 129, 256, 500, 1000, 2500):
        if max_distance > exact(num_buckets, both_ways):
            ours = distance_bucket(DISTANCES, num_buckets, max_distance, both_ways=both_ways)
            theirs = T5Attention._relative_position_bucket(DISTANCES, both_ways, num_buckets, max_distance)
            assert torch.equal(ours, theirs), max_distance
            assert ours.max() == (num_buckets // 2 * 2 if both_ways else num_buckets) - 1


def test_near_distances_have_a_bucket_each_and_far_ones_share_the_last() -> None:
    behind = distance_bucket(-torch.arange(300), 32, 128, both_ways=False)
    assert behind[:16].tolist() == list(range(16))
    assert behind[16:20].tolist() == [16, 16, 16, 17]
    assert (behind[128:] == 31).all()
    assert (behind[1:] >= behind[:-1]).all()
    assert (distance_bucket(torch.arange(9), 32, 128, both_ways=False) == 0).all(), "keys ahead count as distance 0"


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("t", "s"), [(1, 1), (1, 7), (7, 7), (3, 9), (300, 400), (1, 400)])
def test_the_bias_of_the_last_queries_is_that_of_their_distances(t: int, s: int, both_ways: bool) -> None:
    bias = BucketedBias(32, 4, max_distance=128, both_ways=both_ways)
    distance = torch.arange(s) - torch.arange(s - t, s)[:, None]
    buckets = T5Attention._relative_position_bucket(distance, both_ways, 32, 128)
    for _ in range(2):  # the second time from what was kept
        assert torch.equal(bias(t, s), bias.weight[buckets].permute(2, 0, 1)[None])


def test_every_bucket_within_reach_gets_its_gradient() -> None:
    bias = BucketedBias(8, 2, max_distance=6, both_ways=True)
    with torch.inference_mode():
        bias(5, 5)  # what is kept then serves training too
    bias(5, 5).sum().backward()
    distance = torch.arange(5) - torch.arange(5)[:, None]
    counts = torch.bincount(distance_bucket(distance, 8, 6, both_ways=True).flatten(), minlength=8)
    assert bias.weight.grad is not None
    assert torch.equal(bias.weight.grad, counts[:, None].expand(8, 2).float())


@pytest.mark.parametrize(
    ("num_buckets", "max_distance", "both_ways"), [(3, 9, True), (1, 9, False), (32, 8, True), (32, 16, False)]
)
def test_buckets_that_cannot_tell_distances_apart_are_refused(
    num_buckets: int, max_distance: int, both_ways: bool
) -> None:
    with pytest.raises(ValueError, match=f"num_buckets={num_buckets} gives"):
        BucketedBias(num_buckets, 4, max_distance=max_distance, both_ways=both_ways)
