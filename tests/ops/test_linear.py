"""Every linear kernel computes x Wᵀ + b, with its gradients where it has them, and never from an old weight."""

import threading
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.ops import linear_onednn, machine
from glassformer.ops.linear import LINEAR, linear_kernel
from glassformer.ops.linear_switch import onednn_matmul, onednn_matmul_is_exact
from glassformer.parts.linear import Linear

EXACT = ["reference", "onednn", "measured"]
SMALL = ["bfloat16", "int8", "int4"]
SHAPES = [(7,), (1, 7), (5, 7), (0, 7), (2, 3, 7), (2, 0, 7), (1, 1, 7), (2, 1, 3, 7)]


@pytest.fixture(autouse=True, params=[0.0], ids=["onednn-always"])
def pays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`measured` takes oneDNN for every size here; what it does elsewhere is tested by itself."""
    monkeypatch.setattr(machine, "onednn_pays_from", lambda dtype, case: request.param)


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype | None = None) -> None:
    """Equal up to the rounding of `dtype` (default: its own), relative to the largest expected value."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    scale = expected.abs().max().item() if expected.numel() else 1.0
    bound = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 2**-7}[dtype or expected.dtype]
    torch.testing.assert_close(actual, expected, rtol=0, atol=bound * max(scale, 1e-30))


def drawn(*shape: int, dtype: torch.dtype = torch.float32, grad: bool = False) -> Tensor:
    return torch.randn(shape, dtype=dtype).requires_grad_(grad)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_values_and_gradients_equal_the_reference(name: str, dtype: torch.dtype, shape: tuple, biased: bool) -> None:
    x, weight = drawn(*shape, dtype=dtype, grad=True), drawn(5, 7, dtype=dtype, grad=True)
    inputs = (x, weight, drawn(5, dtype=dtype, grad=True)) if biased else (x, weight)
    kernel, bias = linear_kernel(name), inputs[2] if biased else None
    expected, actual = F.linear(x, weight, bias), kernel(x, weight, bias)
    close(actual, expected)
    dy = torch.randn_like(expected)
    for got, want in zip(
        torch.autograd.grad(actual, inputs, dy), torch.autograd.grad(expected, inputs, dy), strict=True
    ):
        close(got, want)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            close(kernel(x, weight, bias), expected.detach())


@pytest.mark.parametrize("exact_switch", [True, False])
@pytest.mark.parametrize("size", [(33, 16, 48), (33, 48, 16), (1, 129, 65), (200, 64, 96)], ids=str)
def test_both_ways_of_the_backward_products_equal_the_reference(
    size: tuple[int, int, int], exact_switch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_onednn, "onednn_matmul_is_exact", lambda: exact_switch)
    rows, in_dim, out_dim = size
    inputs = drawn(rows, in_dim, grad=True), drawn(out_dim, in_dim, grad=True), drawn(out_dim, grad=True)
    dy = drawn(rows, out_dim)
    actual = torch.autograd.grad(linear_kernel("onednn")(*inputs), inputs, dy)
    expected = torch.autograd.grad(F.linear(*(t.double() for t in inputs)), inputs, dy.double())
    for got, want in zip(actual, expected, strict=True):
        close(got, want.float())


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("needed", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)], ids=str)
def test_only_the_gradients_asked_for_are_computed(name: str, needed: tuple[int, ...]) -> None:
    inputs = [drawn(*shape, grad=bool(need)) for shape, need in zip([(3, 7), (5, 7), (5,)], needed, strict=True)]
    linear_kernel(name)(*inputs).sum().backward()
    twins = [t.detach().clone().requires_grad_(t.requires_grad) for t in inputs]
    F.linear(*twins).sum().backward()
    for tensor, twin in zip(inputs, twins, strict=True):
        assert (tensor.grad is None) == (twin.grad is None)
        if twin.grad is not None:
            close(tensor.grad, twin.grad)


@pytest.mark.parametrize("name", [*EXACT, *SMALL])
def test_inputs_and_weights_may_lie_in_memory_as_they_like(name: str) -> None:
    kernel = linear_kernel(name)
    exact = name in EXACT
    base, wide = drawn(64, 2, 5), drawn(64, 96)
    weights = [wide.t(), wide.t()[::2], drawn(96, 128)[:, ::2], drawn(1, 64).expand(96, 64)]
    inputs = [base.permute(1, 2, 0), drawn(64, 5).t(), drawn(1, 64).expand(7, 64), drawn(3, 128)[:, 1::2]]
    with torch.no_grad():
        for weight in weights:
            for x in inputs:
                y, expected = kernel(x, weight, None), F.linear(x, weight)
                again = linear_kernel(name)(x.contiguous(), weight.contiguous(), None)
                assert torch.equal(y, again) if not exact else True
                close(y, expected if exact else again)


