"""A batch, a few of its rows at a time: what is made on the way stays in the caches."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from glassformer.ops.linear_onednn import traced
from glassformer.parts.linear import listened

NUMBERS = 5 << 17  # of x at a time; a block makes four times as many of them
Forward = TypeVar("Forward", bound=Callable[[Any, Tensor], Tensor])


def few_at_a_time(forward: Forward) -> Forward:
    """`forward(self, x)` of a module that computes each row of a batch by itself, called for a few rows at a time.

    That is on a CPU, in evaluation, without gradients, where nobody listens to a part of the module; else the batch
    stays whole. What is larger than the caches waits for memory, and of what is above 32 MB glibc asks the system for
    new pages each time: Swin-T took 1.3 times as long.
    """

    @wraps(forward)
    def parted(self: nn.Module, x: Tensor) -> Tensor:
        parts = min(-(-x.numel() // NUMBERS), len(x)) if _may_part(self, x) else 1
        if parts < 2 or any(listened(part) for part in self.modules()):
            return forward(self, x)
        _keep_what_is_freed()
        return torch.cat([forward(self, some) for some in x.tensor_split(parts)])

    return cast(Forward, parted)


@cache
def _keep_what_is_freed() -> None:
    """Once: a block of 31 MB, never touched, comes and goes.

    glibc keeps up to twice the largest block that it saw freed (of those below 32 MB) for what is asked for next; else
    the memory of each few pictures goes back to the system, and comes again as new pages: 24,000 in a pass of Swin-T.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def _may_part(module: nn.Module, x: Tensor) -> bool:
    return not (torch.is_grad_enabled() or module.training or traced()) and x.is_cpu
