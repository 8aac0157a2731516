"""Each part of the mirror: equal to the torch part, and its backward equal to finite differences."""

import inspect
import pkgutil

import numpy as np
import pytest
import torch
from mirrors import check_gradients, close, close_gradients, draw, redraw, torch_scaling, twin
from torch import nn

import glassformer.by_hand.parts
import glassformer.parts
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts import (
    activation,
    attention,
    cache,
    dropout,
    embedding,
    feed_forward,
    linear,
    norm,
    patch,
    position,
)
from glassformer.by_hand.parts.dropout import Dropout
from glassformer.by_hand.parts.module import Module
from glassformer.ops.mask import Mask as TorchMask
from glassformer.parts import position as torch_position

X = draw(2, 5, 12)
IDS = np.array([[3, 1, 3, 0, 3], [6, 6, 2, 0, 1]])
# Files of parts/ without a mirror: a choice of kernels, mixtures of experts, DeepSeek's attention, attentions in linear
# time, and what only models of pictures and clips beyond ViT have.
TORCH_ONLY = {"kernels", "experts", "latent_attention", "linear_attention", "window_attention", "windows",
              "stochastic_depth", "rotary_embedding", "batch_norm", "conditional_attention", "deformable_attention",
              "fixed_position", "layer_scale", "mix_feed_forward", "sine_position", "tubelet", "attention_in_windows",
              "by_parts"}  # fmt: skip
FILES = [activation, attention, cache, dropout, embedding, feed_forward, linear, norm, patch, position]


def classes() -> dict[str, type]:
    """Every public class of the mirror's parts that the torch parts have too."""
    every = [value for module in FILES for value in vars(module).values() if inspect.isclass(value)]
    own = [value for value in every if value.__module__ in {module.__name__ for module in FILES}]
    return {value.__name__: value for value in own if hasattr(glassformer.parts, value.__name__)}


def test_every_torch_part_has_its_mirror():
    every = {value for value in vars(glassformer.parts).values() if inspect.isclass(value)}
    expected = {kind.__name__ for kind in every if kind.__module__.rsplit(".", 1)[-1] not in TORCH_ONLY}
    assert expected == classes().keys(), "a part is written twice: in parts/ and, by hand, in by_hand/parts/"


@pytest.mark.parametrize("name", classes())
def test_constructors_take_a_subset_of_the_torch_arguments_in_their_order(name):
    def arguments(kind: type) -> list[tuple]:
        found = inspect.signature(kind).parameters.values()
        return [(p.name, p.kind) for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]

    ours, theirs = arguments(classes()[name]), arguments(getattr(glassformer.parts, name))
    left_out = {"kernel", "device", "window_size", "antialias"}  # the mirror's cache keeps everything
    assert ours == [p for p in theirs if p in ours]
    assert {p[0] for p in theirs} - {p[0] for p in ours} <= left_out

    def defaults(kind: type) -> dict:
        plain = (int, float, str, bool, type(None))
        given = inspect.signature(kind).parameters.values()
        return {p.name: p.default for p in given if isinstance(p.default, plain) and p.name not in left_out}

    assert defaults(classes()[name]) == defaults(getattr(glassformer.parts, name))


@pytest.mark.parametrize("name", classes())
def test_a_part_lives_in_the_file_of_the_same_name(name):
    def file(kind: type) -> str:
        return kind.__module__.rsplit(".", 1)[-1]

    assert file(classes()[name]) == file(getattr(glassformer.parts, name))


def test_the_mirror_has_the_files_of_the_torch_parts():
    ours = {file.name for file in pkgutil.iter_modules(glassformer.by_hand.parts.__path__)}
    theirs = {file.name for file in pkgutil.iter_modules(glassformer.parts.__path__)}
    assert ours - theirs == {"module"}  # torch itself has it
    assert theirs - ours <= TORCH_ONLY


