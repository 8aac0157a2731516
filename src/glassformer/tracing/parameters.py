"""The weight and bias of a layer of any library, in one orientation."""

from dataclasses import dataclass

from torch import Tensor

from glassformer.tracing.align import Part, matrix
from glassformer.tracing.points import Run


@dataclass(frozen=True, eq=False)
class Parameters:
    """Weight (output rows first, for a matrix) and bias, in float64; None where there is none."""

    weight: Tensor | None
    bias: Tensor | None


def own_parameters(seen: Run, path: str, part: Part = None) -> Parameters:
    """Those that a module holds itself, the rows of `part` where several layers are fused."""
    module = seen.modules[path]
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    weight = matrix(module) if matrix(module) is not None else weight
    weight = weight.detach().double() if isinstance(weight, Tensor) else None
    bias = bias.detach().double() if isinstance(bias, Tensor) else None
    if part is not None:
        weight = None if weight is None else weight[part[0] : part[1]]
        bias = None if bias is None else bias[part[0] : part[1]]
    return Parameters(weight, bias)
