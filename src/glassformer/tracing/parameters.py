"""The weight and bias of a layer of any library, in one orientation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from glassformer.tracing.align import Part, matrix
from glassformer.tracing.points import ForwardPass


@dataclass(frozen=True, eq=False)
class Parameters:
    """Weight (output rows first, for a matrix) and bias, in float64; None where there is none."""

    weight: Tensor | None
    bias: Tensor | None


def own_parameters(seen: ForwardPass, path: str, part: Part = None) -> Parameters:
    """Those that a module holds itself, the rows of `part` where several layers are fused."""
    module = seen.modules[path]
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    weight = matrix(module) if matrix(module) is not None else weight
    weight = weight.detach().double().cpu() if isinstance(weight, Tensor) else None
    bias = bias.detach().double().cpu() if isinstance(bias, Tensor) else None
    if part is not None:
        weight = None if weight is None else weight[part[0] : part[1]]
        bias = None if bias is None else bias[part[0] : part[1]]
    return Parameters(weight, bias)


def unlike(a: Tensor | None, b: Tensor | None, what: str) -> tuple[str, str]:
    """How a's parameter differs from b's: a word for programs, and a fact for people."""
    if what == "bias" and (a is None or not a.any()):
        return "missing bias", "its bias is missing" if a is None else "its bias is 0, as if it had not been loaded"
    if what == "bias" and (b is None or not b.any()):
        return "missing bias", "it has a bias, and b's is missing or 0"
    if a is None or b is None or a.shape != b.shape:
        return what, f"its {what} is not b's"
    near = float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-30))
    if (a == a.flatten()[0]).all() and not (b == b.flatten()[0]).all():
        return f"unloaded {what}", f"its {what} is {float(a.flatten()[0]):g} everywhere, as if it had not been loaded"
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        if torch.equal(b.to(dtype).double(), a):
            return "precision", f"its {what} is b's, rounded to {name}"
        if torch.equal(a.to(dtype).double(), b):
            return "precision", f"its {what} is b's before it was rounded to {name}"
    ratio = float((a * b).sum() / (b * b).sum().clamp(min=1e-30))
    if abs(ratio - 1) > 1e-3 and torch.allclose(a, ratio * b, rtol=1e-4, atol=1e-9):
        return f"scaled {what}", f"its {what} is {ratio:.6g} times b's"
    if a.numel() > 16 and abs(near) < 0.3:
        return f"unloaded {what}", f"its {what} has nothing in common with b's, as if it had not been loaded"
    if what == "weight" and a.ndim == 2 and torch.unique(a[0]).numel() <= 256 < a.shape[1]:
        return "quantized weight", "its weight has few values, as if it were quantized"
    changed = (a != b).reshape(a.shape[0], -1).any(1).sum().item()
    return what, f"its {what} differs from b's in {changed} of {a.shape[0]} rows"