def compare(ours: Module, theirs: nn.Module, x: np.ndarray) -> None:
    """Values, the gradient of the input and of every parameter; the state dict goes over unchanged."""
    redraw(ours)
    twin(ours, theirs)
    y = ours(x)
    dy = draw(*y.shape, seed=9)
    dx = ours.backward(dy)
    given = torch.tensor(x, requires_grad=x.dtype.kind == "f")
    expected = theirs(given)
    expected.backward(torch.tensor(dy))
    close(y, expected)
    if dx is not None:
        close(dx, given.grad, what="gradient of the input")
    close_gradients(ours, theirs)


SIMPLE = {
    "linear": lambda p: p.Linear(12, 7),
    "linear without bias": lambda p: p.Linear(12, 7, bias=False),
    "layer norm": lambda p: p.LayerNorm(12, 0.3),
    "layer norm without bias": lambda p: p.LayerNorm(12, bias=False),
    "rms norm": lambda p: p.RMSNorm(12, 0.3),
    "unit norm": lambda p: p.UnitNorm(),
    "zero-centred rms norm": lambda p: p.ZeroCenteredRMSNorm(12, 0.3),
    **{
        f"feed-forward, {name}": lambda p, name=name: p.FeedForward(12, 20, activation=p.ACTIVATIONS[name])
        for name in activation.ACTIVATIONS
    },
    **{
        f"gated, {name}": lambda p, name=name: p.GatedFeedForward(12, 20, activation=p.ACTIVATIONS[name], bias=True)
        for name in activation.ACTIVATIONS
    },
    "feed-forward, defaults": lambda p: p.FeedForward(12, 20),
    "gated, defaults": lambda p: p.GatedFeedForward(12, 20),
}


class Ours:
    """The mirror's parts under one name, as `glassformer.parts` has the torch parts."""

    ACTIVATIONS = activation.ACTIVATIONS


for _name, _class in classes().items():
    setattr(Ours, _name, _class)


@pytest.mark.parametrize("name", SIMPLE)
def test_a_part_equals_its_torch_twin(name):
    compare(SIMPLE[name](Ours), SIMPLE[name](glassformer.parts), X)


@pytest.mark.parametrize("name", SIMPLE)
def test_the_backward_of_a_part_equals_finite_differences(name):
    check_gradients(redraw(SIMPLE[name](Ours)), X.copy())


def test_embedding_sums_the_gradients_of_equal_ids():
    compare(Ours.Embedding(8, 5), glassformer.parts.Embedding(8, 5), IDS)
    check_gradients(redraw(Ours.Embedding(8, 5)), IDS)


@pytest.mark.parametrize("scale", [10.0, 150.0])
def test_scaled_unit_vectors_have_a_scale_per_head_that_stops_growing(scale):
    ours, x = norm.ScaledUnitNorm(3), draw(2, 3, 4, 6)
    compare(ours, glassformer.parts.ScaledUnitNorm(3), x)
    ours.log_scale.data[:] = np.log(scale)
    check_gradients(ours, x)


def test_a_tied_head_adds_its_gradient_to_the_embedding():
    embed, torch_embed = redraw(Ours.Embedding(8, 12)), glassformer.parts.Embedding(8, 12)
    head, torch_head = Ours.TiedLinear(embed), glassformer.parts.TiedLinear(torch_embed)
    twin(embed, torch_embed)
    assert head.state_dict() == {}
    y = head(embed(IDS))
    expected = torch_head(torch_embed(torch.tensor(IDS)))
    close(y, expected)
    expected.backward(torch.tensor(draw(*y.shape, seed=9)))
    embed.backward(head.backward(draw(*y.shape, seed=9)))
    close_gradients(embed, torch_embed)


@pytest.mark.parametrize("positions", [np.arange(3, 8), np.array([[0, 0, 0, 1, 2], [2, 3, 4, 5, 6]])])
def test_learned_positions_equal_their_torch_twin(positions):
    ours = redraw(Ours.LearnedPosition(9, 12))
    theirs = twin(ours, glassformer.parts.LearnedPosition(9, 12))
    dy = draw(2, 5, 12, seed=4)
    ours(positions)
    ours.backward(dy)
    expected = theirs(torch.tensor(positions)) + torch.zeros(2, 5, 12)
    expected.backward(torch.tensor(dy))
    close(ours(positions) + np.zeros((2, 5, 12)), expected)
    close_gradients(ours, theirs)


