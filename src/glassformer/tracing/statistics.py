"""What the numbers of a tensor look like, in five numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from glassformer.tracing.values import is_plain


@dataclass(frozen=True)
class Statistics:
    """Over the finite elements: mean, standard deviation (of all, not a sample), largest |x|, and the share of zeros.

    `non_finite` counts NaN and ±∞, which the others leave out.
    """

    mean: float
    std: float
    abs_max: float
    zeros: float
    non_finite: int

    def __str__(self) -> str:
        said = f"mean {self.mean:.3g}, std {self.std:.3g}, |max| {self.abs_max:.3g}"
        said += f", {self.zeros:.0%} zeros" if self.zeros >= 0.005 else ""
        return said + (f", {self.non_finite:,} NOT FINITE" if self.non_finite else "")


def statistics_of(tensor: Tensor) -> Statistics | None:
    """The statistics of a tensor; None for one that is empty, or whose memory cannot be looked at.

    Numbers are summed in float64; a complex number counts as its absolute value. Draws no random numbers.
    """
    if not is_plain(tensor) or tensor.numel() == 0:
        return None
    with torch.no_grad():
        x = tensor.detach()
        x = (x.abs() if x.is_complex() else x).double()
        finite = x.isfinite()
        bad = x.numel() - int(finite.sum())
        if bad:
            x = x[finite]
        if x.numel() == 0:
            return Statistics(float("nan"), float("nan"), float("nan"), 0.0, bad)
        mean = x.mean()
        zeros = 1 - int(x.count_nonzero()) / x.numel()
        return Statistics(float(mean), float((x - mean).square().mean().sqrt()), float(x.abs().max()), zeros, bad)
