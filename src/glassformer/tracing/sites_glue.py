"""What stands between layers: activations, gates, indices, sums and the order of norms."""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.tracing.agreement import error
from glassformer.tracing.align import is_embedding, matrix
from glassformer.tracing.hypotheses import Finding, Hypothesis, tested
from glassformer.tracing.place import Place
from glassformer.tracing.points import Point

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "GELU": F.gelu,
    "GELU by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick GELU, x σ(1.702 x)": lambda x: x * (1.702 * x).sigmoid(),
    "ReLU": F.relu,
    "SiLU": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "ReLU squared": lambda x: F.relu(x).square(),
    "leaky ReLU": F.leaky_relu,
    "Mish": F.mish,
    "no activation": lambda x: x,
}
MOST_TERMS = 9
SUBSET = 3


# -- activations -------------------------------------------------------------------------------------------------------


def activation_findings(place: Place) -> tuple[list[Finding], list[str]]:
    """Which activation, and which of two layers is the gate, between linear layers or after one."""
    if not place.point.value.is_floating_point():
        return [], []
    return tested(place, list(activations(place)))


def activations(place: Place) -> Iterator[Hypothesis]:
    """Of the last layer, or of the last two, that gave as many channels; none of them is how it must be."""
    made = [
        (point.module, point.value.double()) for point in place.earlier()
        if point.side == "out" and matrix(place.a.modules[point.module]) is not None
        and point.value.shape == place.point.value.shape
    ]  # fmt: skip
    if not made or (place.point.side == "out" and matrix(place.a.modules[place.point.module]) is not None):
        return
    for name, act in ACTIVATIONS.items():
        yield Hypothesis("activation", f"applies {name}", lambda act=act: act(made[-1][1]))
    if len(made) < 2:
        return
    (_, gate), (name, up) = made[-2:]
    gate, up = (up, gate) if "gate" in name.rpartition(".")[2] else (gate, up)
    for name, act in ACTIVATIONS.items():
        yield Hypothesis("activation", f"gates by {name}", lambda act=act: act(gate) * up)
    for name, act in ACTIVATIONS.items():
        yield Hypothesis(
            "gate and up swapped", f"takes the gate for what is gated, by {name}", lambda act=act: gate * act(up)
        )


# -- indices -----------------------------------------------------------------------------------------------------------


def index_findings(place: Place) -> tuple[list[Finding], list[str]]:
    """Which numbers an embedding is asked for: positions, token types."""
    if place.point.value.is_floating_point():
        return [], []
    return tested(place, list(indices(place)))


def indices(place: Place) -> Iterator[Hypothesis]:
    """The numbers that an embedding may be asked for; none of them is how it must be."""
    ids = place.a.given.get("input_ids")
    if not isinstance(ids, Tensor):
        return
    t = ids.shape[1]
    plain = torch.arange(t).expand(ids.shape)
    for name, given in place.a.given.items():
        if isinstance(given, Tensor) and given.shape == ids.shape and not given.is_floating_point():
            key = "token types" if name == "token_type_ids" else "ids"
            yield Hypothesis(
                "" if name == "token_type_ids" else key,
                f"takes the {name} it is given",
                lambda given=given: given.cpu(),
            )
    yield Hypothesis("token types" if "token_type" in name_of(place) or "segment" in name_of(place) else "positions",
                  "takes 0 everywhere", lambda: torch.zeros_like(plain))  # fmt: skip
    ways = [("counts from the first place, padding too", plain)]
    present = place.a.present if place.a.present is not None else place.b.present
    if present is not None:
        ways.insert(0, ("counts real tokens only", (present.long().cumsum(-1) - 1).clamp(min=0)))
    for said, value in ways:
        for start in (0, 1, 2, -1):
            yield Hypothesis("positions", f"{said}, from {start}", lambda value=value, start=start: value + start)


def name_of(place: Place) -> str:
    """Both names of the place, for what they say of its kind."""
    return f"{place.point.module} {place.other.module}"


# -- sums --------------------------------------------------------------------------------------------------------------