def test_sinusoidal_positions_equal_their_torch_twin():
    positions = np.array([[0, 1, 7, 100, 63]])
    expected = glassformer.parts.SinusoidalPosition(128, 12)(torch.tensor(positions))
    close(Ours.SinusoidalPosition(128, 12)(positions), expected, 1e-6)  # theirs is rounded to float32 at the end


@pytest.mark.parametrize("name", activation.ACTIVATIONS)
def test_activations_equal_torch_in_the_tails_too(name):
    x = np.concatenate([np.linspace(-12, 12, 1001), [-200.0, 200.0, 0.0]])
    given = torch.tensor(x, requires_grad=True)
    expected = glassformer.parts.ACTIVATIONS[name](given)
    expected.sum().backward()
    ours = activation.ACTIVATIONS[name]
    assert abs(ours(x) - expected.detach().numpy()).max() < 1e-14
    assert abs(ours.slope(x) - given.grad.numpy()).max() < 1e-14
    assert ours(x.astype("f4")).dtype == ours.slope(x.astype("f4")).dtype == np.float32


SCALINGS = [
    None,
    position.LinearScaling(factor=3.0),
    position.DynamicScaling(factor=2.0, max_positions=16),
    position.Llama3Scaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_max_positions=40),
    position.YarnScaling(factor=4.0, original_max_positions=24),
    position.YarnScaling(factor=4.0, original_max_positions=64, beta_fast=8.0, truncate=False, attention_factor=0.7),
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
@pytest.mark.parametrize("positions", [np.arange(30), np.array([[0, 1, 2], [20, 31, 90]])], ids=["row", "batch"])
def test_rotary_positions_equal_their_torch_twin(scaling, positions):
    x = draw(2, 3, positions.shape[-1], 16)
    rotate = Ours.Rotary(16, base=500.0, scaling=scaling)(positions)
    given = torch.tensor(x, requires_grad=True)
    theirs = glassformer.parts.Rotary(16, base=500.0, scaling=torch_scaling(scaling))(torch.tensor(positions))
    expected = theirs(given)
    expected.backward(torch.tensor(x))
    close(rotate(x), expected)
    close(rotate.backward(x), given.grad)


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
def test_rotary_scores_depend_on_the_distance_alone(scaling):
    q, k = draw(1, 1, 1, 16), draw(1, 1, 1, 16, seed=1)
    rotary = Ours.Rotary(16, scaling=None if isinstance(scaling, position.DynamicScaling) else scaling)

    def score(at: int, to: int) -> float:
        return float((rotary(np.array([at]))(q) * rotary(np.array([to]))(k)).sum())

    assert score(3, 1) == pytest.approx(score(40, 38), abs=1e-12)
    assert abs(score(3, 1) - score(3, 2)) > 1e-3


ATTENTION = {
    "self": {},
    "grouped": {"num_kv_heads": 2},
    "multi-query, wide heads": {"num_kv_heads": 1, "head_dim": 10},
    "query and value biased, scaled": {"biased": "qv", "scale": 0.11},
    "normed": {"norms": True},
}
MASKS = {
    "open": lambda mask, array: mask(),
    "causal": lambda mask, array: mask.causal(),
    "window": lambda mask, array: mask.causal() & mask.window(2),
    "padded": lambda mask, array: mask.causal() & mask.padding(array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])),
}


def attentions(norms: bool = False, **options) -> tuple[Module, nn.Module]:
    pair, options = [], {"head_dim": 6} | options
    for parts in (Ours, glassformer.parts):
        made = {name: parts.RMSNorm(6) for name in ("query_norm", "key_norm")} if norms else {}
        pair.append(parts.Attention(12, 4, **made, **options))
    redraw(pair[0])
    twin(*pair)
    return pair[0], pair[1]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", ATTENTION)
