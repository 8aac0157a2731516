"""Batches: aligned, each window once per epoch, the same for any number of ranks, resumed without loss."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.text import SequentialLoader, TokenBatch, TokenFile, TokenLoader

# With tokens 0, 1, 2, ... a window tells where in the row it was cut.
ROW = np.arange(1003)

shapes = st.tuples(st.integers(2, 300), st.integers(1, 40), st.integers(1, 6)).filter(lambda shape: shape[0] > shape[1])


@settings(deadline=None)
@given(shapes, st.integers(0, 2**32))
def test_targets_are_the_inputs_shifted_by_one(shape, seed):
    count, length, batch_size = shape
    inputs, targets = next(TokenLoader(np.arange(count), batch_size=batch_size, length=length, seed=seed))
    assert inputs.shape == targets.shape == (batch_size, length)
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.is_contiguous()
    assert targets.is_contiguous()
    assert torch.equal(targets, inputs + 1)


@settings(deadline=None)
@given(shapes, st.integers(0, 2**32))
def test_an_epoch_is_each_window_once_without_overlap_in_a_new_order(shape, seed):
    count, length, _ = shape
    loader = TokenLoader(np.arange(count), batch_size=1, length=length, seed=seed)
    for epoch in range(3):
        assert loader.epoch == epoch
        starts = sorted(int(inputs[0, 0]) for inputs, _ in islice(loader, loader.windows_per_epoch))
        assert np.all(np.diff(starts) == length)
        assert starts[0] < length
        # nothing that could have been another whole window is left out, but for the room of the offset
        assert count - (starts[-1] + length) <= 2 * length


def test_epochs_differ_in_offset_and_order_and_seeds_differ():
    loader = TokenLoader(ROW, batch_size=1, length=10, seed=0)
    starts = [[int(next(loader).inputs[0, 0]) for _ in range(loader.windows_per_epoch)] for _ in range(20)]
    assert {epoch[0] % 10 for epoch in starts} == set(range(10))
    assert all(epoch != sorted(epoch) for epoch in starts)
    first = next(TokenLoader(ROW, batch_size=4, length=10, seed=0)).inputs
    assert torch.equal(first, next(TokenLoader(ROW, batch_size=4, length=10, seed=0)).inputs)
    assert not torch.equal(first, next(TokenLoader(ROW, batch_size=4, length=10, seed=1)).inputs)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.sampled_from([1, 2, 3, 4, 6]), st.integers(1, 300))
def test_the_batches_of_all_ranks_stacked_are_the_batch_of_one(share, world_size, length):
    arguments = {"batch_size": share * world_size, "length": length, "seed": 5}
    ranks = [TokenLoader(ROW, **arguments, rank=rank, world_size=world_size) for rank in range(world_size)]
    alone = TokenLoader(ROW, **arguments)
    for _ in range(5):
        batches = [next(rank) for rank in ranks]
        whole = next(alone)
        assert torch.equal(torch.cat([batch.inputs for batch in batches]), whole.inputs)
        assert torch.equal(torch.cat([batch.targets for batch in batches]), whole.targets)
    assert ranks[-1].state_dict() == alone.state_dict()


@settings(deadline=None, max_examples=40)
@given(shapes, st.integers(0, 30))
def test_a_resumed_loader_goes_on_mid_epoch_with_nothing_lost_or_repeated(shape, steps):
    count, length, batch_size = shape
    arguments = {"batch_size": batch_size, "length": length, "seed": 3}
    whole = TokenLoader(np.arange(count), **arguments)
    expected = [next(whole).inputs for _ in range(steps + 10)]
    first = TokenLoader(np.arange(count), **arguments)
    seen = [next(first).inputs for _ in range(steps)]
    second = TokenLoader(np.arange(count), **arguments)
    second.load_state_dict(first.state_dict())
    seen += [next(second).inputs for _ in range(10)]
    assert torch.equal(torch.cat(seen), torch.cat(expected))
    assert second.state_dict() == whole.state_dict()


def test_a_state_saved_by_one_rank_resumes_on_two():
    alone = TokenLoader(ROW, batch_size=4, length=16, seed=1)
    list(islice(alone, 7))
    state = alone.state_dict()
    ranks = [TokenLoader(ROW, batch_size=4, length=16, seed=1, rank=rank, world_size=2) for rank in range(2)]
    for rank in ranks:
        rank.load_state_dict(state)
    assert torch.equal(torch.cat([next(rank).inputs for rank in ranks]), next(alone).inputs)


def test_a_token_file_and_its_array_load_equally_and_share_states(tmp_path):
    file = TokenFile.write(tmp_path / "row.tokens", ROW, vocab_size=2000)
    mapped = TokenLoader(TokenFile.open(file.path), batch_size=3, length=9, seed=2)
    array = TokenLoader(ROW.tolist(), batch_size=3, length=9, seed=2)
    assert torch.equal(next(mapped).inputs, next(array).inputs)
    array.load_state_dict(mapped.state_dict())


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 2}, "seed=1, but this loader has seed=2"),
        ({"batch_size": 8}, "batch_size=4, but this loader has batch_size=8"),
        ({"length": 8}, "length=16, but this loader has length=8"),
        ({"tokens": ROW[:-1]}, "count=1003, but this loader has count=1002"),
        ({"tokens": ROW[::-1]}, "sha256="),
    ],
)
def test_the_state_of_another_loader_is_refused_and_the_difference_named(other, named):
    arguments = {"tokens": ROW, "batch_size": 4, "length": 16, "seed": 1}
    state = TokenLoader(**arguments).state_dict()
    with pytest.raises(ValueError, match=named):
        TokenLoader(**arguments | other).load_state_dict(state)


@pytest.mark.parametrize("change", [{"step": -1}, {"step": 1.5}, {"more": 1}])
def test_a_state_that_is_none_is_refused(change):
    loader = TokenLoader(ROW, batch_size=4, length=16)
    with pytest.raises(ValueError, match="state"):
        loader.load_state_dict(loader.state_dict() | change)
    with pytest.raises(ValueError, match="not the state of a TokenLoader"):
        loader.load_state_dict({})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 0}, "batch_size=0 is not a positive integer"),
        ({"batch_size": -3}, "batch_size=-3 is not a positive integer"),
        ({"batch_size": 2.0}, "batch_size=2.0 is not a positive integer"),
        ({"length": 0}, "length=0 is not a positive integer"),
        ({"seed": -1}, "seed=-1 is not an integer from 0 on"),
        ({"world_size": 0}, "world_size=0 is not a positive integer"),
        ({"world_size": 3}, "world_size=3 does not divide batch_size=4"),
        ({"world_size": 2, "rank": 2}, "rank=2 is not one of the 2 ranks, 0 to 1"),
        ({"length": 1003}, "1003 tokens are fewer than one window of length=1003"),
        ({"tokens": []}, "0 tokens are fewer than one window"),
        ({"tokens": [[1, 2]]}, "one row"),
        ({"tokens": [-1, 2]}, "token ids start at 0, but there is -1"),
    ],
)
def test_impossible_arguments_are_named(change, named):
    arguments = {"tokens": ROW, "batch_size": 4, "length": 16} | change
    with pytest.raises(ValueError, match=named):
        TokenLoader(**arguments)


@settings(deadline=None)
@given(st.integers(2, 300), st.integers(1, 40), st.integers(1, 3), st.integers(1, 3))
def test_evaluation_predicts_every_token_but_the_first_once_in_order(count, length, share, world_size):
    loaders = [
        SequentialLoader(
            np.arange(count), batch_size=share * world_size, length=length, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]
    predicted = []
    for batches in zip(*loaders, strict=True):
        for inputs, targets in batches:
            assert inputs.shape == targets.shape == (share, length)
            counted = targets != -100
            assert torch.equal(targets[counted], inputs[counted] + 1)
            predicted += targets[counted].tolist()
        assert sum(batch.counted for batch in batches) == sum(int((batch.targets != -100).sum()) for batch in batches)
    assert predicted == list(range(1, count))
    assert len(loaders[0]) == len(list(loaders[0]))


def test_evaluation_is_the_same_each_time():
    loader = SequentialLoader(ROW, batch_size=4, length=16)
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(loader, loader, strict=True))


def test_one_token_is_too_few_to_evaluate_on():
    with pytest.raises(ValueError, match="1 tokens are too few to evaluate on"):
        SequentialLoader([1], batch_size=1, length=1)
    with pytest.raises(ValueError, match="batch_size=0"):
        SequentialLoader(ROW, batch_size=0, length=1)


def test_a_batch_counts_its_targets_and_moves():
    batch = TokenBatch(torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[1, -100, 2]]))
    assert batch.counted == 2
    assert batch.to("meta").targets.device.type == "meta"