def sum_findings(place: Place) -> tuple[list[Finding], list[str]]:
    """Which of the values at hand are added: residuals, embeddings, what is normalised and what is not."""
    if not place.point.value.is_floating_point() or place.point.value.ndim < 2:
        return [], []
    terms = list(hand(place))
    tried = ["residual", "norm placement", "missing term"]
    own, other = (closest(place, terms, value) for value in (place.value_a, place.value_b))
    if other is None or (own is not None and own[0] == other[0]):
        return [], tried
    name = place.module_a or "the model itself"
    left = other[1]
    says_b = " + ".join(other[0])
    if own is None:
        said = f"{name}: what a does is none of what was tried; {says_b} of a gives b's value to {left:.0e}"
        return [Finding("unknown", "a", name, said, left)], tried
    key = sum_key(set(own[0]), set(other[0]), place)
    said = (f"{name}: to {place.point} a hands {' + '.join(own[0])}, b {says_b}; "
            f"when a does as b, the two agree to {left:.0e}")  # fmt: skip
    return [Finding(key, "a" if len(own[0]) <= len(other[0]) else "b", name, said, left)], tried


def hand(place: Place) -> Iterator[tuple[str, Tensor]]:
    """What may be added: the culprit's input, what was computed within it, and norms of these."""
    shape = place.point.value.shape
    within = f"{place.module_a}." if place.module_a else ""
    found: list[tuple[str, Tensor]] = []

    def add(name: str, value: Tensor) -> None:
        value = value.double()
        if value.shape != shape:
            try:
                value = value.expand(shape)
            except RuntimeError:
                return
        if not any(torch.equal(value, each) for _, each in found):
            found.append((name, value))

    started = [p for p in place.earlier() if p.side == "in" and p.module == place.module_a]
    if started and place.module_a:
        add("its input", started[-1].value)
    begun = place.earlier().index(started[-1]) if started else 0
    inner: list[Point] = [
        p for p in place.earlier()[begun:]
        if p.side == "out" and is_child(p.module, place.module_a) and p.value.is_floating_point()
    ]  # fmt: skip
    for point in [*inner[:3], *inner[3:][-(MOST_TERMS - 4) :]] if len(inner) > MOST_TERMS else inner:
        add(point.module.removeprefix(within), point.value)
    for point in inner:
        if is_embedding(place.a.modules[point.module]) and not place.module_a and point.value.shape == shape:
            add(f"√{shape[-1]} · {point.module}", point.value * shape[-1] ** 0.5)
    yield from found
    plain = found[-5:] if len(found) > 5 else found
    for path, module in place.a.modules.items():
        inside = is_child(path, place.module_a)
        weight = getattr(module, "weight", None)
        if not inside or not isinstance(weight, Tensor) or weight.ndim != 1 or weight.shape[0] != shape[-1]:
            continue
        sums = [*plain, *((f"{n} + {m}", x + y) for (n, x), (m, y) in combinations(plain, 2))]
        for name, value in sums:
            yield f"{path.removeprefix(within)}({name})", module(value.to(weight)).detach().double().cpu()


def is_child(path: str, parent: str) -> bool:
    """Whether a module is directly in another, or in a list that is."""
    inner = path.removeprefix(f"{parent}.") if parent else path
    return (
        path != parent and (not parent or inner != path) and sum(not part.isdigit() for part in inner.split(".")) == 1
    )


def closest(place: Place, terms: list[tuple[str, Tensor]], target: Tensor) -> tuple[tuple[str, ...], float] | None:
    """The fewest terms whose sum is the value."""
    cut = [(name, place.cut(value)) for name, value in terms]
    plain = [each for each in cut if "(" not in each[0]]
    for size in range(1, SUBSET + 1):
        best: tuple[tuple[str, ...], float] | None = None
        for chosen in combinations(cut if size == 1 else plain if size == 3 else cut[:24], size):
            off = error(sum((value for _, value in chosen[1:]), chosen[0][1]), target)
            if off <= place.tolerance and (best is None or off < best[1]):
                best = tuple(name for name, _ in chosen), off
        if best is not None:
            return best
    return None


def sum_key(own: set[str], other: set[str], place: Place) -> str:
    """What the matter is, by the terms that only one of the two has."""
    apart = " ".join(own ^ other)
    if "√" in apart:
        return "embedding scale"
    if "(" in apart or any(is_norm(place, name) for name in own ^ other):
        return "norm placement"
    if "token_type" in apart or "segment" in apart:
        return "token types"
    if "position" in apart or "wpe" in apart:
        return "positions"
    if "its input" in apart or len(own) != len(other):
        return "residual"
    return "sum"


def is_norm(place: Place, name: str) -> bool:
    """Whether the term came out of a normalisation."""
    module = place.a.modules.get(f"{place.module_a}.{name}" if place.module_a else name)
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 1