@pytest.mark.parametrize("rotated", [False, True])
def test_self_attention_equals_its_torch_twin(options, mask, rotated):
    ours, theirs = attentions(**ATTENTION[options])
    rotate = torch_rotate = None
    if rotated:
        angle = draw(5, ours.head_dim // 2)
        rotate = position.Rotation(np.cos(angle), np.sin(angle))
        torch_rotate = glassformer.parts.Rotation(*(torch.tensor(f(np.tile(angle, 2))) for f in (np.cos, np.sin)))
    y = ours(X, mask=MASKS[mask](Mask, lambda rows: np.array(rows, bool)), rotate=rotate)
    dy = draw(*y.shape, seed=9)
    given = torch.tensor(X, requires_grad=True)
    expected = theirs(given, mask=MASKS[mask](TorchMask, lambda rows: torch.tensor(rows) == 1), rotate=torch_rotate)
    expected.backward(torch.tensor(dy))
    close(y, expected)
    close(ours.backward(dy), given.grad, what="gradient of the input")
    close_gradients(ours, theirs)


@pytest.mark.parametrize("positions", [np.arange(5), np.array([[0, 0, 1, 2, 3], [4, 5, 6, 7, 8]])])
@pytest.mark.parametrize("heads", [1, 4, 6])
def test_alibi_equals_its_torch_twin(heads, positions):
    given = torch.tensor(positions)
    ours = Ours.ALiBi(heads)(positions[..., 2:], positions)
    close(ours, glassformer.parts.ALiBi(heads)(given[..., 2:], given), 1e-6)  # theirs is float32


@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (1, 4, 5, 5), (2, 1, 5, 5)])
def test_a_score_bias_is_added_and_gets_its_gradient(shape):
    ours, theirs = attentions(num_kv_heads=2)
    bias = draw(*shape, seed=5)
    given = torch.tensor(bias, requires_grad=True)
    y = ours(X, mask=Mask.causal(), score_bias=bias)
    expected = theirs(torch.tensor(X), mask=TorchMask.causal(), score_bias=given)
    close(y, expected)
    expected.backward(torch.tensor(draw(*y.shape, seed=9)))
    ours.backward(draw(*y.shape, seed=9))
    shared = tuple(axis for axis, size in enumerate(shape) if size == 1)
    close(ours.d_score_bias.sum(shared, keepdims=True), given.grad)
    close_gradients(ours, theirs)


@pytest.mark.parametrize("given", [2, 3])
def test_cross_attention_equals_its_torch_twin_for_each_input(given):
    ours, theirs = attentions(context_dim=9, num_kv_heads=2)
    inputs = [X, draw(2, 6, 9, seed=1), draw(2, 6, 9, seed=2)][:given]
    y = ours(*inputs)
    dy = draw(*y.shape, seed=9)
    gradients = ours.backward(dy)
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    expected = theirs(*tensors)
    expected.backward(torch.tensor(dy))
    close(y, expected)
    assert len(gradients) == given
    for gradient, tensor in zip(gradients, tensors, strict=True):
        close(gradient, tensor.grad)
    close_gradients(ours, theirs)
    check_gradients(ours, *(x.copy() for x in inputs))


def test_attention_backward_equals_finite_differences():
    ours, _ = attentions(norms=True, num_kv_heads=2)
    check_gradients(ours, X.copy(), mask=Mask.causal() & Mask.window(3))


def test_attention_with_a_cache_gives_the_same_and_refuses_to_go_back():
    ours, _ = attentions(num_kv_heads=2)
    whole = ours(X, mask=Mask.causal())
    held = cache.KeyValueCache(1, 2, 2, 5, 6, dtype=np.float64)
    rows = []
    for start, end in ((0, 2), (2, 3), (3, 5)):
        rows.append(ours(X[:, start:end], mask=Mask.causal(), cache=held.layers[0]))
        held.advance(end - start)
    close(np.concatenate(rows, 1), whole)
    with pytest.raises(ValueError, match="no backward through a cached pass"):
        ours.backward(whole)


