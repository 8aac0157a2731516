"""The stable forms are right where the naive ones are, and still right where those are not."""

import warnings

import numpy as np
import pytest
import torch
from mirrors import close, draw

from glassformer.by_hand import numerics


@pytest.fixture
def overflowing():
    """Overflow is what these tests are about: here it is no error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


PAIRS = [
    (numerics.naive_softmax, numerics.softmax),
    (numerics.naive_log_sum_exp, numerics.log_sum_exp),
    (numerics.naive_log_softmax, numerics.log_softmax),
    (numerics.naive_variance, numerics.variance),
]


@pytest.mark.parametrize(("naive", "stable"), PAIRS)
def test_the_stable_form_is_the_same_equation(naive, stable):
    x = draw(5, 7)
    kept = x.copy()
    close(stable(x), naive(x), 1e-12)
    assert (x == kept).all()


@pytest.mark.parametrize("offset", [-1e4, 89.0, 1e4])
@pytest.mark.parametrize(("naive", "stable"), PAIRS[:2])
@pytest.mark.usefixtures("overflowing")
def test_far_from_zero_the_naive_form_fails_and_the_stable_one_does_not(naive, stable, offset):
    x = draw(3, 64).astype(np.float32)
    far = x + np.float32(offset)
    exact = stable(far.astype(np.float64))
    assert not np.isfinite(naive(far)).all()
    close(stable(far), exact.astype(np.float32), 2e-3)
    assert np.isfinite(stable(far)).all()


def test_log_sum_exp_is_a_smooth_maximum_whose_gradient_is_softmax():
    x = draw(4, 9) * 5
    assert (numerics.log_sum_exp(x) >= x.max(-1)).all()
    assert (numerics.log_sum_exp(x) <= x.max(-1) + np.log(9)).all()
    step, unit = 1e-6, np.eye(9)
    slopes = [(numerics.log_sum_exp(x + step * e) - numerics.log_sum_exp(x - step * e)) / (2 * step) for e in unit]
    close(np.stack(slopes, -1), numerics.softmax(x), 1e-8)


def test_of_nothing_the_sum_is_nothing():
    x = np.array([[-np.inf, -np.inf], [-np.inf, 3.0]])
    assert numerics.log_sum_exp(x).tolist() == [-np.inf, 3.0]


@pytest.mark.usefixtures("overflowing")
def test_a_logarithm_of_an_underflown_probability_is_lost():
    x = np.array([[0.0, -200.0]], np.float32)
    assert numerics.naive_log_softmax(x)[0, 1] == -np.inf
    assert numerics.log_softmax(x)[0, 1] == -200


@pytest.mark.parametrize("block", [1, 3, 64, 100])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_one_pass_gives_maximum_and_sum_after_every_block(block, scale):
    x = draw(3, 64) * scale
    seen = list(numerics.online_softmax_sums(x[:, i : i + block] for i in range(0, 64, block)))
    for i, (top, total) in enumerate(seen):
        part = x[:, : (i + 1) * block]
        assert (top == part.max(-1)).all()
        close(np.log(total) + top, numerics.log_sum_exp(part), 1e-12)
    assert len(seen) == -(-64 // block)


@pytest.mark.parametrize("block", [1, 5, 33, 50])
def test_attention_block_by_block_is_attention(block):
    q, k, v = draw(6, 8), draw(33, 8, seed=1) * 30, draw(33, 4, seed=2)
    close(numerics.online_attention(q, k, v, scale=0.5, block=block), numerics.softmax(0.5 * q @ k.T) @ v, 1e-12)
    with pytest.raises(ValueError, match="block is 0"):
        numerics.online_attention(q, k, v, scale=1.0, block=0)


@pytest.mark.usefixtures("overflowing")
def test_a_variance_of_squares_loses_all_that_the_difference_keeps():
    x = (1e4 + draw(50, 256)).astype(np.float32)
    exact = x.astype(np.float64).var(-1)
    close(numerics.variance(x), exact.astype(np.float32), 1e-3)
    assert abs(numerics.naive_variance(x) / exact - 1).max() > 1
    assert (numerics.naive_variance(x) < 0).any()
    assert np.isnan(numerics.naive_layer_norm(x)).any()
    assert np.isfinite(numerics.layer_norm(x, np.ones(256, "f4"), np.zeros(256, "f4"))).all()


def test_layer_norms_gradient_is_what_is_derived():
    x, dy, weight, bias = draw(4, 6), draw(4, 6, seed=1), draw(6), draw(6, seed=3)
    found = numerics.layer_norm_backward(dy, x, weight)
    inputs = [torch.tensor(array, requires_grad=True) for array in (x, weight, bias)]
    y = torch.nn.functional.layer_norm(inputs[0], (6,), inputs[1], inputs[2], 1e-5)
    close(numerics.layer_norm(x, weight, bias), y, 1e-12)
    y.backward(torch.tensor(dy))
    for array, tensor in zip(found, inputs, strict=True):
        close(array, tensor.grad, 1e-10)
    jacobian_rows = []
    for row in x:  # the docstring's ∂n_i/∂x_j, written out
        sigma = np.sqrt(row.var() + 1e-5)
        n = (row - row.mean()) / sigma
        jacobian_rows.append((np.eye(6) - 1 / 6 - np.outer(n, n) / 6) / sigma)
    close(np.stack([(dy[i] * weight) @ jacobian_rows[i] for i in range(4)]), found[0], 1e-10)


def test_layer_norms_gradient_neither_shifts_nor_stretches_and_the_naive_one_does():
    x, dy, weight = draw(8, 16) * 3, draw(8, 16, seed=1), draw(16, seed=2)
    dx, wrong = numerics.layer_norm_backward(dy, x, weight, 1e-12)[0], numerics.naive_layer_norm_backward(dy, x, weight)
    centred = x - x.mean(-1, keepdims=True)
    assert abs(dx.sum(-1)).max() < 1e-12
    assert abs((dx * centred).sum(-1)).max() < 1e-9
    assert abs(wrong.sum(-1)).max() > 0.1
    assert abs((wrong * centred).sum(-1)).max() > 0.1


def test_fused_cross_entropy_is_the_chain_rule():
    logits, targets = draw(6, 9), np.array([0, 8, 3, 3, 5, 1])
    (loss, dz), (expected, d_expected) = (
        numerics.cross_entropy(logits, targets),
        numerics.naive_cross_entropy(logits, targets),
    )
    assert loss == pytest.approx(expected, rel=1e-12)
    close(dz, d_expected, 1e-12)
    assert abs(dz).max() <= 1 / 6


@pytest.mark.usefixtures("overflowing")
def test_a_very_wrong_model_has_a_loss_and_a_gradient_only_when_fused():
    logits, targets = np.array([[0.0, 300.0], [300.0, 0.0]], np.float32), np.array([0, 0])
    loss, dz = numerics.naive_cross_entropy(logits, targets)
    assert loss == np.inf
    assert np.isnan(dz).any()
    loss, dz = numerics.cross_entropy(logits, targets)
    assert loss == pytest.approx(150)
    assert dz.tolist() == [[-0.5, 0.5], [0, 0]]


def test_finite_differences_are_the_gradient_and_leave_the_numbers_as_they_were():
    x = np.random.default_rng(5).standard_normal((3, 4))
    before, weight = x.copy(), np.arange(12.0).reshape(3, 4)
    found = numerics.finite_differences(lambda: float((numerics.softmax(x) * weight).sum()), x)
    p = numerics.softmax(before)
    assert abs(found - p * (weight - (weight * p).sum(-1, keepdims=True))).max() < 1e-9
    assert (x == before).all()
    cubic = numerics.finite_differences(lambda: float((x**3).sum()), x, step=1e-2)
    assert np.allclose(cubic - 3 * x**2, 1e-4, rtol=1e-6)  # h² f‴ / 6
    with pytest.raises(TypeError, match="float32"):
        numerics.finite_differences(lambda: 0.0, np.zeros(2, "f4"))
