"""Attention to what is near: each place sees those fewer than a window away (Beltagy et al. 2020, section 3.1)."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.ops.attend import windowed
from glassformer.ops.mask import Mask
from glassformer.parts.attention import Attention
from glassformer.parts.cache import LayerCache


class SlidingWindowAttention(nn.Module):
    """`Attention` whose mask is always narrowed to a window, by the kernel whose time and memory grow with n · w.

    Place i sees j where |i − j| < window_size; with `mask=Mask.causal()` those of them that are not after it. Further
    options are those of `Attention` (`num_kv_heads`, `biased`, ...). Raises ValueError for a window below 1.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int, **options: Any) -> None:
        super().__init__()
        self.window_size = window_size
        self.window = Mask.window(window_size)
        options = {"kernel": windowed} | options
        self.attention = Attention(dim, num_heads, **options)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        *,
        mask: Mask = Mask(),
        rotate: Callable[[Tensor], Tensor] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Attend from `x` to itself, and to what the cache holds, under `mask` and the window."""
        return self.attention(x, mask=mask & self.window, rotate=rotate, cache=cache)

    def extra_repr(self) -> str:
        return f"window_size={self.window_size}"