@pytest.mark.parametrize("name", EXACT)
def test_non_contiguous_training_equals_the_reference(name: str) -> None:
    x, weight = drawn(7, 4, grad=True), drawn(7, 5, grad=True)
    dy = drawn(1, 5).expand(4, 5)
    actual = torch.autograd.grad(linear_kernel(name)(x.t(), weight.t(), None), (x, weight), dy)
    expected = torch.autograd.grad(F.linear(x.t(), weight.t()), (x, weight), dy)
    for got, want in zip(actual, expected, strict=True):
        close(got, want)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_is_honoured_as_the_reference_does(name: str, x_dtype: torch.dtype) -> None:
    inputs = drawn(3, 7, dtype=x_dtype, grad=True), drawn(5, 7, grad=True), drawn(5, grad=True)
    kernel, dy = linear_kernel(name), drawn(3, 5, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        actual, expected = kernel(*inputs), F.linear(*inputs)
        with torch.no_grad():
            close(kernel(*inputs), expected.detach())
    close(actual, expected)
    assert actual.dtype == torch.bfloat16
    for got, want in zip(
        torch.autograd.grad(actual, inputs, dy), torch.autograd.grad(expected, inputs, dy), strict=True
    ):
        close(got, want, torch.bfloat16)


def test_after_autocast_the_packed_weight_is_float32_again() -> None:
    kernel, x, weight = linear_kernel("onednn"), drawn(3, 7), drawn(5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        kernel(x, weight, None)
    close(kernel(x, weight, None), F.linear(x, weight))


def test_a_step_in_another_dtype_is_not_taken_for_the_last_one() -> None:
    kernel, x, weight = linear_onednn.OneDNN(), drawn(1, 7), drawn(5, 7)
    with torch.inference_mode():
        expected = kernel.infer(x, (weight,), None, torch.float32)
        for dtype in (torch.bfloat16, torch.float16, torch.float64):
            assert kernel.again(x.to(dtype), (weight,), None) is None
        again = kernel.again(x, (weight,), None)
    assert again is not None
    assert again.equal(expected)


@pytest.mark.parametrize("name", EXACT)
def test_the_gradient_of_a_gradient_is_refused_or_right(name: str) -> None:
    x, weight = drawn(3, 7, grad=True), drawn(5, 7, grad=True)
    (dx,) = torch.autograd.grad(linear_kernel(name)(x, weight, None).square().sum(), x, create_graph=True)
    if name == "reference":
        dx.sum().backward()
    else:
        with pytest.raises(RuntimeError, match="once_differentiable"):
            dx.sum().backward()


# Several at once ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("biased", ["all", "one", "none"])
@pytest.mark.parametrize(("name", "grad"), [(name, False) for name in LINEAR] + [(name, True) for name in EXACT])
def test_together_equals_each_by_itself(name: str, biased: str, grad: bool) -> None:
    x, weights = drawn(2, 3, 64), [drawn(out_dim, 64, grad=grad) for out_dim in (48, 16, 7)]
    biases = [None if biased == "none" or (biased == "one" and i) else drawn(w.shape[0]) for i, w in enumerate(weights)]
    kernel = linear_kernel(name)
    with torch.set_grad_enabled(grad):
        for _ in range(2):
            outs = kernel.together(x, weights, biases)
            expected = [linear_kernel(name)(x, *pair) for pair in zip(weights, biases, strict=True)]
            for got, want in zip(outs, expected, strict=True):
                close(got.detach(), want.detach())
            weights[2].data.mul_(-2)
    if grad:
        sum(out.sum() for out in outs).backward()  # pyright: ignore
        assert all(weight.grad is not None for weight in weights)


# Where a kernel ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["onednn", *SMALL])
@torch.no_grad()
def test_float64_is_refused_by_name(name: str) -> None:
    layer = Linear(32, 16, kernel=linear_kernel(name))
    layer(drawn(2, 32))
    with pytest.raises(ValueError, match=f"{name}.*float64"):
        layer.double()(drawn(2, 32, dtype=torch.float64))


@pytest.mark.parametrize("name", ["onednn", *SMALL])
def test_other_devices_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.* on meta"):
        linear_kernel(name)(torch.empty(2, 32, device="meta"), torch.empty(16, 32, device="meta"), None)


def test_measured_gives_what_onednn_does_not_take_to_the_reference() -> None:
    kernel = linear_kernel("measured")
    for dtype in (torch.float64, torch.float16):
        x, weight = drawn(2, 7).to(dtype), drawn(5, 7).to(dtype)
        assert torch.equal(kernel(x, weight, None), F.linear(x, weight))
    assert kernel(torch.empty(2, 7, device="meta"), torch.empty(5, 7, device="meta"), None).shape == (2, 5)


@pytest.mark.parametrize("pays", [float("inf")], indirect=True, ids=["onednn-never"])
def test_measured_is_the_reference_where_onednn_never_pays() -> None:
    kernel, inputs = linear_kernel("measured"), (drawn(64, 96, grad=True), drawn(80, 96, grad=True), drawn(80))
    assert type(kernel(*inputs).grad_fn).__name__ == "AddmmBackward0"
    with torch.no_grad():
        assert torch.equal(kernel(*inputs), F.linear(*inputs))
        assert kernel._onednn._packed._held is None  # pyright: ignore


@pytest.mark.parametrize("pays", [6 * 7 * 5], indirect=True, ids=["onednn-from-6-rows"])
def test_measured_takes_onednn_from_the_measured_size_on() -> None:
    kernel, weight = linear_kernel("measured"), drawn(5, 7)
    kernel(drawn(5, 7), weight, None)
    assert kernel._onednn._packed._held is None  # pyright: ignore
    kernel(drawn(6, 7), weight, None)
    assert kernel._onednn._packed._held is not None  # pyright: ignore


def test_a_pytorch_without_the_operators_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_onednn, "_product", None)
    linear_onednn.missing.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"cannot run: PyTorch .* has no torch\.ops\.mkldnn"):
            linear_kernel("onednn")(drawn(2, 7), drawn(5, 7), None)
        x, weight = drawn(2, 7), drawn(5, 7)
        close(
            linear_kernel("bfloat16")(x, weight, None),
            F.linear(x.bfloat16(), weight.bfloat16()).float(),
            torch.bfloat16,
        )
    finally:
        monkeypatch.undo()
        linear_onednn.missing.cache_clear()


