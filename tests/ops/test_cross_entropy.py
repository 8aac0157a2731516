"""Cross-entropy of the next token: both kernels against the equation, by value, gradient, dtype and refusal."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from glassformer.ops import cross_entropy_chunked
from glassformer.ops.cross_entropy import CROSS_ENTROPY, chunked, reference
from glassformer.ops.linear import linear_kernel
from glassformer.parts import Embedding, Linear, TiedLinear

V, D = 23, 5


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three rows at a time, so that there are several chunks, the last one partial."""
    monkeypatch.setattr(cross_entropy_chunked, "CHUNK_BYTES", 3 * 4 * V)
    return


def some_head(*, bias: bool = True, dtype: torch.dtype = torch.float64) -> Linear:
    head = Linear(D, V, bias=bias)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    return head.to(dtype)


def some_rows(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    targets = torch.randint(0, V, shape)
    targets.view(-1)[1::4] = -100
    return torch.randn(*shape, D, dtype=torch.float64).to(dtype).requires_grad_(), targets


def run(kernel: Any, hidden: Tensor, head: Any, targets: Tensor, weight: float = 1.0) -> tuple[Tensor, list[Tensor]]:
    """The loss and the gradients of it times `weight`."""
    parameters = [p for p in head.parameters() if p.requires_grad] or [head.weight]
    loss = kernel(hidden, head, targets)[0]
    return loss, list(torch.autograd.grad(loss * weight, [hidden, *parameters]))


def close(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    assert ours.shape == expected.shape
    assert (ours.double() - expected.double()).abs().max() <= tolerance * expected.double().abs().max()


def test_reference_is_the_equation_written_as_loops() -> None:
    (hidden, targets), head = some_rows(2, 7), some_head()
    loss, logits = reference(hidden, head, targets)
    losses = []
    for row, target in zip(logits.detach().flatten(0, 1).tolist(), targets.flatten().tolist(), strict=True):
        if target != -100:
            losses.append(math.log(sum(math.exp(z) for z in row)) - row[target])
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-14)
    assert torch.equal(logits, head(hidden))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (2, 7), (1, 1), (3, 3), (2, 2, 2)], ids=str)
def test_chunked_equals_the_reference_in_value_and_gradients(shape: tuple[int, ...], bias: bool) -> None:
    (hidden, targets), head = some_rows(*shape), some_head(bias=bias)
    targets.view(-1)[0] = 4
    loss, gradients = run(chunked, hidden, head, targets, weight=2.5)
    expected, expected_gradients = run(reference, hidden, head, targets, weight=2.5)
    close(loss, expected, 1e-14)
    assert len(gradients) == 2 + bias
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        close(ours, theirs, 1e-13)
    with torch.no_grad():
        close(chunked(hidden, head, targets)[0], expected, 1e-14)


@pytest.mark.parametrize("leaf", ["hidden", "weight", "bias"])
def test_gradients_are_those_of_finite_differences(leaf: str) -> None:
    (hidden, targets), head = some_rows(5), some_head()
    point = {"hidden": hidden, "weight": head.weight, "bias": head.bias}[leaf]
    (gradient,) = torch.autograd.grad(chunked(hidden, head, targets)[0], point)
    with torch.no_grad():
        step = 1e-5 * torch.randn_like(point)
        point += step
        ahead = chunked(hidden, head, targets)[0]
        point -= 2 * step
        behind = chunked(hidden, head, targets)[0]
    assert (gradient * step).sum().item() == pytest.approx(((ahead - behind) / 2).item(), rel=1e-7)


