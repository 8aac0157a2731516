"""Cross-entropy of the next token: the output head and the loss as one operation, with two kernels.

    loss = mean over counted positions of  logsumexp(z) − z[target],   z = head(hidden)

A position whose target is `ignore_index` is not counted; where none is counted, the loss is 0 (not NaN), with
gradients 0.
"""

from typing import Protocol

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

IGNORE = -100


class CrossEntropyKernel(Protocol):
    """Takes the hidden states and the head; gives the mean loss, and the logits where it formed them."""

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
    rows = logits.flatten(0, -2)
    total = F.cross_entropy(rows.float() if rows.dtype.itemsize < 4 else rows, targets.flatten(),
                            ignore_index=ignore_index, reduction="sum")  # fmt: skip
    counted = (targets != ignore_index).sum()
    return total / counted.clamp(min=1), logits


CROSS_ENTROPY: dict[str, CrossEntropyKernel] = {"reference": reference}
