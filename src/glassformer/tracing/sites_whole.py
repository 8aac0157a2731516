"""Differences that are not of one layer: dropout that is on, values that are rounded or multiplied."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from glassformer.ops.dropout import kept
from glassformer.tracing.agreement import error
from glassformer.tracing.hypotheses import Finding
from glassformer.tracing.place import Place, alike, real, value_of
from glassformer.tracing.points import ForwardPass, Point, run
from glassformer.tracing.sites_layers import CAPS, spelled

DROPOUTS = (F.dropout, torch.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout)


class NoDropout(TorchFunctionMode):
    """While entered, nothing is dropped, whatever the modules say."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is kept:  # ours: layers and attention multiply by it
            return torch.ones_like(args[0])
        if func is F.scaled_dot_product_attention:
            args = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args
            if len(args) <= 4:
                kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


def dropout_findings(place: Place) -> tuple[list[Finding], list[str]]:
    """Both models once more, with nothing dropped."""
    left, right = without_dropout(place.a, place.point), without_dropout(place.b, place.other)
    if left is None or right is None:
        return [], []
    drops_a, drops_b = (
        not torch.equal(value, point.value) for value, point in ((left, place.point), (right, place.other))
    )
    if not drops_a and not drops_b:
        return [], ["dropout"]
    both = alike(cut_columns(left, place.point, place.pair.a_part), cut_columns(right, place.other, place.pair.b_part))
    off = error(*(real(value.double(), place.a, place.b) for value in both))
    if off > place.tolerance:
        return [], ["dropout"]
    who, seen = ("a", place.a) if drops_a else ("b", place.b)
    mode = "is in training mode and drops" if seen.model.training else "is in evaluation mode, and still drops"
    name = place.module_a or "the model itself"
    does = "both drop" if drops_a and drops_b else f"{who} {mode}"
    said = f"{name}: {does} values at random; with nothing dropped, the two agree to {off:.0e}"
    return [Finding("dropout", who, name, said, off)], ["dropout"]


def cut_columns(value: Tensor, point: Point, part: Any) -> Tensor:
    """The columns that count of a value at a point."""
    return value_of(Point(point.module, point.side, point.call, value, ()), part)


def without_dropout(seen: ForwardPass, point: Point) -> Tensor | None:
    """The value at a point when nothing is dropped."""
    try:
        with NoDropout():
            again = run(seen.model, seen.given, "a model without its dropout")
    except ValueError:
        return None
    return again.value(*point.key)


def value_findings(place: Place) -> tuple[list[Finding], list[str]]:
    """One value is the other, rounded, multiplied or capped."""
    a, b = alike(place.value_a, place.value_b)
    if a.shape != b.shape or not place.point.value.is_floating_point():
        return [], []
    name = place.module_a or "the model itself"
    keys = ["precision", "scale", "soft cap"]
    for dtype in (torch.bfloat16, torch.float16):
        said = str(dtype).removeprefix("torch.")
        for who, one, other in (("a", a, b), ("b", b, a)):
            if torch.equal(one.to(dtype).double(), one) and torch.equal(other.to(dtype).double(), one):
                text = f"{name}: {who} rounds to {said}; with the other's values rounded too, the two are equal"
                return [Finding("precision", who, name, text, 0.0)], keys
    width = place.point.value.shape[-1]
    for cap in CAPS:
        for who, one, other in (("a", a, b), ("b", b, a)):
            if (off := error(cap * (other / cap).tanh(), one)) <= place.tolerance:
                text = f"{name}: {who} caps its values at {cap:g} by tanh; with both capped, the two agree to {off:.0e}"
                return [Finding("soft cap", who, name, text, off)], keys
    factor = float((a * b).sum() / (a * a).sum().clamp(min=1e-30))
    if factor and (off := error(a * factor, b)) <= place.tolerance:
        text = f"{name}: b's values are a's times {spelled(factor, width)}; so multiplied, the two agree to {off:.0e}"
        return [Finding("scale", "a", name, text, off)], keys
    return [], keys
