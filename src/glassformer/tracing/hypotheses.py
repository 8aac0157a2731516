"""What a difference between two models looks like: ways to compute a value, each tried on both.

At the first point where two models differ, what they compute is computed again from a's own inputs and parameters, in
every way that people are known to choose, or to get it wrong. Such a `Hypothesis` explains a model where it gives the
model's value. Where one explains a and another explains b, the difference is found, and undone: a, computed as b does
it, gives b's value.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from glassformer.tracing.agreement import error
from glassformer.tracing.place import Place, alike


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One way to compute a value.

    key      what the matter is, in a word for programs; "" for how it should be done
    does     what a model does that computes so: "leaves its bias out"; with `undone`, a fact: "its bias is 0"
    compute  the value from what a was given, for all places; None where it cannot be computed here
    undone   for what lies in the parameters: how a is put right, "transposed back"
    """

    key: str
    does: str
    compute: Callable[[], Tensor | None]
    undone: str = ""


@dataclass(frozen=True)
class Finding:
    """A hypothesis that was confirmed: computing a so gives b's value.

    key       what the matter is: "transposed weight", "causal mask", …
    who       "a" or "b": whose computation is the unusual one ("a" where none is)
    module    where, by the name in a
    sentence  for people
    error     what is left of the difference once it is undone, as a share of the largest value
    """

    key: str
    who: str
    module: str
    sentence: str
    error: float


def tested(place: Place, hypotheses: Sequence[Hypothesis]) -> tuple[list[Finding], list[str]]:
    """The findings, simplest first (the order of the hypotheses), and the keys of all that was tried.

    The first of the hypotheses is how it should be done.
    """
    of_a: list[tuple[Hypothesis, float]] = []
    of_b: list[tuple[Hypothesis, float]] = []
    tried: list[str] = []
    value_a, value_b = alike(place.value_a, place.value_b)
    for hypothesis in hypotheses:
        value = hypothesis.compute()
        if value is None:
            continue
        tried += [hypothesis.key] if hypothesis.key and hypothesis.key not in tried else []
        value = place.cut(value)
        of_a.append((hypothesis, error(*alike(value, value_a))))
        of_b.append((hypothesis, error(*alike(value, value_b))))
    own = next(iter(sharpest(of_a, place.tolerance)), None)
    found: dict[str, Finding] = {}
    for other, left in sharpest(of_b, place.tolerance):
        if own is None or other is not own[0]:
            found.setdefault(f"{other.key} {other.does}", finding(place, own[0] if own else None, other, left))
    return list(found.values()), tried


def sharpest(fits: Sequence[tuple[Hypothesis, float]], tolerance: float) -> list[tuple[Hypothesis, float]]:
    """The hypotheses that fit about as well as the one that fits best."""
    least = min((left for _, left in fits), default=0.0)
    return [(hypothesis, left) for hypothesis, left in fits if left <= min(tolerance, 4 * least + 1e-15)]


def finding(place: Place, own: Hypothesis | None, other: Hypothesis, left: float) -> Finding:
    """What is said where a does `own`, and `other` gives b's value."""
    name = place.module_a or "the model itself"
    if own is None:
        way = other.undone or f"done as b, which {other.does}"
        said = f"{name}: what a does is none of what was tried; {way}, it gives b's value to {left:.0e}"
        return Finding(other.key or "unknown", "a", name, said, left)
    if other.undone:
        return Finding(other.key, "a", name, f"{name}: {other.does}; {other.undone}, the two agree to {left:.0e}", left)
    said = f"{name}: a {own.does}, b {other.does}; when a does as b, the two agree to {left:.0e}"
    common = own.key in ("", "activation") and bool(other.key)  # then b is the unusual one
    return Finding(other.key if common else own.key, "b" if common and own.key != other.key else "a", name, said, left)