def test_the_cache_refuses_to_overflow_and_truncates():
    held = cache.KeyValueCache(1, 1, 1, 4, 2)
    held.advance(3)
    with pytest.raises(ValueError, match="holds 3 tokens and 2 more were given; its capacity is 4"):
        held.require(2)
    held.truncate(1)
    assert held.length == 1
    with pytest.raises(ValueError, match="cannot truncate to 2"):
        held.truncate(2)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Ours.Attention(12, 5), "num_heads=5 does not divide dim=12"),
    (lambda: Ours.Attention(12, 4, num_kv_heads=3), "num_kv_heads=3 does not divide num_heads=4"),
    (lambda: Ours.Attention(12, 0), "num_heads=0 does not divide dim=12"),
    (lambda: Ours.Attention(12, 4, biased="qkx"), "biased='qkx' names no projection"),
    (lambda: Ours.Attention(12, 4)(X, value=X), "a value is given without a key"),
    (lambda: cache.KeyValueCache(1, 2, 3, 4, 5).layers[0].append(*(np.ones((2, 3, 1, 6)),) * 2), "do not fit a cache"),
    (lambda: cache.KeyValueCache(1, 2, 3, 4, 5).layers[0].append(*(np.ones((2, 3, 5, 5)),) * 2), "its capacity is 4"),
    (lambda: Ours.Rotary(7), "head_dim=7 is odd"),
    (lambda: Ours.SinusoidalPosition(8, 7), "dim=7 is odd"),
    (lambda: Dropout(1.0), r"dropout p=1.0; expected a probability"),
])  # fmt: skip
def test_impossible_parts_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_dropout_keeps_the_mean_and_passes_the_gradient_where_it_kept():
    layer, x = Dropout(0.25), np.ones((400, 100), "f4")
    y = layer(x)
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert y.mean() == pytest.approx(1, abs=0.02)
    assert (layer.backward(x) == y).all()
    assert (layer(x) != y).any()
    assert layer.eval()(x) is x
    assert (Dropout(0.25)(x) == y).all()


def test_a_state_that_does_not_fit_is_refused_and_nothing_is_loaded():
    layer = redraw(Ours.Linear(3, 2))
    kept = {name: array.copy() for name, array in layer.state_dict().items()}
    good = {"weight": np.ones((2, 3)), "bias": np.ones(2)}
    for wrong, message in (
        ({"weight": np.ones((2, 3))}, "bias is missing"),
        (good | {"gain": np.ones(2)}, "gain is unexpected"),
        (good | {"bias": np.ones(3)}, r"bias has shape \(3,\), expected \(2,\)"),
        (good | {"bias": np.ones(2, int)}, "bias has dtype int64"),
        (good | {"bias": np.array([1, np.nan])}, "bias holds NaN"),
    ):
        with pytest.raises(ValueError, match=f"does not fit Linear: {message}"):
            layer.load_state_dict(wrong)
        assert all((layer.state_dict()[name] == array).all() for name, array in kept.items())
    layer.load_state_dict({name: array.astype("f4") for name, array in good.items()})
    assert layer.weight.data.dtype == np.float64
    good["weight"][:] = 5
    assert (layer.weight.data == 1).all()


@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize(("t", "s"), [(40, 40), (1, 40), (7, 40)])
def test_bucketed_bias_equals_the_torch_part_and_so_does_its_gradient(both_ways, t, s):
    options = dict(max_distance=20, both_ways=both_ways)
    ours, theirs = position.BucketedBias(8, 3, **options), glassformer.parts.BucketedBias(8, 3, **options)
    redraw(ours)
    twin(ours, theirs)
    close(ours(t, s), theirs(t, s))
    dy = draw(2, 3, t, s)
    ours.backward(dy)
    theirs(t, s).expand(2, -1, -1, -1).backward(torch.tensor(dy))
    close(ours.weight.grad, theirs.weight.grad)


def test_buckets_equal_the_torch_part_at_every_edge():
    distance = np.arange(-1500, 1501)
    for num_buckets, max_distance in ((32, 128), (8, 20), (64, 1000), (5, 7)):
        for both_ways in (False, True):
            ours = position.distance_bucket(distance, num_buckets, max_distance, both_ways=both_ways)
            theirs = torch_position.distance_bucket(
                torch.tensor(distance), num_buckets, max_distance, both_ways=both_ways
            )
            assert (ours == theirs.numpy()).all()
