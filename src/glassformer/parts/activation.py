"""The non-linearities of feed-forward layers.

gelu(x)      = x Φ(x), Φ the normal distribution function            (Hendrycks & Gimpel 2016)
gelu_tanh(x) = x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))              (the same paper's approximation: GPT-1, GPT-2)
silu(x)      = x σ(x)                                                (Elfwing et al. 2017; "swish")
relu(x)      = max(x, 0)
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


def gelu(x: Tensor) -> Tensor:
    """x Φ(x), exactly."""
    return F.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation."""
    return F.gelu(x, approximate="tanh")


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return F.relu(x)


def silu(x: Tensor) -> Tensor:
    """x σ(x)."""
    return F.silu(x)


ACTIVATIONS: dict[str, Activation] = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu, "silu": silu}