@pytest.mark.parametrize("frozen", ["hidden", "weight", "bias"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_its_own(frozen: str) -> None:
    (hidden, targets), head = some_rows(7), some_head()
    leaves = {"hidden": hidden, "weight": head.weight, "bias": head.bias}
    leaves[frozen].requires_grad_(False)
    learning = [leaf for leaf in leaves.values() if leaf.requires_grad]
    ours = torch.autograd.grad(chunked(hidden, head, targets)[0], learning)
    theirs = torch.autograd.grad(reference(hidden, head, targets)[0], learning)
    for gradient, expected in zip(ours, theirs, strict=True):
        close(gradient, expected, 1e-13)


def test_a_tied_head_adds_its_gradient_to_the_embeddings() -> None:
    embedding = Embedding(V, D).double()
    ids = torch.tensor([[1, 5, 5, 7], [0, 22, 3, 1]])
    targets = ids.roll(-1, 1)
    gradients = {}
    for name, kernel in CROSS_ENTROPY.items():
        embedding.zero_grad()
        kernel(embedding(ids), TiedLinear(embedding), targets)[0].backward()
        assert embedding.weight.grad is not None
        gradients[name] = embedding.weight.grad.clone()
    close(gradients["chunked"], gradients["reference"], 1e-13)


@pytest.mark.parametrize(("dtype", "epsilon"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_lower_precision_stays_within_its_rounding(dtype: torch.dtype, epsilon: float) -> None:
    (hidden, targets), head = some_rows(64, dtype=dtype), some_head(dtype=dtype)
    loss, gradients = run(chunked, hidden, head, targets)
    wide = some_head()
    wide.load_state_dict({name: tensor.double() for name, tensor in head.state_dict().items()})
    expected, expected_gradients = run(reference, hidden.detach().double().requires_grad_(), wide, targets)
    assert loss.dtype == torch.float32
    close(loss, expected, epsilon)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert ours.dtype == dtype
        close(ours, theirs, epsilon)


def test_autocast_computes_in_its_dtype_and_gives_float32_gradients() -> None:
    (hidden, targets), head = some_rows(64, dtype=torch.float32), some_head(dtype=torch.float32)
    expected, expected_gradients = run(reference, hidden, head, targets)
    results = {}
    for name, kernel in CROSS_ENTROPY.items():
        with torch.autocast("cpu", torch.bfloat16):
            loss = kernel(hidden, head, targets)[0]
        results[name] = [loss, *torch.autograd.grad(loss, [hidden, head.weight, head.bias])]
    for ours, exact in zip(results["chunked"], [expected, *expected_gradients], strict=True):
        assert ours.dtype == torch.float32
        close(ours, exact, 0.02)
    assert results["chunked"][0] != expected, "it computed in float32"
    close(results["chunked"][0], results["reference"][0], 1e-3)


def test_loss_scaling_reaches_the_gradients_of_float16() -> None:
    """Gradients divided by the count before they are scaled up would vanish below float16's smallest number."""
    (hidden, targets), head = some_rows(4096, dtype=torch.float16), some_head(dtype=torch.float16)
    scale = 2.0**16
    _, ours = run(chunked, hidden, head, targets, weight=scale)
    wide = some_head()
    wide.load_state_dict({name: tensor.double() for name, tensor in head.state_dict().items()})
    _, exact = run(reference, hidden.detach().double().requires_grad_(), wide, targets, weight=scale)
    close(ours[0], exact[0], 5e-3)


@pytest.mark.parametrize("kernel", CROSS_ENTROPY)
def test_nothing_counted_gives_0_with_gradients_0(kernel: str) -> None:
    (hidden, _), head = some_rows(2, 4), some_head()
    loss, gradients = run(CROSS_ENTROPY[kernel], hidden, head, torch.full((2, 4), -100))
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("ignored", [0, 99])
@pytest.mark.parametrize("kernel", CROSS_ENTROPY)
def test_the_ignored_index_may_be_any_number(kernel: str, ignored: int) -> None:
    (hidden, _), head = some_rows(4), some_head()
    targets = torch.tensor([3, ignored, 5, ignored])
    ours = CROSS_ENTROPY[kernel](hidden, head, targets, ignore_index=ignored)[0]
    kept = torch.tensor([0, 2])
    close(ours, reference(hidden[kept], head, targets[kept])[0], 1e-14)


@pytest.mark.parametrize("kernel", CROSS_ENTROPY)
def test_large_logits_stay_finite_and_exact(kernel: str) -> None:
    (hidden, targets), head = some_rows(12, dtype=torch.float32), some_head(dtype=torch.float32)
    loss, gradients = run(CROSS_ENTROPY[kernel], (hidden * 3000).detach().requires_grad_(), head, targets)
    logits = head(hidden * 3000).double()
    counted = targets != -100
    exact = torch.nn.functional.cross_entropy(logits[counted], targets[counted])
    close(loss, exact, 1e-6)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kernel", CROSS_ENTROPY)
def test_targets_that_do_not_fit_are_named(kernel: str, no_shape_checks: None) -> None:
    call, head, hidden = CROSS_ENTROPY[kernel], some_head(), torch.randn(2, 3, D, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"targets of shape \(2, 4\) meet logits of shape \(2, 3, 23\)"):
        call(hidden, head, torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(TypeError, match=r"targets have dtype torch.int32; expected torch.int64"):
        call(hidden, head, torch.zeros(2, 3, dtype=torch.int32))
    for wrong in (V, -1):
        targets = torch.zeros(2, 3, dtype=torch.long)
        targets[1, 2] = wrong
        with pytest.raises(ValueError, match=f"target {wrong} is outside the vocabulary of 23 ids"):
            call(hidden, head, targets)


class Scaled(nn.Linear):
    """A head that does more than its weight says."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Wrapped(nn.Module):
    """What an adapter around a head looks like."""

    def __init__(self, base: Linear) -> None:
        super().__init__()
        self.base, self.kernel = base, base.kernel
        self.weight, self.bias = base.weight, base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x.sum()


def test_heads_that_are_more_than_a_product_are_refused() -> None:
    hidden, targets = some_rows(4, dtype=torch.float32)
    hooked, rounding, normed = some_head(dtype=torch.float32), some_head(dtype=torch.float32), nn.Linear(D, V)
    hooked.register_forward_hook(lambda *_: None)
    rounding.kernel = linear_kernel("int8")
    torch.nn.utils.parametrizations.weight_norm(normed)
    wrapped = Wrapped(some_head(dtype=torch.float32))
    for head, message in [
        (Scaled(D, V), "Scaled may do more"),
        (wrapped, "Wrapped may do more"),
        (normed, "may do more"),
        (nn.Identity(), "Identity may do more"),
        (hooked, "the head has hooks"),
        (rounding, "kernel Int8 rounds its weight"),
        (nn.Linear(D + 1, V), "hidden states 5 wide meet a head for 6"),
    ]:
        with pytest.raises(ValueError, match=message):
            chunked(hidden, head, targets)
    close(chunked(hidden, nn.Linear(D, V), targets)[0], torch.tensor(math.log(V)), 0.2)


def test_a_second_backward_pass_is_refused_rather_than_wrong() -> None:
    (hidden, targets), head = some_rows(4), some_head()
    loss = chunked(hidden, head, targets)[0]
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass through the chunked cross-entropy"):
        loss.backward()


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor made inside it."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_the_logits_are_never_whole() -> None:
    (hidden, targets), head = some_rows(40), some_head()
    with Largest() as largest:
        run(chunked, hidden, head, targets)
    assert largest.numel == max(V * D, 40 * D, 3 * V)
    with Largest() as largest:
        run(reference, hidden, head, targets)
    assert largest.numel == 40 * V


@pytest.mark.parametrize("counted", [6, 40])
def test_chunked_computes_no_logits_of_rows_that_do_not_count(counted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (hidden, _), head, seen = some_rows(40), some_head(), []
    targets = torch.arange(40) % V
    targets[torch.randperm(40, generator=torch.Generator().manual_seed(0))[counted:]] = cross_entropy_chunked.IGNORE
    right = cross_entropy_chunked._losses_then_dz
    monkeypatch.setattr(
        cross_entropy_chunked, "_losses_then_dz", lambda z, at: [right(z, at), seen.append(z.shape[0])][0]
    )
    loss, gradients = run(chunked, hidden, head, targets)
    assert sum(seen) == counted
    expected, expected_gradients = run(reference, hidden, head, targets)
    close(loss, expected, 1e-14)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        close(ours, theirs, 1e-13)
