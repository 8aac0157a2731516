"""The key-value cache: written in place, advanced by its owner, cut, reordered, and what it refuses."""

import pytest
import torch
from torch import Tensor

from glassformer.parts import KeyValueCache

B, G, K = 3, 2, 4


def some(t: int, rows: int = B) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, G, t, K), torch.randn(rows, G, t, K)


def new(capacity: int = 8, layers: int = 2) -> KeyValueCache:
    return KeyValueCache(layers, B, G, capacity, K, dtype=torch.float32, device="cpu")


def test_it_gives_back_everything_written_in_order_without_copying() -> None:
    cache = new()
    first, second = some(3), some(2)
    k, v = cache.layers[0].append(*first)
    assert cache.length == 0, "a layer does not advance"
    cache.advance(3)
    k, v = cache.layers[0].append(*second)
    cache.advance(2)
    assert torch.equal(k, torch.cat([first[0], second[0]], dim=2))
    assert torch.equal(v, torch.cat([first[1], second[1]], dim=2))
    assert k.data_ptr() == cache.layers[0].key.data_ptr()
    assert cache.length == 5
    assert (cache.layers[1].key == 0).all(), "layers are apart"


def test_after_truncation_the_next_tokens_take_the_place() -> None:
    cache = new()
    first, second = some(5), some(2)
    cache.layers[0].append(*first)
    cache.advance(5)
    cache.truncate(2)
    k, _ = cache.layers[0].append(*second)
    assert torch.equal(k, torch.cat([first[0][:, :, :2], second[0]], dim=2))
    with pytest.raises(ValueError, match="cannot truncate to 3 tokens a cache that holds 2"):
        cache.truncate(3)
    with pytest.raises(ValueError, match="cannot truncate to -1"):
        cache.truncate(-1)


def test_reordering_copies_rows_of_every_layer() -> None:
    cache = new()
    written = [some(4) for _ in cache.layers]
    for layer, pair in zip(cache.layers, written, strict=True):
        layer.append(*pair)
    cache.advance(4)
    cache.reorder(torch.tensor([2, 0, 2]))
    for layer, (k, v) in zip(cache.layers, written, strict=True):
        assert torch.equal(layer.key[:, :, :4], k[[2, 0, 2]])
        assert torch.equal(layer.value[:, :, :4], v[[2, 0, 2]])


def test_gradients_flow_to_the_new_tokens_and_what_is_held_stays_constant() -> None:
    cache = new()
    past = [x.requires_grad_() for x in some(3)]
    now = [x.requires_grad_() for x in some(2)]
    cache.layers[0].append(*past)
    cache.advance(3)
    k, v = cache.layers[0].append(*now)
    cache.advance(2)
    cache.layers[0].append(*some(1))  # writing on does not spoil what was handed out
    ((k * k).sum() + v.sum()).backward()
    assert torch.equal(now[0].grad, 2 * now[0])
    assert torch.equal(now[1].grad, torch.ones_like(now[1]))
    assert past[0].grad is None
    assert not cache.layers[0].key.requires_grad


def test_what_does_not_fit_is_refused_and_nothing_written(no_shape_checks: None) -> None:
    cache = new(capacity=4)
    cache.layers[0].append(*some(3))
    cache.advance(3)
    before = cache.layers[0].key.clone()
    with pytest.raises(ValueError, match="holds 3 tokens and 2 more were given; its capacity is 4"):
        cache.layers[0].append(*some(2))
    with pytest.raises(ValueError, match=r"keys of shape \(1, 2, 1, 4\) do not fit a cache of \(3, 2, 4, 4\)"):
        cache.layers[0].append(*some(1, rows=1))
    assert torch.equal(cache.layers[0].key, before)
    with pytest.raises(ValueError, match="holds 3 tokens and 2 more"):
        cache.advance(2)
    assert cache.length == 3


def test_its_bytes_are_counted() -> None:
    assert new().num_bytes == 2 * 2 * B * G * 8 * K * 4


def test_a_context_is_made_once_and_given_back_ever_after() -> None:
    layer, context, made = new().layers[0], torch.randn(1, 5, 7), []

    def make() -> tuple[Tensor, Tensor]:
        made.append(some(5, rows=1))
        return made[-1]

    for given in (context, context, context.clone()):
        k, v = layer.remember(given, make)
        assert torch.equal(k, made[0][0])
        assert torch.equal(v, made[0][1])
    assert len(made) == 1
    for other in (context + 1, context[:, :4], torch.cat([context, context])):
        with pytest.raises(ValueError, match="a new context needs a new cache"):
            layer.remember(other, make)


def test_a_context_outlives_truncation_and_reordering_and_is_counted() -> None:
    cache, kept = new(), some(5, rows=1)
    before = cache.num_bytes
    cache.layers[0].remember(torch.randn(1, 5, 7), lambda: kept)
    assert cache.num_bytes == before + 2 * G * 5 * K * 4
    cache.truncate(0)
    cache.reorder(torch.tensor([2, 0, 1]))
    assert cache.layers[0].context is not None
    assert torch.equal(cache.layers[0].context[1], kept[0])


def test_gradients_reach_a_context_that_is_made_and_not_one_that_is_kept() -> None:
    layer, context = new().layers[0], torch.randn(1, 5, 7)
    k, v = (x.requires_grad_() for x in some(5, rows=1))
    assert layer.remember(context, lambda: (k, v))[0].requires_grad
    assert not any(x.requires_grad for x in layer.remember(context, lambda: (k, v)))


def test_of_two_dtypes_the_wider_is_kept_and_nothing_is_lost() -> None:
    cache = KeyValueCache(1, B, G, 8, K, dtype=torch.bfloat16, device="cpu")
    layer, parts = cache.layers[0], [some(3), some(1), some(2)]
    parts = [tuple(x.bfloat16() for x in parts[0]), parts[1], tuple(x.bfloat16() for x in parts[2])]
    for i, (k, v) in enumerate(parts):
        keys, values = layer.append(k, v)
        cache.advance(k.shape[2])
        assert keys.dtype == values.dtype == k.dtype
        assert torch.equal(keys, torch.cat([part[0].float() for part in parts[: i + 1]], 2).to(k.dtype))
        assert torch.equal(values, torch.cat([part[1].float() for part in parts[: i + 1]], 2).to(k.dtype))
    assert layer.key.dtype == layer.value.dtype == torch.float32
