"""Attention over documents that stand one after another in a row: each by itself, no scores between them.

Of n = Σ t_i places the full matrix has n² scores, nearly all of them hidden; the documents have Σ t_i².
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from glassformer.ops.mask import Mask

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def apart(kernel: Kernel) -> Kernel:
    """The kernel; under a mask that knows its documents' lengths, and without a bias, called for each document."""

    @wraps(kernel)
    def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Mask, score_bias: Tensor | None, **options: Any) -> Any:
        documents = mask.apart(q.shape[2], k.shape[2]) if score_bias is None else None
        if documents is None:
            return kernel(q, k, v, mask=mask, score_bias=score_bias, **options)
        lengths, within = documents
        mask.check(q.shape[0], q.shape[2], k.shape[2])
        parts = zip(*(x.split(lengths, dim=2) for x in (q, k, v)), strict=True)
        outs = [kernel(*part, mask=within, score_bias=None, **options)[0] for part in parts]
        return torch.cat(outs, dim=2), None

    return cast(Kernel, attend)
