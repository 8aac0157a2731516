"""The competitors of `attention.py`: each function prepares one and returns the sample."""

from collections.abc import Callable
from typing import Any

from benchmarks.competitors import Sample, _threads


def _step(layer: Any, call: Callable[[Any], Any], dim: int, length: int) -> Sample:
    """Samples of one pass forward and backward; gives the sum of squares of the output, for comparison."""
    import torch

    x = torch.randn(1, length, dim, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def sample() -> float:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        value = call(x).square().sum()
        value.backward()
        return value.item()

    return sample


def attention_layer(dim: int, num_heads: int, window_size: int, length: int, attend: str) -> Sample:
    """Sliding-window attention with the named kernel."""
    _threads()
    from glassformer import Mask
    from glassformer.ops.attend import ATTEND
    from glassformer.parts import SlidingWindowAttention

    layer = SlidingWindowAttention(dim, num_heads, window_size, kernel=ATTEND[attend])
    return _step(layer, lambda x: layer(x, mask=Mask.causal()), dim, length)


def linear_layer(dim: int, num_heads: int, length: int) -> Sample:
    """Linear attention, causal."""
    _threads()
    from glassformer import Mask
    from glassformer.parts import LinearAttention

    layer = LinearAttention(dim, num_heads)
    return _step(layer, lambda x: layer(x, mask=Mask.causal()), dim, length)
