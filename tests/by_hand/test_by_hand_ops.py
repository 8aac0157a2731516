"""The mirror's operations against torch and against their definitions."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mirrors import agrees_with_differences, close, draw

from glassformer.by_hand.ops.attend import attend, attend_backward, softmax
from glassformer.by_hand.ops.cross_entropy import cross_entropy
from glassformer.by_hand.ops.erf import erf
from glassformer.by_hand.ops.mask import Mask
from glassformer.ops.mask import Mask as TorchMask

T, S = 5, 7
PRESENT = np.array([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 1]], bool)
DOCUMENTS = np.array([[0, 0, 0, 1, 1, 2, 2], [4, 4, 4, 4, 3, 3, 3]])
LENGTHS = np.array([3, 6])
DENSE = np.random.default_rng(5).random((2, 4, T, S)) < 0.4


def pairs() -> dict[str, tuple[Mask, TorchMask]]:
    made = {}
    for name, arguments in {
        "causal": (), "window": (3,), "padding": (PRESENT,), "prefix": (LENGTHS,), "documents": (DOCUMENTS,),
        "dense": (DENSE,),
    }.items():  # fmt: skip
        theirs = [torch.tensor(x) if isinstance(x, np.ndarray) else x for x in arguments]
        made[name] = (getattr(Mask, name)(*arguments), getattr(TorchMask, name)(*theirs))
    made["everything"] = (Mask(), TorchMask())
    for first, second in [("causal", "padding"), ("causal", "window"), ("documents", "dense"), ("prefix", "padding")]:
        made[f"{first}-{second}"] = tuple(a & b for a, b in zip(made[first], made[second], strict=True))
    return made


@pytest.mark.parametrize("name", pairs())
def test_a_mask_shows_what_the_torch_mask_shows(name):
    ours, theirs = pairs()[name]
    theirs = theirs.visible(T, S, torch.device("cpu"))
    ours = ours.visible(T, S)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        shape = (2, 4, T, S)
        assert (np.broadcast_to(ours, shape) == torch.broadcast_to(theirs, shape).numpy()).all()


def test_one_query_after_a_cache_needs_no_causal_mask():
    assert Mask.causal().visible(1, 9) is None
    assert Mask.causal().visible(2, 3).tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize(("make", "error"), [
    (lambda: Mask.padding(np.ones((2, 3))), TypeError),
    (lambda: Mask.dense(np.ones((1, 1, 2, 3))), TypeError),
    (lambda: Mask.window(0), ValueError),
])  # fmt: skip
def test_a_mask_of_the_wrong_kind_is_refused(make, error):
    with pytest.raises(error, match=r"float64; expected bool|window size is 0"):
        make()


@pytest.mark.parametrize("name", pairs())
@pytest.mark.parametrize("heads_per_key", [1, 2, 4])
@pytest.mark.parametrize("dropout", [False, True])
def test_attention_and_its_gradients_equal_torch(name, heads_per_key, dropout):
    ours, theirs = pairs()[name]
    q, k, v = draw(2, 4, T, 6), draw(2, 4 // heads_per_key, S, 6, seed=1), draw(2, 4 // heads_per_key, S, 6, seed=2)
    keep = (np.random.default_rng(0).random((2, 4, T, S)) < 0.7) / 0.7 if dropout else None
    out, weights = attend(q, k, v, mask=ours, scale=0.4, keep=keep)
    d_out = draw(*out.shape, seed=3)
    gradients = attend_backward(d_out, q, k, v, weights, scale=0.4, keep=keep)

    inputs = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    scores = inputs[0] @ inputs[1].repeat_interleave(heads_per_key, 1).mT * 0.4
    visible = theirs.visible(T, S, torch.device("cpu"))
    if visible is not None:
        scores = scores.masked_fill(~visible, -1e30)
    expected = scores.softmax(-1)
    if visible is not None:
        expected = expected.masked_fill(~visible, 0)
    close(weights, expected, what="weights")
    expected = expected if keep is None else expected * torch.tensor(keep)
    expected = expected @ inputs[2].repeat_interleave(heads_per_key, 1)
    expected.backward(torch.tensor(d_out))
    close(out, expected, what="output")
    for x, gradient, what in zip(inputs, gradients[:3], "qkv", strict=True):
        close(gradient, x.grad, what=f"gradient of {what}")


def test_a_query_that_sees_nothing_gives_0_and_gradients_of_0():
    visible = np.ones((1, 1, 3, 4), bool)
    visible[..., 1, :] = False
    q, k, v = draw(1, 2, 3, 4), draw(1, 2, 4, 4, seed=1), draw(1, 2, 4, 4, seed=2)
    out, weights = attend(q, k, v, mask=Mask.dense(visible), scale=1.0)
    dq, dk, dv, _ = attend_backward(np.ones_like(out), q, k, v, weights, scale=1.0)
    assert (out[:, :, 1] == 0).all()
    assert (dq[:, :, 1] == 0).all()
    assert all(np.isfinite(x).all() for x in (out, dq, dk, dv))
    assert abs(out[:, :, 0]).min() > 0


def test_softmax_does_not_overflow():
    close(softmax(np.array([[1000.0, 1000.0, -1000.0]])), [[0.5, 0.5, 0.0]])


@pytest.mark.parametrize("ignored", [(), (1, 4), tuple(range(12))])
def test_cross_entropy_and_its_gradient_equal_torch(ignored):
    logits, targets = 5 * draw(3, 4, 9), np.random.default_rng(0).integers(0, 9, (3, 4))
    targets.ravel()[list(ignored)] = -100
    loss, gradient = cross_entropy(logits, targets)
    z = torch.tensor(logits, requires_grad=True)
    total = F.cross_entropy(z.flatten(0, 1), torch.tensor(targets).flatten(), reduction="sum")
    expected = total / max((targets != -100).sum(), 1)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    close(gradient, z.grad)


def test_cross_entropy_leaves_the_logits_as_they_are():
    logits, targets = draw(2, 3), np.array([0, 2])
    kept = logits.copy()
    gradient = cross_entropy(logits, targets)[1]
    assert (logits == kept).all()
    agrees_with_differences(lambda: cross_entropy(logits, targets)[0], {"logits": (logits, gradient)})


def test_targets_outside_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="targets hold 9; the vocabulary has 9 ids"):
        cross_entropy(draw(2, 9), np.array([1, 9]))
    with pytest.raises(ValueError, match="targets hold -1;"):
        cross_entropy(draw(2, 9), np.array([1, -1]))
    with pytest.raises(ValueError, match=r"targets have shape \(3,\)"):
        cross_entropy(draw(2, 9), np.array([1, 2, 3]))


def test_erf_is_right_to_double_precision():
    x = np.concatenate([np.linspace(-7, 7, 100_003), [0.0, -0.0, 1e-300, 40.0, -np.inf]])
    expected = np.array([math.erf(value) for value in x])
    assert abs(erf(x) - expected).max() < 3e-16
    assert erf(x.astype(np.float32)).dtype == np.float32
