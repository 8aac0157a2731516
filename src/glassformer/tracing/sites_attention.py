"""The heart of attention, from queries, keys and values to the output projection, tried under every choice."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.tracing.agreement import error
from glassformer.tracing.align import matrix
from glassformer.tracing.choices import MADE, Choices, Heads, deviations, differing, key_of, phrase, strangeness, usual
from glassformer.tracing.hypotheses import Finding
from glassformer.tracing.place import Place
from glassformer.tracing.points import ForwardPass
from glassformer.tracing.sites_bias import learned_biases
from glassformer.tracing.sites_windows import window_biases

ROWS = 3


def attention_findings(place: Place) -> tuple[list[Finding], list[str]]:
    """What attention of the two does differently, and the keys of what was tried."""
    heads = heads_of(place)
    if heads is None:
        return [], []
    rows = rows_of(place)
    left, right = (value[rows].double() for value in (place.point.value, place.other.value))
    present = heads.present

    def off(value: Tensor, target: Tensor) -> float:
        if value.shape != target.shape:
            return float("inf")
        counted = target.isfinite().all(-1)  # a query that sees nothing may be anything
        counted = counted if present is None or present.shape != counted.shape else counted & present
        return error(value[counted], target[counted])

    fits: tuple[dict[Choices, float], dict[Choices, float]] = {}, {}
    tried: dict[Choices, None] = {}

    def attempt(choices: Choices) -> None:
        if choices in tried:
            return
        tried[choices] = None
        value = heads.compute(choices)
        for fit, target in zip(fits, (left, right), strict=True):
            if (apart := off(value, target)) <= place.tolerance:
                fit[choices] = apart

    bases = list(usual(heads, scales(place, heads), windows(place)))
    for choices in bases:
        attempt(choices)
    good = [choices for choices in bases if choices in fits[0] or choices in fits[1]]
    for choices in good or bases:
        for other in deviations(choices, heads):
            attempt(other)
    keys = sorted({key_of(field, bases[0], c) for c in tried for field in differing(bases[0], c)})
    return findings(place, heads, sharpest(fits[0]), sharpest(fits[1])), keys


def sharpest(fits: dict[Choices, float]) -> dict[Choices, float]:
    """Those that fit about as well as the best."""
    least = min(fits.values(), default=0.0)
    return {choices: off for choices, off in fits.items() if off <= 4 * least + 1e-15}


def findings(place: Place, heads: Heads, of_a: dict[Choices, float], of_b: dict[Choices, float]) -> list[Finding]:
    """The pairs of explanations that differ least."""
    pairs = [(differing(a, b), a, b, off) for a in of_a for b, off in of_b.items() if a != b]
    fewest = min((len(fields) for fields, *_ in pairs), default=0)
    found: dict[tuple[str, ...], Finding] = {}
    for fields, a, b, off in sorted((p for p in pairs if len(p[0]) == fewest), key=lambda p: p[3]):
        does_a, does_b = (" and ".join(phrase(field, c, heads) for field in fields) for c in (a, b))
        name = place.module_a or "the model itself"
        said = f"{name}: a {does_a}, b {does_b}; when a does as b, the two agree to {off:.0e}"
        key = key_of(fields[0], a, b)
        odd = "b" if strangeness(b, heads) > strangeness(a, heads) else "a"
        found.setdefault(tuple(fields), Finding(key, odd, name, said, off))
    if not of_a and of_b:
        best = min(of_b, key=lambda c: of_b[c])
        name = place.module_a
        ways = " and ".join(phrase(field, best, heads) for field in ("causal", "scale", "rotation"))
        said = (
            f"{name}: what a does is none of what was tried; attention that {ways} gives b's value to {of_b[best]:.0e}"
        )
        return [Finding("unknown", "a", name, said, of_b[best])]
    return list(found.values())


def rows_of(place: Place) -> Tensor:
    """The rows of the batch (for windows, the windows) in which the two differ most; a few are enough."""
    value, other = place.point.value, place.other.value
    if len(value) <= ROWS or value.shape != other.shape:
        return torch.arange(min(ROWS, len(value)))
    apart = (value.double() - other.double()).nan_to_num(0.0).abs().flatten(1).amax(1)
    return apart.topk(ROWS).indices.sort().values.cpu()


def heads_of(place: Place) -> Heads | None:
    """Queries, keys and values of a, as heads, from the layers that ran before."""
    seen, point = place.a, place.point
    parts = projections(place)
    width = place.head_width()
    if point.side != "in" or parts is None or width is None or point.value.ndim != 3:
        return None
    q, k, v = parts
    if any(x.ndim not in (3, 4) for x in parts):
        return None
    split, rows = [], rows_of(place)
    for x in (q, k, v):
        if x.shape[-1] % width and x.ndim == 3:
            return None
        split.append(x[rows] if x.ndim == 4 else x[rows].unflatten(-1, (-1, width)).transpose(1, 2))
    if split[0].shape[1] % split[1].shape[1] or split[1].shape[:3] != split[2].shape[:3]:
        return None
    present = seen.present if seen.present is not None else place.b.present
    present = None if present is None else present[rows].bool()
    frequencies: dict[str, tuple[Tensor, float]] = {}
    for who, run in (("a", seen), ("b", place.b)):
        for i, rotation in enumerate(rotations(run, width)):
            if not any(same_turn(rotation, known) for known in frequencies.values()):
                frequencies[f"{who}{i}"] = rotation
    q, k, v = split
    return Heads(q, k, v, present, frequencies, point.value.shape[-1], score_biases(place, q, k))


def score_biases(place: Place, q: Tensor, k: Tensor) -> dict[str, Tensor]:
    """What may be added to the scores: what a module made for them, and what learned numbers say by distance."""
    made, learned = score_bias(place, q, k), window_biases(place, q, rows_of(place)) or learned_biases(place, q, k)
    if made is None:
        return learned
    if any(each.shape == made.shape and torch.allclose(each, made.double()) for each in learned.values()):
        return learned
    first = dict(list(learned.items())[:1])
    return first | {MADE: made} | learned


def score_bias(place: Place, q: Tensor, k: Tensor) -> Tensor | None:
    """What a module computed that fits the scores, (1 or b, h, t, s): a bias by distance. Of either model."""
    for seen, until in ((place.a, place.point), (place.b, place.other)):
        for point in reversed(seen.points[: seen.points.index(until)]):
            value = point.value
            tap = isinstance(seen.modules[point.module], nn.Identity)  # a tap shows weights
            if (
                point.side == "out"
                and not tap
                and value.ndim == 4
                and value.shape[1:] == (q.shape[1], q.shape[2], k.shape[2])
            ):
                return value if len(value) == 1 else value[rows_of(place)]
    return None


def same_turn(a: tuple[Tensor, float], b: tuple[Tensor, float]) -> bool:
    """Whether two rotations turn alike."""
    return a[0].shape == b[0].shape and abs(a[1] - b[1]) < 1e-6 and torch.allclose(a[0].double(), b[0].double(), 1e-5)


def projections(place: Place) -> tuple[Tensor, Tensor, Tensor] | None:
    """The last query, key and value that were made before the point; normalised heads in place of their own."""
    seen = place.a
    before = seen.points[: seen.points.index(place.point)]
    made: list[tuple[str, Tensor]] = []
    normed: list[tuple[str, Tensor]] = []
    for point in reversed(before):
        if point.side != "out":
            continue
        module = seen.modules[point.module]
        if matrix(module) is not None:
            fused = [pair.a_part for pair in place.alignment.pairs if pair.a == point.module and pair.a_part]
            width = point.value.shape[-1]
            if not fused and width == 3 * place.point.value.shape[-1] and not made:
                fused = [(i * width // 3, (i + 1) * width // 3) for i in range(3)]
            columns = [point.value[..., start:stop] for start, stop in sorted(set(fused))] if fused else [point.value]
            made[:0] = [(point.module, x) for x in columns]
        elif point.value.ndim == 4 and not list(module.children()):
            normed[:0] = [(point.module, point.value)]
        if len(made) >= 3:
            break
    if len(made) < 3:
        return None
    q, k, v = (x for _, x in made[-3:])
    if q.shape[-1] != place.point.value.shape[-1]:
        return None
    heads = [x if x.shape[2] == q.shape[1] else x.transpose(1, 2) for _, x in normed]
    if len(heads) >= 2:
        q, k = heads[0], heads[1]
    return q, k, v


def rotations(seen: ForwardPass, width: int) -> Iterator[tuple[Tensor, float]]:
    """Radians per position of each pair, and what cosines are multiplied by, for every rotation that a model has."""
    for module in seen.modules.values():
        names = [name for name, _ in module.named_buffers(recurse=False) if name.endswith("inv_freq")]
        for name in [*(name for name in names if "original" not in name), "_frequency"]:
            found: Any = getattr(module, name, None)
            if isinstance(found, Tensor) and found.ndim == 1 and 2 * len(found) <= width:
                magnitude: Any = getattr(module, name.removesuffix("inv_freq") + "attention_scaling", None)
                if magnitude is None:
                    scaling = getattr(module, "scaling", None)
                    magnitude = getattr(module, "attention_scaling", getattr(scaling, "magnitude", 1.0))
                yield found.detach().cpu(), float(magnitude)


def scales(place: Place, heads: Heads) -> list[float]:
    """1/√k, and what the modules say."""
    out = [heads.q.shape[-1] ** -0.5]
    for seen, path in ((place.a, place.module_a), (place.b, place.module_b)):
        module: nn.Module = seen.modules[path]
        for name in ("scale", "scaling"):
            found = getattr(module, name, None)
            if isinstance(found, float) and not any(abs(found - each) < 1e-9 for each in out):
                out.append(found)
    return out


def windows(place: Place) -> list[int]:
    """The windows that the configs name."""
    out: list[int] = []
    for seen in (place.a, place.b):
        config = getattr(seen.model, "config", None)
        for name in ("window_size", "sliding_window", "local_attention"):
            found = getattr(config, name, None)
            if isinstance(found, int):
                out += [size for size in (found, found // 2 + 1) if size not in out]
    return out