@pytest.mark.parametrize("answer", [RuntimeError("no such schema"), torch.zeros(2, 16)], ids=["fails", "wrong"])
def test_operators_that_changed_are_found_out(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(*args: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(linear_onednn, "_product", changed)
    linear_onednn.missing.cache_clear()
    try:
        assert "_linear_pointwise" in (linear_onednn.missing() or "")
    finally:
        monkeypatch.undo()
        linear_onednn.missing.cache_clear()


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("name", [*EXACT, *SMALL])
def test_sizes_that_do_not_fit_are_named(name: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=r"2x7 and 6x5|x has 7 features.*takes 6"):
        linear_kernel(name)(drawn(2, 7), drawn(5, 6), None)


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown linear kernel 'onedn' \(did you mean 'onednn'\?\)"):
        linear_kernel("onedn")


@pytest.mark.parametrize("name", EXACT)
def test_a_kernel_maps_over_a_batch_of_weights(name: str) -> None:
    kernel, x, weights = linear_kernel(name), drawn(4, 3, 7), drawn(4, 5, 7)
    y = torch.func.vmap(lambda x, weight: kernel(x, weight, None))(x, weights)
    close(y, x @ weights.transpose(1, 2))
    grad = torch.func.grad(lambda weight: kernel(x[0], weight, None).square().sum())(weights[0])
    close(grad, 2 * (x[0] @ weights[0].t()).t() @ x[0])


@pytest.mark.slow
@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("name", LINEAR)
def test_a_compiled_layer_is_one_graph_and_equal(name: str) -> None:
    torch._dynamo.reset()  # what other tests compiled counts against the limit of this function
    layer, x = Linear(64, 48, kernel=linear_kernel(name)), drawn(3, 64)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        expected, y = layer(x), compiled(x)
        torch.testing.assert_close(
            y, expected, rtol=0, atol=(1e-5 if name in EXACT else 2**-7) * expected.abs().max().item()
        )
    if name in EXACT:
        compiled(x).sum().backward()
        close(layer.weight.grad, x.sum(0).expand(48, 64))  # pyright: ignore


# The switch -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def precision() -> Iterator[nn.Module]:
    matmul = torch.backends.mkldnn.matmul  # pyright: ignore
    before = matmul.fp32_precision
    yield matmul
    matmul.fp32_precision = before


def test_the_switch_leaves_the_setting_as_it_was_also_after_an_error(precision: nn.Module) -> None:
    for setting in ("none", "ieee"):
        precision.fp32_precision = setting  # pyright: ignore
        with pytest.raises(KeyError, match="bf16"), onednn_matmul, onednn_matmul:
            raise KeyError(precision.fp32_precision)
        assert precision.fp32_precision == setting


def test_the_switch_stays_on_until_the_last_one_leaves(precision: nn.Module) -> None:
    with onednn_matmul:
        with onednn_matmul:
            pass
        assert precision.fp32_precision == "bf16"


def test_threads_that_enter_the_switch_at_once_leave_the_setting_as_it_was(precision: nn.Module) -> None:
    before, meet = precision.fp32_precision, threading.Barrier(4)

    def work() -> None:
        meet.wait()
        for _ in range(200):
            with onednn_matmul:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert precision.fp32_precision == before


def test_the_switch_is_called_exact_only_where_float32_products_are() -> None:
    if not onednn_matmul_is_exact():
        pytest.skip("this CPU rounds to bfloat16 under the switch, or may")
    a, b = drawn(257, 129), drawn(129, 65)
    with onednn_matmul:
        product = a @ b
    close(product, (a.double() @ b.double()).float())
