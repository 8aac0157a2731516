"""Cross-entropy of the next token: the output head and the loss as one operation, with two kernels.

    loss = mean over counted positions of  logsumexp(z) − z[target],   z = head(hidden)

A position whose target is `ignore_index` is not counted; where none is counted, the loss is 0 (not NaN), with
gradients 0.

    reference   the logits whole, and returned; any head
    chunked     the logits of some rows at a time, never whole; a plain linear head
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.ops.cross_entropy_chunked import IGNORE, checked, chunked


class CrossEntropyKernel(Protocol):
    """Takes the hidden states and the head; gives the mean loss, and the logits where it formed them.

    Raises ValueError or TypeError for targets of another shape or dtype, or (where looking at them costs nothing: on
    the CPU, outside torch.compile) outside the vocabulary.
    """

    def __call__(
        self,
        hidden: Float[Tensor, "*rows d"],
        head: nn.Module,
        targets: Int[Tensor, "*rows"],
        *,
        ignore_index: int = IGNORE,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "*rows v"] | None]: ...


def reference(
    hidden: Float[Tensor, "*rows d"], head: nn.Module, targets: Int[Tensor, "*rows"], *, ignore_index: int = IGNORE
) -> tuple[Float[Tensor, ""], Float[Tensor, "*rows v"]]:
    """The logits whole, then the equation, in float32 at least."""
    logits = head(hidden)
    counted = checked(targets, logits.shape, ignore_index)
    rows = logits.flatten(0, -2)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    total = F.cross_entropy(rows, targets.flatten(), ignore_index=ignore_index, reduction="sum")
    return total / counted.sum().clamp(min=1), logits


CROSS_ENTROPY: dict[str, CrossEntropyKernel] = {"reference": reference, "chunked": chunked}
