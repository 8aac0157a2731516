"""Every attention kernel equals the reference, and the reference the equation written as loops."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from glassformer.ops import attend, attend_online, attend_products, attend_tiles, attend_window
from glassformer.ops.attend import ATTEND, auto, flex, online, products, reference, sdpa, tiled, windowed
from glassformer.ops.mask import Documents, Mask

FAST = ("products", "sdpa", "online", "windowed", "auto")
# b, h, g, t, s, k: plain, grouped after a cache, one token for one key head, more queries than keys
SHAPES = [(2, 4, 4, 7, 7, 8), (2, 4, 2, 5, 9, 6), (1, 6, 2, 1, 11, 4), (2, 2, 1, 9, 5, 8)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(b: int, h: int, t: int, s: int) -> Tensor:
    """An arbitrary pattern, with one query that sees nothing."""
    visible = torch.rand(b, h, t, s, generator=generator(2)) > 0.4
    visible[0, 0, t // 2] = False
    return visible


def padded(b: int, s: int) -> Tensor:
    """Left padding; the last row is all padding."""
    present = torch.ones(b, s, dtype=torch.bool)
    present[0, :2] = False
    present[-1] = False
    return present


def two_lengths(s: int) -> list[int]:
    """Two documents, of 3 places and the rest, where there is a rest."""
    return [3, s - 3] if s > 3 else [s]


MASKS: dict[str, Callable[[int, int, int, int], Mask]] = {
    "everything": lambda b, h, t, s: Mask(),
    "causal": lambda b, h, t, s: Mask.causal(),
    "window": lambda b, h, t, s: Mask.window(3),
    "padding": lambda b, h, t, s: Mask.padding(padded(b, s)),
    "prefix": lambda b, h, t, s: Mask.prefix(torch.arange(2, 2 + b)),
    "documents": lambda b, h, t, s: Mask.documents(torch.arange(s).expand(b, s) // 3),
    "packed": lambda b, h, t, s: Mask.packed(two_lengths(s)),
    "packed window": lambda b, h, t, s: Mask.window(2) & Mask.packed(two_lengths(s)),
    "packed and padding": lambda b, h, t, s: Mask.packed(two_lengths(s)) & Mask.padding(padded(b, s)),
    "dense": lambda b, h, t, s: Mask.dense(some(b, h, t, s)),
    "dense per head": lambda b, h, t, s: Mask.dense(some(1, h, t, s)),
    "dense per row, one for all queries": lambda b, h, t, s: Mask.dense(some(b, 1, 1, s)),
    "causal and padding": lambda b, h, t, s: Mask.causal() & Mask.padding(padded(b, s)),
    "causal window": lambda b, h, t, s: Mask.causal() & Mask.window(4),
    "all of them": lambda b, h, t, s: (
        Mask.causal() & Mask.window(5) & Mask.padding(padded(b, s)) & Mask.prefix(torch.full((b,), 3))
        & Mask.documents(torch.arange(s).expand(b, s) // 4) & Mask.dense(some(b, h, t, s))
    ),
}  # fmt: skip
UNORDERED = ("everything", "padding", "dense", "dense per head", "dense per row, one for all queries")
BIASES: list[tuple[str, ...]] = [(), ("b", "h", "t"), ("1", "h", "t"), ("1", "h", "1"), ("b", "1", "t")]


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).to(dtype).requires_grad_()


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    b, h, g, t, s, k = shape
    q = normal(b, t, h, k, seed=3, dtype=dtype).transpose(1, 2)  # strided as attention hands it over
    return q, normal(b, g, s, k, seed=4, dtype=dtype), normal(b, g, s, k, seed=5, dtype=dtype)


def bias_of(sizes: tuple[str, ...], shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor | None:
    b, h, _, t, s, _ = shape
    lengths = {"b": b, "h": h, "t": t, "1": 1}
    return normal(*(lengths[name] for name in sizes), s, seed=6, dtype=dtype) if sizes else None


def run(kernel: Any, q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None = None, **options: Any) -> Any:
    """The output, and the gradients of a weighted sum of it."""
    options = {"scale": q.shape[-1] ** -0.5, "dropout": 0.0} | options
    out = kernel(q, k, v, mask=mask, score_bias=bias, **options)[0]
    leaves = [x for x in (q, k, v, bias) if x is not None]
    return out, torch.autograd.grad(out, leaves, torch.randn(out.shape, generator=generator(7)).to(out.dtype))


def close(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = expected.abs().max().clamp(min=1.0)
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= tolerance * scale, f"{(ours - expected).abs().max() / scale:.1e}"


# -- the reference -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASKS)
def test_reference_is_the_equation_written_as_loops(name: str) -> None:
    shape = b, h, g, t, s, _ = 2, 4, 2, 5, 9, 6
    q, keys, v = inputs(shape)
    mask, bias = MASKS[name](b, h, t, s), bias_of(("1", "h", "t"), shape)
    assert bias is not None
    q, keys, v, bias = (x.detach() for x in (q, keys, v, bias))
    visible = mask.visible(t, s, q.device)
    visible = (torch.ones(1).bool() if visible is None else visible).expand(b, h, t, s)
    out, weights = reference(q, keys, v, mask=mask, score_bias=bias, scale=0.3, dropout=0.0)
    for i, j, m in product(range(b), range(h), range(t)):
        shared = j // (h // g)
        seen = [n for n in range(s) if visible[i, j, m, n]]
        powers = [math.exp(0.3 * float(q[i, j, m] @ keys[i, shared, n]) + float(bias[0, j, m, n])) for n in seen]
        expected = torch.zeros(s, dtype=torch.float64)
        for n, power in zip(seen, powers, strict=True):
            expected[n] = power / sum(powers)
        close(weights[i, j, m], expected, 1e-14)
        close(out[i, j, m], expected @ v[i, shared], 1e-14)


# -- every kernel ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("kernel", FAST)
def test_values_and_gradients_equal_the_reference(
    kernel: str, name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend_online, "TILE", 4)  # so that there are several, the last ones partial
    monkeypatch.setattr(attend_window, "BLOCK", 4)
    b, h, _, t, s, _ = shape
    if t > s and name not in UNORDERED:
        pytest.skip("queries are the last of the keys under an order")
    for sizes in BIASES:
        mask, bias = MASKS[name](b, h, t, s), bias_of(sizes, shape)
        out, gradients = run(ATTEND[kernel], *inputs(shape), mask, bias)
        expected, expected_gradients = run(reference, *inputs(shape), mask, bias)
        close(out, expected, 1e-13)
        for ours, theirs in zip(gradients, expected_gradients, strict=True):
            close(ours, theirs, 1e-12)
        with torch.no_grad():
            options: Any = {"mask": mask, "score_bias": bias, "scale": shape[-1] ** -0.5, "dropout": 0.0}
            close(ATTEND[kernel](*inputs(shape), **options)[0], expected, 1e-13)


@pytest.mark.parametrize("kernel", ["reference", *FAST])
def test_a_query_that_sees_nothing_gives_0_and_gradients_0(kernel: str) -> None:
    shape = 2, 4, 2, 6, 6, 8
    mask = Mask.causal() & Mask.padding(padded(2, 6))
    for bias in (None, bias_of(("1", "h", "t"), shape)):
        out, (dq, dk, dv, *_) = run(ATTEND[kernel], *inputs(shape), mask, bias)
        assert (out[0, :, :2] == 0).all()
        assert (out[1] == 0).all()
        assert (out[0, :, 2:] != 0).all()
        for gradient in (dq[0, :, :2], dq[1], dk[0, :, :2], dk[1], dv[0, :, :2], dv[1]):
            assert (gradient == 0).all()
        assert all(gradient.isfinite().all() for gradient in (dq, dk, dv))


EPSILON = {torch.float32: 1e-6, torch.bfloat16: 2.0**-6, torch.float16: 2.0**-9}


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
@pytest.mark.parametrize("kernel", ["reference", *FAST])
def test_lower_precision_stays_within_its_rounding(kernel: str, dtype: torch.dtype) -> None:
    shape = 2, 4, 2, 33, 65, 16
    mask = Mask.causal() & Mask.padding(padded(2, 65))
    for sizes in ((), ("1", "h", "t")):
        low, bias = inputs(shape, dtype), bias_of(sizes, shape, dtype)
        out, gradients = run(ATTEND[kernel], *low, mask, bias)
        exact = [x.detach().double().requires_grad_() for x in low]
        wide = None if bias is None else bias.detach().double().requires_grad_()
        expected, expected_gradients = run(reference, *exact, mask, wide)
        assert out.dtype == dtype
        close(out.double(), expected, EPSILON[dtype])
        for ours, theirs in zip(gradients, expected_gradients, strict=True):
            assert ours.dtype == dtype
            close(ours.double(), theirs, 2 * EPSILON[dtype])


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
@pytest.mark.parametrize("kernel", ["reference", *FAST])
def test_large_scores_stay_finite(kernel: str, dtype: torch.dtype) -> None:
    q, k, v = inputs((1, 2, 2, 8, 8, 16), dtype)
    out, gradients = run(ATTEND[kernel], q * 60, k * 60, v, Mask.causal())
    assert out.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kernel", ["reference", *FAST])
def test_autocast_gives_its_dtype_and_works_backward(kernel: str) -> None:
    shape = 2, 4, 2, 9, 9, 16
    expected, expected_gradients = run(reference, *inputs(shape, torch.float32), Mask.causal())
    with torch.autocast("cpu", torch.bfloat16):
        out, gradients = run(ATTEND[kernel], *inputs(shape, torch.float32), Mask.causal())
    assert out.dtype == torch.bfloat16
    close(out.float(), expected, 2.0**-6)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert ours.dtype == torch.float32
        close(ours, theirs, 2.0**-5)


@pytest.mark.parametrize("kernel", ["reference", *FAST])
def test_what_does_not_fit_is_named(kernel: str, no_shape_checks: None) -> None:
    q, k, v = inputs((2, 4, 2, 5, 7, 8))
    options: Any = {"score_bias": None, "scale": 1.0, "dropout": 0.0}
    for wrong in ((q[:, :3], k, v), (q[:1], k, v), (q[..., :4], k, v), (q, k, v[:, :, :5])):
        with pytest.raises(ValueError, match="do not fit together"):
            ATTEND[kernel](*wrong, mask=Mask(), **options)
    with pytest.raises(ValueError, match="causal mask meets 7 queries and 5 keys"):
        ATTEND[kernel](*inputs((2, 4, 2, 7, 5, 8)), mask=Mask.causal(), **options)
    with pytest.raises(ValueError, match="padding mask of 3 rows meets a batch of 2"):
        ATTEND[kernel](q, k, v, mask=Mask.padding(padded(3, 7)), **options)


# -- dropout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["reference", *FAST])
def test_dropout_drops_its_share_and_scales_the_rest(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attend_online, "TILE", 32)
    monkeypatch.setattr(attend_window, "BLOCK", 32)
    q, k, _ = inputs((2, 2, 2, 96, 96, 8))
    v = torch.eye(96, dtype=torch.float64).expand(2, 2, 96, 96)  # the output is the dropped weights themselves
    q, k = torch.cat([q, torch.zeros(2, 2, 96, 88)], -1), torch.cat([k, torch.zeros(2, 2, 96, 88)], -1)
    options: Any = {"mask": Mask(), "score_bias": None, "scale": 0.3}
    weights = reference(q, k, v, dropout=0.0, **options)[0]
    torch.manual_seed(1)
    dropped = ATTEND[kernel](q, k, v, dropout=0.25, **options)[0]
    kept = dropped != 0
    close(dropped[kept], weights[kept] / 0.75, 1e-12)
    assert abs(kept.double().mean() - 0.75) < 0.01  # 36,864 draws: four standard deviations
    share = kept.double().unflatten(2, (3, 32)).unflatten(4, (3, 32)).mean((0, 1, 3, 5))
    assert (share - 0.75).abs().max() < 0.03, "in every tile"
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[:, :, :32, :32], kept[:, :, 32:64, 32:64]), "tiles draw their own"


@pytest.mark.parametrize("kernel", ["reference", *FAST])
def test_dropout_follows_the_seed(kernel: str) -> None:
    def out(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return run(ATTEND[kernel], *inputs((2, 4, 2, 5, 7, 8)), Mask(), dropout=0.5)[0]

    assert torch.equal(out(0), out(0))
    assert not torch.equal(out(0), out(1))


@pytest.mark.parametrize("kernel", ["products", "online", "auto"])
def test_gradients_under_dropout_are_those_of_the_dropped_weights(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attend_online, "TILE", 3)
    shape = 1, 4, 2, 4, 7, 3
    bias = bias_of(("1", "h", "t"), shape)

    def seeded(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(5)
        return ATTEND[kernel](q, k, v, mask=Mask.causal(), score_bias=bias, scale=0.6, dropout=0.4)[0]

    assert torch.autograd.gradcheck(seeded, (*inputs(shape), bias))


# -- what is particular to one -----------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor made inside it."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_online_never_forms_the_whole_matrix() -> None:
    shape = 1, 1, 1, 300, 300, 4  # several tiles of the true size
    with Largest() as largest:
        out, gradients = run(online, *inputs(shape), Mask.causal() & Mask.padding(torch.ones(1, 300).bool()))
    assert largest.numel == attend_online.TILE**2
    expected, expected_gradients = run(reference, *inputs(shape), Mask.causal())
    close(out, expected, 1e-13)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        close(ours, theirs, 1e-12)


@pytest.mark.parametrize(
    ("mask", "tiles"), [(Mask(), 16), (Mask.causal(), 10), (Mask.window(2), 10), (Mask.causal() & Mask.window(2), 7)]
)
def test_online_skips_tiles_that_are_hidden(mask: Mask, tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attend_online, "TILE", 4)
    assert sum(len(seen) for _, seen in attend_online._Tiles(mask, 1.0, 0.0, 0).pairs(16, 16)) == tiles


@pytest.mark.parametrize("order", [Mask(), Mask.causal()])
@pytest.mark.parametrize("present", [False, True])
def test_windowed_forms_and_keeps_no_more_than_the_window_needs(order: Mask, present: bool) -> None:
    n, w = 1500, 40
    mask = order & Mask.window(w)
    mask = mask & Mask.padding(torch.arange(n).expand(1, n) > 3) if present else mask
    with Largest() as largest:
        out, gradients = run(windowed, *inputs((1, 2, 1, n, n, 4)), mask)
    assert largest.numel <= max(2 * n * 4, 2 * attend_window.BLOCK * (attend_window.BLOCK + 2 * w))
    expected, expected_gradients = run(reference, *inputs((1, 2, 1, n, n, 4)), mask)
    close(out, expected, 1e-13)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        close(ours, theirs, 1e-12)


def test_auto_is_windowed_where_a_window_leaves_out_half_of_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(q: Tensor, *rest: Any, **options: Any) -> Any:
        calls.append(q.shape[2])
        return windowed(q, *rest, **options)

    monkeypatch.setattr(attend, "windowed", counted)
    options: Any = {"score_bias": None, "scale": 0.3, "dropout": 0.0}
    narrow, wide = Mask.causal() & Mask.window(64), Mask.causal() & Mask.window(600)
    for (t, s), mask, chosen in (
        ((1024, 1024), narrow, True),
        ((1024, 1024), wide, False),
        ((1024, 1024), Mask.causal(), False),
        ((128, 128), narrow, False),  # all of its weights are few
        ((1, 1024), narrow, True),
        ((1, 127), narrow, False),
    ):
        calls.clear()
        q, k, v = inputs((1, 2, 1, t, s, 4))
        out, _ = auto(q, k, v, mask=mask, **options)
        assert calls == ([t] if chosen else []), (t, s)
        close(out, reference(q, k, v, mask=mask, **options)[0], 1e-13)


@pytest.mark.parametrize("name", ["everything", "causal", "padding", "dense", "all of them"])
@pytest.mark.parametrize("biased", [True, False])
def test_rows_that_are_filled_up_to_whole_vectors_give_what_the_reference_gives(name: str, biased: bool) -> None:
    shape = 2, 4, 2, 49, 49, 16
    q, k, v = (x.detach() for x in inputs(shape, torch.bfloat16))
    assert [attend_products._more(n, q) for n in (49, 64, 33, 197)] == [15, 0, 0, 27]
    assert attend_products._more(49, q.float()) == 0
    bias = bias_of(("1", "h", "t"), shape, torch.bfloat16) if biased else None
    bias = None if bias is None else bias.detach()
    options: Any = dict(mask=MASKS[name](2, 4, 49, 49), score_bias=bias, scale=0.3, dropout=0.0)
    with torch.no_grad():
        close(products(q, k, v, **options)[0].float(), reference(q, k, v, **options)[0].float(), 2e-2)


def test_auto_is_products_on_short_sequences_and_sdpa_on_long_ones_and_single_tokens() -> None:
    def same(shape: tuple[int, ...], kernel: Any, dtype: torch.dtype = torch.float32, **options: Any) -> bool:
        q, k, v = inputs(shape, dtype)
        options = {"mask": Mask.causal(), "score_bias": None, "scale": 0.3, "dropout": 0.0} | options
        torch.manual_seed(0)
        ours = auto(q, k, v, **options)[0]
        torch.manual_seed(0)
        return torch.equal(ours, kernel(q, k, v, **options)[0])

    long, short, one = (1, 1, 1, 512, 512, 32), (1, 1, 1, 256, 256, 32), (1, 4, 2, 1, 256, 32)
    assert same(short, products)
    assert not same(short, sdpa)
    assert same(long, sdpa)
    assert not same(long, products)
    assert same(long, products, torch.bfloat16)
    assert same(one, sdpa)
    assert same(long, products, dropout=0.1)
    assert same(long, products, score_bias=torch.zeros(1, 1, 512, 512, requires_grad=True))
    assert same(long, sdpa, score_bias=torch.zeros(1, 1, 512, 512))
    assert same(short, sdpa, torch.float16)
    with torch.no_grad():
        assert same(short, products)
        assert same(long, tiled)
        assert same(long, tiled, mask=Mask.causal() & Mask.window(9))
        assert same(long, tiled, score_bias=torch.zeros(1, 1, 512, 512, requires_grad=True))
        assert same(long, sdpa, torch.float64)
        assert same(one, sdpa)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MASKS)
def test_tiled_equals_the_reference(name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attend_tiles, "BLOCK", 4)
    b, h, _, t, s, _ = shape
    if t > s and name not in UNORDERED:
        pytest.skip("queries are the last of the keys under an order")
    for sizes, tile in product(BIASES, (100, 1000)):  # bytes: a query or two of one head; some heads, or all of a row
        monkeypatch.setattr(attend_tiles, "TILE", tile)
        bias, (q, k, v) = bias_of(sizes, shape), inputs(shape)
        options: Any = {"mask": MASKS[name](b, h, t, s), "score_bias": bias, "scale": 0.3, "dropout": 0.0}
        with torch.no_grad():
            close(tiled(q, k, v, **options)[0], reference(q, k, v, **options)[0], 1e-13)
        asked, fused = tiled(q, k, v, **options)[0], sdpa(q, k, v, **options)[0]
        assert asked.requires_grad
        assert asked.equal(fused)


def test_auto_without_gradients_is_as_exact_as_sdpa_in_bfloat16_too() -> None:
    q, k, v = (x.detach() for x in inputs((1, 2, 2, 700, 700, 16), torch.bfloat16))
    options: Any = {"mask": Mask.causal(), "score_bias": None, "scale": 1.0, "dropout": 0.0}  # scores of 10 and more
    expected = reference(q.double(), k.double(), v.double(), **options)[0]
    ours, theirs = ((kernel(q, k, v, **options)[0].double() - expected).norm() for kernel in (auto, sdpa))
    assert ours <= theirs
    assert auto(q, k, v, **options)[0].dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("mask", "most"),
    [(Mask(), 1024 * 1024), (Mask.causal(), 1024 * 1024), (Mask.causal() & Mask.window(64), 6 * 128 * (128 + 63))],
    ids=("everything", "causal", "window"),
)
def test_tiled_forms_one_tile_at_a_time(mask: Mask, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attend_tiles, "TILE", 4 * 1024 * 1024)  # one head of 1024 × 1024 in float32
    options: Any = {"mask": mask, "score_bias": None, "scale": 0.3, "dropout": 0.0}
    q, k, v = (x.detach() for x in inputs((2, 3, 3, 1024, 1024, 4), torch.float32))
    with Largest() as largest:
        out = tiled(q, k, v, **options)[0]
    assert largest.numel <= most
    close(out, reference(q, k, v, **options)[0], 1e-5)


def test_torch_func_sees_through_the_default_kernel() -> None:
    q, k, v = (x.detach() for x in inputs((2, 4, 2, 5, 5, 8)))
    options: Any = {"mask": Mask.causal(), "score_bias": None, "scale": 0.3, "dropout": 0.0}
    ours = torch.func.grad(lambda q: auto(q, k, v, **options)[0].sum())(q)
    close(ours, torch.func.grad(lambda q: reference(q, k, v, **options)[0].sum())(q), 1e-12)


def test_hand_written_gradients_refuse_to_be_differentiated_again() -> None:
    for kernel in (products, online):
        q, k, v = inputs((1, 2, 2, 3, 3, 4))
        out = kernel(q, k, v, mask=Mask(), score_bias=None, scale=0.5, dropout=0.0)[0]
        (dq,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            dq.sum().backward()


# -- flex and the compiler ---------------------------------------------------------------------------------------------


def test_flex_says_what_it_cannot_do() -> None:
    q, k, v = inputs((1, 2, 2, 16, 16, 16), torch.float32)
    options: Any = {"mask": Mask.causal(), "score_bias": None, "scale": 0.25}
    with pytest.raises(ValueError, match="flex kernel has no gradients on a CPU"):
        flex(q, k, v, dropout=0.0, **options)
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"flex kernel has no dropout, and dropout=0\.1"):
            flex(q, k, v, dropout=0.1, **options)
        with pytest.raises(ValueError, match=r"not torch\.float64"):
            flex(q.double(), k.double(), v.double(), dropout=0.0, **options)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # inductor's own imports
@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [
        ("everything", (2, 4, 4, 9, 7, 16), ("1", "h", "1")),
        ("causal", (2, 4, 2, 5, 37, 16), ()),
        ("causal and padding", (2, 4, 4, 40, 40, 16), ("b", "h", "t")),
        ("all of them", (2, 4, 2, 17, 37, 16), ("1", "h", "t")),
    ],
)
def test_flex_equals_the_reference(name: str, shape: tuple[int, ...], sizes: tuple[str, ...]) -> None:
    torch._dynamo.reset()  # it compiles eight patterns of sizes at most
    b, h, _, t, s, _ = shape
    bias = bias_of(sizes, shape, torch.float32)
    for _ in range(2):  # a second mask of the same pattern
        options: Any = {"mask": MASKS[name](b, h, t, s), "score_bias": bias, "scale": 0.25, "dropout": 0.0}
        with torch.no_grad():
            expected = reference(*inputs(shape, torch.float32), **options)[0]
            close(flex(*inputs(shape, torch.float32), **options)[0], expected, 1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # inductor's own imports
@pytest.mark.parametrize("kernel", ["reference", "products", "sdpa", "auto"])
def test_kernels_compile_without_a_graph_break(kernel: str) -> None:
    def loss(q: Tensor, k: Tensor, v: Tensor, present: Tensor) -> Tensor:
        mask = Mask.causal() & Mask.padding(present)
        out, _ = ATTEND[kernel](q, k, v, mask=mask, score_bias=None, scale=0.3, dropout=0.0)
        return (out * torch.arange(out.numel()).view(out.shape)).sum()

    compiled = torch.compile(loss, fullgraph=True)
    for s in (8, 11):
        q, k, v = (x.detach().requires_grad_() for x in inputs((2, 4, 2, 5, s, 16), torch.float32))
        present = padded(2, s)
        ours, expected = compiled(q, k, v, present), loss(q, k, v, present)
        close(ours, expected, 1e-5)
        pairs = zip(torch.autograd.grad(ours, (q, k, v)), torch.autograd.grad(expected, (q, k, v)), strict=True)
        for gradient, theirs in pairs:
            close(gradient, theirs, 1e-5)


@pytest.mark.parametrize("kernel", [name for name in FAST if name != "flex"])
def test_packed_documents_have_no_scores_between_them(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = inputs((1, 4, 2, 12, 12, 6))
    mask = Mask.packed((5, 3, 4)) & Mask.window(3)
    expected, expected_gradients = run(reference, q, k, v, mask)
    monkeypatch.setattr(Documents, "allows", lambda *_: pytest.fail("the documents' mask is written out"))
    out, gradients = run(ATTEND[kernel], q, k, v, Mask.packed((5, 3, 4)) & Mask.window(3))
    close(out, expected, 1e-14)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        close(ours, theirs, 1e-13)


def test_the_causal_mask_that_inference_left_behind_serves_training_and_other_dtypes() -> None:
    options = dict(mask=Mask.causal(), score_bias=None, scale=0.5, dropout=0.0)
    for dtype, bound in ((torch.float32, 1e-6), (torch.float64, 1e-14), (torch.float32, 1e-6)):
        q, k, v = (torch.randn(2, 3, 17, 8, dtype=dtype) for _ in range(3))
        with torch.inference_mode():
            before, _ = ATTEND["products"](q, k, v, **options)  # pyright: ignore[reportArgumentType]
        q.requires_grad_()
        out, _ = ATTEND["products"](q, k, v, **options)  # pyright: ignore[reportArgumentType]
        out.sum().backward()
        expected, _ = ATTEND["reference"](q, k, v, **options)  # pyright: ignore[reportArgumentType]
        for got in (before, out):
            torch.testing.assert_close(got.clone(), expected, rtol=0, atol=bound * float(expected.detach().abs().max()))
        (dq,) = torch.autograd.grad(expected.sum(), q)
        torch.testing.assert_close(q.grad, dq, rtol=0, atol=10 * bound * float(dq.abs().max()))
