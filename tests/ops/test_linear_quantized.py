"""The linear kernels for inference that read fewer bytes of weight, within the bounds they state."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.ops.linear import linear_kernel
from glassformer.ops.linear_quantized import GROUP, MANY_ROWS, Inference

SMALL = ["bfloat16", "int8", "int4"]
# Each weight is off by at most this times the largest in its row (int8) or group (int4); bfloat16 rounds by 2⁻⁹.
STEP = {"bfloat16": 2**-9, "int8": 0.5 / 127 + 2**-9, "int4": 0.5 * 2 / 15 + 2**-6}


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rows", [0, 1, 3, MANY_ROWS, 40])
@pytest.mark.parametrize("size", [(64, 48), (7, 5), (33, 17), (100, 3), (31, 16), (1, 1)], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_small_weights_stay_within_their_bound(name: str, size: tuple[int, int], rows: int, dtype: torch.dtype) -> None:
    in_dim, out_dim = size
    x, weight, bias = (t.to(dtype) for t in (drawn(rows, in_dim), drawn(out_dim, in_dim), drawn(out_dim)))
    y = linear_kernel(name)(x, weight, bias)
    assert y.dtype == dtype
    assert y.shape == (rows, out_dim)
    exact = F.linear(x.double(), weight.double(), bias.double())
    worst = weight.double().abs().amax(1) * x.double().abs().sum(1, keepdim=True)  # Σ|x| · largest |w| of the row
    bound = (STEP[name] + 3 * 2**-9) * worst + 2**-8 * exact.abs() + 2**-8 * bias.double().abs()
    assert bool(((y.double() - exact).abs() <= bound).all())


@pytest.mark.parametrize("rows", [1, 5, MANY_ROWS])
@pytest.mark.parametrize("name", SMALL)
def test_weights_that_can_be_represented_are_exact(name: str, rows: int) -> None:
    low, high = {"bfloat16": (-128, 128), "int8": (-127, 127), "int4": (-8, 7)}[name]
    weight = torch.randint(low, high + 1, (48, 64)).float()
    weight[:, ::GROUP], weight[:, 1::GROUP] = low, high  # both ends in every row and group: the step is 1
    weight *= 2.0 ** torch.randint(-3, 4, (48, 1))
    assert torch.equal(linear_kernel(name).rounded(weight), weight)  # pyright: ignore
    x = torch.zeros(rows, 64)
    x[torch.arange(rows), torch.arange(rows)] = 1.0  # picks single weights: the product adds no rounding
    assert torch.equal(linear_kernel(name)(x, weight, None), weight[:, :rows].t())


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("name", SMALL)
def test_the_operator_multiplies_by_the_rounded_weight(name: str, rows: int) -> None:
    kernel, x, weight = linear_kernel(name), drawn(rows, 96), drawn(80, 96)
    assert isinstance(kernel, Inference)
    expected = F.linear(x.bfloat16().float(), kernel.rounded(weight))
    torch.testing.assert_close(kernel(x, weight, None), expected, rtol=0, atol=2**-7 * expected.abs().max().item())


@pytest.mark.parametrize("name", SMALL)
def test_constant_and_zero_weights_are_no_exception(name: str) -> None:
    kernel, x = linear_kernel(name), torch.ones(2, 64)
    for value in (0.0, 1.0, -0.3, 1e-30):
        weight = torch.full((16, 64), value)
        torch.testing.assert_close(kernel(x, weight, None), F.linear(x, weight), rtol=2**-7, atol=1e-30)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_small_kernels_refuse_what_asks_for_a_gradient(name: str, which: int) -> None:
    inputs = [drawn(2, 32), drawn(16, 32), drawn(16)]
    inputs[which].requires_grad_()
    with pytest.raises(ValueError, match=f"{name}' is for inference and has no gradient"):
        linear_kernel(name)(*inputs)
    with torch.no_grad():
        assert linear_kernel(name)(*inputs).shape == (2, 16)
