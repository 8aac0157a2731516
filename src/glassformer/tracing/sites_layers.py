"""Layers with parameters of their own: linear layers, normalisations, embeddings."""

from collections.abc import Iterator

import torch
from torch import Tensor

from glassformer.tracing.align import Part, is_embedding, matrix
from glassformer.tracing.hypotheses import Finding, Hypothesis, tested
from glassformer.tracing.parameters import Parameters, own_parameters, unlike
from glassformer.tracing.place import Place, equal

LOWER = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes that a model of a higher one may compute in."""
EPS = (1e-12, 1e-8, 1e-6, 1e-5, 1e-3, 1e-2, 0.0)
CAPS = (30.0, 50.0, 20.0, 15.0, 10.0)


def layer_findings(place: Place) -> tuple[list[Finding], list[str]]:
    """What a layer of the two does, or holds, differently."""
    x = place.input()
    if place.point.side != "out" or x is None:
        return [], []
    a, b = (seen.modules[path] for seen, path in ((place.a, place.point.module), (place.b, place.other.module)))
    mine = own_parameters(place.a, place.point.module, place.pair.a_part)
    theirs = own_parameters(place.b, place.other.module, place.pair.b_part)
    if mine.weight is None and theirs.weight is not None and theirs.weight.ndim == 1:
        mine = theirs  # a has no norm here
    if mine.weight is None:
        return [], []
    if matrix(a) is not None and matrix(b) is not None:
        return tested(place, list(linear(place, x, mine, theirs)))
    if mine.weight.ndim == 1 and x.is_floating_point():
        return tested(place, list(norm(place, x, mine, theirs)))
    if is_embedding(a) and not x.is_floating_point():
        return tested(place, list(embedding(place, x, mine, theirs)))
    return [], []


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """x Wᵀ + b; None where the shapes do not fit."""
    if x.shape[-1] != weight.shape[1] or (bias is not None and bias.shape != weight.shape[:1]):
        return None
    product = x @ weight.T
    return product if bias is None else product + bias


def lower(place: Place) -> list[torch.dtype]:
    """The dtypes that are coarser than that of the values."""
    own = torch.finfo(place.point.value.dtype).eps
    return [dtype for dtype in LOWER if torch.finfo(dtype).eps > own]


def in_dtype(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """x Wᵀ + b, computed in another dtype."""
    out = affine(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
    return None if out is None else out.double()


# -- linear ------------------------------------------------------------------------------------------------------------


def linear(place: Place, x: Tensor, mine: Parameters, theirs: Parameters) -> Iterator[Hypothesis]:
    """The ways of a linear layer; the first is x Wᵀ + b."""
    w, b = mine.weight, mine.bias
    assert w is not None
    yield Hypothesis("", "multiplies by its weight and adds its bias", lambda: affine(x, w, b))
    if w.shape[0] == w.shape[1] or (theirs.weight is not None and theirs.weight.shape == w.T.shape):
        if equal(w, theirs.weight):
            yield Hypothesis("transposed weight", "has its weight transposed", lambda: affine(x, w.T, b))
        else:
            yield Hypothesis(
                "transposed weight", "its weight is transposed", lambda: affine(x, w.T, b), "transposed back"
            )
    if not equal(w, theirs.weight) or not equal(b, theirs.bias):
        yield from exchanged(place, x, w)
        yield from other_parameters(place, x, mine, theirs)
    if b is not None:
        yield Hypothesis("missing bias", "leaves its bias out", lambda: affine(x, w, None))
    width = place.head_width()
    if width is not None and x.ndim == 3 and x.shape[-1] % width == 0:
        heads = x.unflatten(-1, (-1, width)).transpose(1, 2).reshape(x.shape)
        yield Hypothesis("merging heads", "reads heads one behind the other", lambda: affine(heads, w, b))
    for dtype in lower(place):
        name = str(dtype).removeprefix("torch.")
        yield Hypothesis("precision", f"computes in {name}", lambda dtype=dtype: in_dtype(x, w, b, dtype))
    plain = affine(x, w, b)
    if plain is not None:
        yield from scaled(place, plain)


def scaled(place: Place, plain: Tensor) -> Iterator[Hypothesis]:
    """A factor, or a cap, after the fact: as a's value, and as b's, say."""
    cut = place.cut(plain)
    for value in (place.value_a, place.value_b):
        if value.shape == cut.shape:
            factor = float((cut * value).sum() / (cut * cut).sum().clamp(min=1e-30))
            if abs(factor - 1) > 1e-6:
                yield Hypothesis(
                    "scale", f"multiplies by {spelled(factor, plain.shape[-1])}", lambda f=factor: plain * f
                )
    for cap in CAPS:
        yield Hypothesis("soft cap", f"caps its values at {cap:g} by tanh", lambda c=cap: c * (plain / c).tanh())


def spelled(factor: float, width: int) -> str:
    """A factor as people write it, where it is made of the width."""
    for name, value in ((f"√{width}", width**0.5), (f"1/√{width}", width**-0.5), (f"1/{width}", 1 / width)):
        if abs(factor / value - 1) < 1e-5:
            return name
    return f"{factor:.6g}"


def exchanged(place: Place, x: Tensor, weight: Tensor) -> Iterator[Hypothesis]:
    """The weights of a sister layer, which is given the same."""
    mine = place.point.module
    parent = mine.rpartition(".")[0]
    sisters: dict[tuple[str, Part], None] = {}
    for pair in place.alignment.pairs:
        fused = pair.a == mine and pair.a_part != place.pair.a_part
        if fused or (pair.a != mine and pair.a.rpartition(".")[0] == parent):
            sisters[pair.a, pair.a_part] = None
    for path, part in sisters:
        other = own_parameters(place.a, path, part)
        if matrix(place.a.modules[path]) is None or other.weight is None or other.weight.shape != weight.shape:
            continue
        name = path.rpartition(".")[2] if part is None else f"columns {part[0]} to {part[1]} of {path}"
        yield Hypothesis(
            "swapped weights", f"its weights and those of {name} are swapped",
            lambda other=other: affine(x, other.weight, other.bias), "with those",  # type: ignore[arg-type]
        )  # fmt: skip


def other_parameters(place: Place, x: Tensor, mine: Parameters, theirs: Parameters) -> Iterator[Hypothesis]:
    """b's parameters, one at a time, then both."""
    w, b = mine.weight, mine.bias
    assert w is not None
    width = place.head_width()
    if width is not None and w.shape[0] % width == 0 and width % 2 == 0:
        for split in ((2, width // 2), (width // 2, 2)):
            rows = torch.arange(w.shape[0]).view(-1, *split).mT.flatten()
            moved = None if b is None else b[rows]
            yield Hypothesis(
                "rotation layout of the weights", "its rows are in the other rotation layout",
                lambda rows=rows, moved=moved: affine(x, w[rows], moved), "with its rows reordered",
            )  # fmt: skip
    if not equal(b, theirs.bias):
        key, said = unlike(b, theirs.bias, "bias")
        yield Hypothesis(key, said, lambda: affine(x, w, theirs.bias), "with b's bias")
    if theirs.weight is not None and not equal(w, theirs.weight):
        key, said = unlike(w, theirs.weight, "weight")
        embed = next((m for m in place.a.modules.values() if is_embedding(m) and weight_of(m) is not None
                      and equal(weight_of(m), theirs.weight)), None)  # fmt: skip
        if embed is not None:
            tied = weight_of(embed)
            yield Hypothesis("untied head", "its weight is not the embedding's",
                          lambda: None if tied is None else affine(x, tied, b), "tied to it")  # fmt: skip
        yield Hypothesis(key, said, lambda: affine(x, theirs.weight, b), "with b's weight")  # type: ignore[arg-type]
        yield Hypothesis(key, f"{said}, and so does its bias", lambda: affine(x, theirs.weight, theirs.bias),  # type: ignore[arg-type]
                      "with b's weight and bias")  # fmt: skip


def weight_of(module: torch.nn.Module) -> Tensor | None:
    """The weight of a layer in float64, None where it has none."""
    weight = getattr(module, "weight", None)
    return weight.detach().double().cpu() if isinstance(weight, Tensor) else None


# -- norms -------------------------------------------------------------------------------------------------------------


def norm(place: Place, x: Tensor, mine: Parameters, theirs: Parameters) -> Iterator[Hypothesis]:
    """The ways of a normalisation; the first is what its class and ε say."""
    module = place.a.modules[place.point.module]
    module = module if own_parameters(place.a, place.point.module).weight is not None else their_module(place)
    kind = type(module).__name__
    mean = "RMS" not in kind and kind not in ("T5LayerNorm",)
    one = 1.0 if "ZeroCentered" in kind or "Gemma" in kind else 0.0
    eps, their_eps = eps_of(module), eps_of(their_module(place))
    w, b = mine.weight, mine.bias
    assert w is not None

    def value(
        *, mean: bool = mean, one: float = one, eps: float = eps, gain: Tensor | None = w, bias: Tensor | None = b,
        less: int = 0, outside: bool = False, dtype: torch.dtype = torch.float64,
    ) -> Tensor:  # fmt: skip
        y = x.to(dtype)
        y = y - y.mean(-1, keepdim=True) if mean else y
        size = y.square().sum(-1, keepdim=True) / (y.shape[-1] - less)
        y = y / (size.sqrt() + eps) if outside else y / (size + eps).sqrt()
        y = y if gain is None else y * (one + gain).to(dtype)
        return (y if bias is None else y + bias.to(dtype)).double()

    yield Hypothesis("", "normalises with its gain and bias", value)
    yield Hypothesis("missing norm", "hands its input through", lambda: x)
    if not equal(w, theirs.weight) and theirs.weight is not None:
        key, said = unlike(w, theirs.weight, "weight")
        yield Hypothesis(key, said, lambda: value(gain=theirs.weight), "with b's weight")
    if not equal(b, theirs.bias):
        key, said = unlike(b, theirs.bias, "bias")
        yield Hypothesis(key, said, lambda: value(bias=theirs.bias), "with b's bias")
        yield Hypothesis(key, f"{said}, and so does its weight", lambda: value(gain=theirs.weight, bias=theirs.bias),
                      "with b's weight and bias")  # fmt: skip
    if eps != their_eps:
        yield Hypothesis(
            "eps", f"its ε is {eps:g}, b's {their_eps:g}", lambda: value(eps=their_eps), f"with ε = {their_eps:g}"
        )
    for other in EPS:
        yield Hypothesis("eps", f"has ε = {other:g}", lambda other=other: value(eps=other))
    yield Hypothesis("norm gain", "multiplies by 1 + weight" if not one else "multiplies by its weight, without the 1",
                  lambda: value(one=1.0 - one))  # fmt: skip
    yield Hypothesis("norm gain", "has no gain", lambda: value(gain=None))
    if b is not None:
        yield Hypothesis("missing bias", "leaves its bias out", lambda: value(bias=None))
    yield Hypothesis(
        "norm kind", "does not subtract the mean" if mean else "subtracts the mean", lambda: value(mean=not mean)
    )
    yield Hypothesis("norm variance", "divides by n − 1", lambda: value(less=1))
    for other in (eps, *EPS):
        yield Hypothesis("eps placement", "adds ε outside the root", lambda other=other: value(outside=True, eps=other))
    for dtype in lower(place):
        name = str(dtype).removeprefix("torch.")
        yield Hypothesis("precision", f"computes in {name}", lambda dtype=dtype: value(dtype=dtype))
        yield Hypothesis(
            "precision", f"normalises in {name}", lambda dtype=dtype: narrow(x, eps, dtype, w, b, one, mean)
        )


def narrow(
    x: Tensor, eps: float, dtype: torch.dtype, gain: Tensor, bias: Tensor | None, one: float, mean: bool
) -> Tensor:
    """A normalisation in another dtype, and gain and bias in float64."""
    y = x.to(dtype)
    y = y - y.mean(-1, keepdim=True) if mean else y
    y = (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps)).double() * (one + gain)
    return y if bias is None else y + bias


def their_module(place: Place) -> torch.nn.Module:
    """The module of b at the place."""
    return place.b.modules[place.other.module]


def eps_of(module: torch.nn.Module) -> float:
    """What is added before the root."""
    found = (getattr(module, name, None) for name in ("eps", "variance_epsilon", "epsilon"))
    return next((each for each in found if isinstance(each, float)), 0.0)


# -- embeddings --------------------------------------------------------------------------------------------------------


def embedding(place: Place, ids: Tensor, mine: Parameters, theirs: Parameters) -> Iterator[Hypothesis]:
    """The ways of looking vectors up; the first is W[ids]."""
    w = mine.weight
    assert w is not None
    plain = w[ids.clamp(0, w.shape[0] - 1)]
    yield Hypothesis("", "takes the rows as they are", lambda: plain)
    if theirs.weight is not None and theirs.weight.shape == w.shape and not equal(w, theirs.weight):
        key, said = unlike(w, theirs.weight, "weight")
        other = theirs.weight
        yield Hypothesis(key, said, lambda: other[ids], "with b's weight")
    for step in (1, -1, 2, -2):
        moved = ids + step
        if int(moved.min()) >= 0 and int(moved.max()) < w.shape[0]:
            yield Hypothesis(
                "positions", f"takes the row {step:+d} from the one asked for", lambda moved=moved: w[moved]
            )
    if int(ids.max()) > 0:
        key = "token types" if w.shape[0] < 8 else "ids"
        yield Hypothesis(key, "takes the first row everywhere", lambda: w[torch.zeros_like(ids)])
    width = w.shape[1]
    yield Hypothesis("embedding scale", f"multiplies by √{width}", lambda: plain * width**0.5)
    yield Hypothesis("embedding scale", f"divides by √{width}", lambda: plain * width**-0.5)
    for variant in scaled(place, plain):
        if variant.key == "scale":
            yield Hypothesis("embedding scale", variant.does, variant.compute)
