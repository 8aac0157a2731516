"""Where two models first differ, by how much, and what it looks like."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch.nn.functional as F
from torch import nn

from glassformer.tracing.agreement import allowed, difference, error
from glassformer.tracing.align import Alignment, Pair, align
from glassformer.tracing.divergence import Compared, Divergence
from glassformer.tracing.hypotheses import Finding
from glassformer.tracing.parameters import own_parameters
from glassformer.tracing.place import Place, alike, equal, real, value_of
from glassformer.tracing.points import ForwardPass, Inputs, run
from glassformer.tracing.reach import reached
from glassformer.tracing.sites import SITES

MUCH_NEARER = 100
"""Two values that differ are a matter of where things are computed, where what follows is this much nearer."""


def compare(
    a: nn.Module,
    b: nn.Module,
    inputs: Inputs | list[Any],
    names: Mapping[str, str] | None = None,
    *,
    tolerance: float | None = None,
) -> Divergence:
    """Run both models and find the first point, in the order of a's execution, where they differ.

    A point is what goes into or comes out of a module. Modules correspond by equal names; where one model is ours and
    the other's parameters are named by its checkpoint table, through that; else by values, shapes and order. Values at
    padding are not compared. Values that differ but give the same further on (one model scales within its embedding,
    the other behind it) are no difference. Models run as they are: one in training mode drops out.

    Args:
        a, b: two models: two implementations, dtypes, kernels, before and after quantization.
        inputs: for both, as keyword arguments, a tensor or a tuple of them; or a list of two such.
        names: `{"path in a": "path in b"}`, before what is found.
        tolerance: what may differ, as a share of the largest value; None: what the dtypes allow, which is 16 roundings,
            or ten times what differed before.

    Raises:
        ValueError: a model refuses the inputs, a name matches nothing, or the models have nothing in common.
    """
    if isinstance(inputs, list) and len(inputs) != 2:
        raise ValueError(f"inputs is a list of {len(inputs)}; expected what a and what b are given")
    of_a, of_b = inputs if isinstance(inputs, list) else (inputs, inputs)
    run_a, run_b = run(a, of_a, "a"), run(b, of_b, "b")
    alignment = align(run_a, run_b, names)
    compared = list(points(run_a, run_b, alignment, tolerance))
    if not compared:
        raise ValueError(
            f"no value of a, {type(a).__name__}, has the shape of its counterpart in b, {type(b).__name__}; "
            "names={'a.path': 'b.path'} says what corresponds"
        )
    output = next((one for one in reversed(compared) if one.a == "output"), None)
    settled: list[Compared] = []
    for i, one in enumerate(compared):
        if one.agrees:
            continue
        if is_settled(run_a, compared, i):
            settled.append(one)
            continue
        point, other, pair = one.where
        place = Place.at(run_a, run_b, alignment, point, other, pair, one.tolerance)
        return located(place, compared, i, output, settled)
    return Divergence(tuple(compared), alignment.how, output, settled=tuple(settled))


def points(a: ForwardPass, b: ForwardPass, alignment: Alignment, tolerance: float | None) -> Iterator[Compared]:
    """The points that both have, in the order of a's execution, each compared."""
    floor = 0.0
    partners: dict[str, list[Pair]] = {}
    for pair in alignment.pairs:
        partners.setdefault(pair.a, []).append(pair)
    for point in a.points:
        for pair in partners.get(point.module, ()):
            other = b.at.get((pair.b, point.side, point.call))
            if other is None or (point.module == "" and point.side == "in"):
                continue
            left, right = alike(value_of(point, pair.a_part), value_of(other, pair.b_part))
            left, right = real(left, a, b), real(right, a, b)
            if left.shape != right.shape or left.is_floating_point() != right.is_floating_point():
                if point.module == "":
                    raise ValueError(
                        f"the outputs of a, {tuple(left.shape)}, and of b, {tuple(right.shape)}, do not correspond"
                    )
                continue
            found, may = error(left, right), allowed(left, right, floor) if tolerance is None else tolerance
            floor = max(floor, found) if found <= may else floor
            yield Compared(str(point), str(other), found, may, found <= may, tuple(left.shape), (point, other, pair))


def is_settled(a: ForwardPass, compared: list[Compared], i: int) -> bool:
    """Whether the models agree, and far better, at a later point that this one has an influence on."""
    point, other, pair = compared[i].where
    later = [one for one in compared[i + 1 :] if one.agrees and MUCH_NEARER * one.error < compared[i].error]
    keys = {one.where[0].key for one in later} - {point.key}  # of what is fused, other parts may agree
    if (point.module, "out", point.call) in keys or not keys:
        return bool(keys)
    mine, theirs = alike(value_of(point, pair.a_part), value_of(other, pair.b_part))
    touched = None
    if mine.shape == theirs.shape and mine.is_floating_point():
        gap = (mine.double() - theirs.double()).abs()
        touched = gap > compared[i].tolerance * gap.max()
        if pair.a_part is not None and point.side == "out":
            touched = F.pad(touched, (pair.a_part[0], point.value.shape[-1] - pair.a_part[1]))
    return bool(keys & reached(a, point, touched))


def located(
    place: Place, compared: list[Compared], index: int, output: Compared | None, settled: list[Compared]
) -> Divergence:
    """The divergence at the first point that differs: the module, whether its inputs and parameters agree, and why."""
    findings: list[Finding] = []
    tried: list[str] = []
    for site in SITES:
        try:
            found, keys = site(place)
        except RuntimeError:  # what it tries does not fit the shapes of this place
            continue
        tried += [key for key in keys if key and key not in tried]
        findings += found
        if findings:
            break
    path = place.point.module
    came_in = next((one for one in compared if one.where[0].module == path and one.where[0].side == "in"), None)
    inputs_agree = (came_in is None or came_in.agrees) if place.point.side == "out" else True
    return Divergence(
        tuple(compared),
        place.alignment.how,
        output,
        first=index,
        module=place.module_a,
        module_b=place.module_b,
        difference=difference(
            *place.shown(),
            place.tolerance,
            place.head_width() if "attention" in place.module_a or "attn" in place.module_a else None,
        ),
        inputs_agree=inputs_agree,
        parameters_agree=parameters_agree(place),
        findings=tuple(findings),
        tried=tuple(tried),
        settled=tuple(settled),
    )


def parameters_agree(place: Place) -> bool | None:
    """Whether the weights of the module, and of those in it, are those of its counterpart; None where it has none."""
    within = f"{place.module_a}." if place.module_a else ""
    pairs = [pair for pair in place.alignment.pairs if pair.a == place.module_a or pair.a.startswith(within)]
    if place.point.side == "out" and place.module_a:
        pairs = [pair for pair in pairs if pair.a == place.module_a] or pairs
    both = [
        (own_parameters(place.a, pair.a, pair.a_part), own_parameters(place.b, pair.b, pair.b_part)) for pair in pairs
    ]
    both = [(x, y) for x, y in both if x.weight is not None or y.weight is not None]
    if not both:
        return None
    return all(equal(x.weight, y.weight) and equal(x.bias, y.bias) for x, y in both)
