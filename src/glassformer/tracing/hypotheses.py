"""What a difference between two models looks like: variants of a computation, each tried on both.

At the first point where two models differ, what they compute is computed again from a's own inputs and parameters, in
every way that people are known to get it wrong (`Variant`). A variant explains a model where it gives the model's value.
Where one explains a and another explains b, the difference is found, and undone: a, computed in b's way, gives b's value.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from glassformer.tracing.agreement import error


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to compute a value.

    key      what the matter is, in a word for programs; "" where nothing is
    does     what a model that computes so does, as "adds no bias"
    undone   how the other way is said, as "with the bias"
    compute  the value, from what a was given; None where it cannot be computed here
    """

    key: str
    does: str
    undone: str
    compute: Callable[[], Tensor | None]


@dataclass(frozen=True)
class Finding:
    """A hypothesis that was confirmed: computing a so gives b's value.

    key       what the matter is: "transposed weight", "causal mask", …
    who       "a" or "b": whose computation is the unusual one
    module    where, by the name in that model
    sentence  for people
    error     what is left of the difference once it is undone, as a share of the largest value
    """

    key: str
    who: str
    module: str
    sentence: str
    error: float


@dataclass(frozen=True, eq=False)
class Site:
    """A computation of both models that differs, with the ways in which it may be done.

    The first of `variants` is how it should be done.
    """

    kind: str
    a: str
    b: str
    value_a: Tensor
    value_b: Tensor
    variants: tuple[Variant, ...]


def tested(site: Site, tolerance: float) -> tuple[list[Finding], list[str]]:
    """The findings, simplest first, and the keys of all that was tried."""
    fits: list[tuple[Variant, float, float]] = []
    tried: list[str] = []
    for variant in site.variants:
        value = variant.compute()
        if value is None:
            continue
        tried += [variant.key] if variant.key and variant.key not in tried else []
        fits.append((variant, error(value, site.value_a), error(value, site.value_b)))
    own = best(((variant, to_a) for variant, to_a, _ in fits), tolerance)
    found: list[Finding] = []
    for variant, _, to_b in sorted(fits, key=lambda fit: fit[2] > 3 * min((f[2] for f in fits), default=0.0)):
        if to_b > tolerance or (own is not None and variant is own[0]):
            continue
        found += [finding(site, own[0] if own else None, variant, to_b)]
    return found, tried


def best(fits: Iterable[tuple[Variant, float]], tolerance: float) -> tuple[Variant, float] | None:
    """The first of the variants that fit about as well as the one that fits best; None where none does."""
    good = [fit for fit in fits if fit[1] <= tolerance]
    least = min((fit[1] for fit in good), default=0.0)
    return next((fit for fit in good if fit[1] <= 3 * least + 1e-12), None)


def finding(site: Site, own: Variant | None, other: Variant, left: float) -> Finding:
    """What is said where a does `own`, and `other` gives b's value."""
    if own is not None and own.key:  # a is the unusual one
        said = f"{site.a or 'the output'}: a {own.does}; {own.undone}, the two agree to {left:.0e}"
        return Finding(own.key, "a", site.a, said, left)
    if own is not None:
        said = f"{site.b or 'the output'}: b {other.does}; when a does so too, the two agree to {left:.0e}"
        return Finding(other.key, "b", site.b, said, left)
    way = other.undone if other.key else "done as it should be"
    said = f"{site.a or 'the output'}: a does something unknown; {way}, from a's own inputs, it gives b's value to {left:.0e}"
    return Finding(other.key or "unknown", "a", site.a, said, left)
