"""A cache with room for two windows decodes as one with room for everything; what it has forgotten, it says."""

import pytest
import torch
from properties import close, redraw
from torch import Tensor

from glassformer.models.mistral import Mistral, MistralConfig
from glassformer.parts import KeyValueCache

WINDOW, LENGTH = 6, 60


def model() -> Mistral:
    shape = dict(vocab_size=31, max_positions=64, dim=16, num_layers=2, num_heads=4, num_kv_heads=2, hidden_dim=24)
    return redraw(Mistral(MistralConfig(**shape, window_size=WINDOW))).double().eval()  # type: ignore


def plain_cache(mistral: Mistral, rows: int) -> KeyValueCache:
    config = mistral.config
    return KeyValueCache(2, rows, 2, 64, config.head_dim, dtype=torch.float64, device="cpu")


def ids(rows: int = 3) -> Tensor:
    return torch.randint(31, (rows, LENGTH), generator=torch.Generator().manual_seed(1))


def decoded(mistral: Mistral, x: Tensor, cache: KeyValueCache, steps: list[int], present: Tensor | None) -> Tensor:
    parts, start = [], cache.length
    for t in steps:
        seen = None if present is None else present[:, : start + t]
        parts.append(mistral(x[:, start : start + t], seen, cache=cache).logits)
        start += t
    return torch.cat(parts, 1)


# single tokens, uneven chunks, chunks longer than the room, a prompt of all but one, one chunk that just fits
STEPS = [[1] * 60, [5, 3, 1, 1, 7, 13, 30], [20, 20, 20], [59, 1], [12, 1, 11, 1, 12, 23], [2] * 30]


@pytest.mark.parametrize("steps", STEPS, ids=str)
@pytest.mark.parametrize("padding", [False, True])
def test_it_decodes_as_the_whole_and_as_a_cache_of_everything(steps: list[int], padding: bool) -> None:
    mistral, x = model(), ids()
    present = (torch.arange(LENGTH) >= torch.tensor([[0], [3], [17]])).long() if padding else None
    there = torch.ones(3, LENGTH).bool() if present is None else present.bool()
    rolling, plain = mistral.new_cache(3), plain_cache(mistral, 3)
    with torch.no_grad():
        out = decoded(mistral, x, rolling, steps, present)
        close(out[there], decoded(mistral, x, plain, steps, present)[there], 1e-13, "as a cache of everything")
        close(out[there], mistral(x, present).logits[there], 1e-13, "as the whole")
    assert rolling.length == plain.length == LENGTH


def test_its_room_is_two_windows_whatever_the_capacity() -> None:
    mistral = model()
    assert {layer.key.shape[2] for layer in mistral.new_cache(1, 64).layers} == {2 * WINDOW}
    assert mistral.new_cache(1, 64).num_bytes == mistral.new_cache(1, 32).num_bytes
    assert {layer.key.shape[2] for layer in mistral.new_cache(1, 7).layers} == {7}, "no more than there are tokens"
    with pytest.raises(ValueError, match="holds 0 tokens and 8 more were given; its capacity is 7"):
        mistral(ids(1)[:, :8], cache=mistral.new_cache(1, 7))


@torch.no_grad()
def test_a_layer_is_given_what_the_window_reaches_and_no_more() -> None:
    mistral, x = model(), ids()
    cache, given = mistral.new_cache(3), []
    right = mistral.blocks[0].attention.kernel
    mistral.blocks[0].attention.kernel = lambda q, k, v, **o: given.append(k.shape[2]) or right(q, k, v, **o)
    decoded(mistral, x, cache, [4, 1, 1, 1, 9, 30, 1, 1], None)
    assert given == [4, 5, 6, 6, 14, 35, 6, 6]


def test_gradients_reach_the_new_tokens_as_with_a_cache_of_everything() -> None:
    mistral, x = model(), ids()
    found = []
    for cache in (mistral.new_cache(3), plain_cache(mistral, 3)):
        with torch.no_grad():
            decoded(mistral, x, cache, [9], None)
        mistral.zero_grad()
        mistral(x[:, 9:30], cache=cache).logits.square().sum().backward()
        found.append([parameter.grad.clone() for parameter in mistral.parameters() if parameter.grad is not None])
    assert found[0]
    for ours, expected in zip(*found, strict=True):
        close(ours, expected, 1e-12, "gradient")


@pytest.mark.parametrize("length", [4, 11, 12, 13, 25, 59])
@torch.no_grad()
def test_after_reordering_each_row_is_the_one_it_was_told_to_be(length: int) -> None:
    mistral, x, rows = model(), ids(), torch.tensor([2, 0, 2])
    cache = mistral.new_cache(3)
    decoded(mistral, x, cache, [1] * length, None)
    cache.reorder(rows)
    close(mistral(x[rows, length:], cache=cache).logits, mistral(x[rows]).logits[:, length:], 1e-13, "reordered")


@pytest.mark.parametrize("length", range(1, 60, 7))
@torch.no_grad()
def test_half_a_window_can_be_taken_back_at_any_time(length: int) -> None:
    mistral, x = model(), ids()
    cache = mistral.new_cache(3)
    decoded(mistral, x, cache, [1] * length, None)
    cache.truncate(max(0, length - WINDOW // 2))
    again = decoded(mistral, x, cache, [LENGTH - cache.length], None)
    close(again, mistral(x).logits[:, LENGTH - again.shape[1] :], 1e-13, "after truncate")


@torch.no_grad()
def test_what_is_forgotten_cannot_be_gone_back_to_but_to_the_start_one_can() -> None:
    mistral, x = model(), ids()
    cache = mistral.new_cache(3)
    decoded(mistral, x, cache, [1] * 40, None)
    for length in range(40, 0, -1):
        if length - min(length, WINDOW - 1) < cache.first:
            with pytest.raises(ValueError, match=f"truncate to {length} tokens .* keeps those from {cache.first}"):
                cache.truncate(length)
    assert cache.length == 40
    cache.truncate(0)
    close(decoded(mistral, x, cache, [17, 43], None), mistral(x).logits, 1e-13, "begun anew")


def test_generation_is_the_same_with_either() -> None:
    mistral = model().float()
    out = mistral.generate(ids()[:, :9], max_new_tokens=40)
    searched = mistral.generate(ids()[:, :9], max_new_tokens=40, num_beams=3)
    mistral.new_cache = lambda rows, capacity=None: KeyValueCache(  # type: ignore[method-assign]
        2, rows, 2, 64, mistral.config.head_dim, dtype=torch.float32, device="cpu"
    )
    assert torch.equal(out, mistral.generate(ids()[:, :9], max_new_tokens=40))
    assert torch.equal(searched, mistral.generate(ids()[:, :9], max_new_tokens=40, num_beams=3))
