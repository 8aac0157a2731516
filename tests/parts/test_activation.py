"""The non-linearities, against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from glassformer.parts import gelu_tanh


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 2e-6), (torch.bfloat16, 2**-7)]
)
def test_gelu_tanh_with_gradients_equals_pytorchs(dtype: torch.dtype, tolerance: float) -> None:
    x = torch.cat([torch.randn(1000, dtype=dtype), torch.tensor([0.0, 30.0, -30.0, 1e4, -1e4], dtype=dtype)])
    dy = torch.randn_like(x)
    results = []
    for gelu in (gelu_tanh, lambda x: F.gelu(x, approximate="tanh")):
        leaf = x.clone().requires_grad_()
        y = gelu(leaf)
        y.backward(dy)
        results.append((y.detach(), leaf.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_gelu_tanh_without_gradients_equals_that_with() -> None:
    x = torch.randn(100, requires_grad=True)
    with torch.no_grad():
        without = gelu_tanh(x)
    torch.testing.assert_close(gelu_tanh(x), without, rtol=1e-6, atol=1e-6)
