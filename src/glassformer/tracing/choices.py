"""Attention as a record of choices: each may be made otherwise, and often is by mistake."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Choices:
    """How queries, keys and values become what goes into the output projection.

    causal     how far ahead a token sees: 0 itself, None everything
    window     how many places back, itself counted; None everything
    padding    what an attention mask hides: "keys", nothing ("ignored"), the "real" tokens, "queries"
    rotation   of queries and keys: None, "half" (pairs i, i + k/2), "interleaved" (2i, 2i + 1), "backwards", "queries",
               "keys" (only these)
    frequency  which of those that the models have: "a0", "b0", …
    positions  "plain" 0, 1, …; "real" counts real tokens only
    heads      which key head serves a query head: "grouped" (the first ones the first), "tiled"
    exchanged  "" or which two of query, key, value have changed places
    precision  of scores and softmax
    merged     heads side by side per token ("token"), or one behind the other ("head")
    bias       what is added to the scores by distance, by its name in `Heads.biases`; "" where nothing is
    """

    scale: float
    causal: int | None = 0
    window: int | None = None
    padding: str = "keys"
    rotation: str | None = None
    frequency: str = ""
    positions: str = "plain"
    heads: str = "grouped"
    exchanged: str = ""
    precision: torch.dtype = torch.float64
    merged: str = "token"
    bias: str = ""


MADE = "as a module computes it"
"""The name of a bias that none of the ways to read learned numbers gives."""

KEYS = {
    "scale": "attention scale", "causal": "causal mask", "window": "window", "padding": "padding mask",
    "rotation": "rotation", "frequency": "rotary base", "positions": "positions", "heads": "key heads",
    "exchanged": "swapped projections", "precision": "precision", "merged": "merging heads",
    "bias": "score bias",
}  # fmt: skip


def key_of(field: str, left: Choices, right: Choices) -> str:
    """What the matter is, where the two differ in a field."""
    if field == "rotation" and {left.rotation, right.rotation} == {"half", "interleaved"}:
        return "rotation layout"
    if field == "bias" and left.bias and right.bias:
        return "window mask" if "mask" in left.bias + right.bias else "relative bias"
    return KEYS[field]


@dataclass(frozen=True, eq=False)
class Heads:
    """What attention is computed from: q (b h t k), k and v (b g s k), real tokens, and each model's frequencies."""

    q: Tensor
    k: Tensor
    v: Tensor
    present: Tensor | None
    frequencies: dict[str, tuple[Tensor, float]]
    dim: int
    biases: dict[str, Tensor] = field(default_factory=dict)
    """first the usual one, then `MADE`, then others"""

    @property
    def usual_biases(self) -> list[str]:
        """Those that models add on purpose."""
        return [name for i, name in enumerate(self.biases) if i == 0 or name == MADE]

    def compute(self, c: Choices) -> Tensor:
        """(b, t, h · k) under these choices."""
        exact = c.precision == torch.float64  # else what comes before it is left in the model's own dtype
        q, k, v = ((x.double() if exact else x) for x in (self.q, self.k, self.v))
        if c.exchanged and q.shape == k.shape == v.shape:
            q, k, v = {"query and key": (k, q, v), "key and value": (q, v, k), "query and value": (v, k, q)}[
                c.exchanged
            ]
        if c.rotation:
            angle, magnitude = self.angles(c)
            q = q if c.rotation == "keys" else turned(q, angle, c.rotation) * magnitude
            k = k if c.rotation == "queries" else turned(k, angle, c.rotation) * magnitude
        group = q.shape[1] // k.shape[1]
        if c.heads == "grouped":
            k, v = (x.repeat_interleave(group, 1) if group > 1 else x for x in (k, v))
        else:
            k, v = (x.repeat(1, group, 1, 1) for x in (k, v))
        if not exact:
            q, k, v = (x.to(c.precision) for x in (q, k, v))
        scores = (q @ k.mT) * c.scale
        if c.bias:
            scores = scores + self.biases[c.bias].to(scores.dtype)
        visible = self.visible(c, q.shape[2], k.shape[2])
        weights = scores.masked_fill(~visible, float("-inf")).softmax(-1).masked_fill(~visible, 0.0)
        out = (weights @ v).double()
        if c.merged == "head":
            return out.reshape(out.shape[0], out.shape[2], -1)
        return out.transpose(1, 2).flatten(2)

    def angles(self, c: Choices) -> tuple[Tensor, float]:
        """(b or 1, 1, t, k/2) radians."""
        frequency, magnitude = self.frequencies[c.frequency]
        place = torch.arange(self.q.shape[2])[None]
        if c.positions == "real" and self.present is not None:
            place = (self.present.long().cumsum(-1) - 1).clamp(min=0)
        return place[:, None, :, None].double() * frequency.double(), magnitude

    def visible(self, c: Choices, t: int, s: int) -> Tensor:
        """(b or 1, 1, t, s), True where a query sees a key."""
        ahead = torch.arange(s)[None, :] - torch.arange(s - t, s)[:, None]
        seen = torch.ones(t, s, dtype=torch.bool)
        if c.causal is not None:
            seen &= ahead <= c.causal
        if c.window is not None:
            seen &= ahead.abs() < c.window
        seen = seen[None, None]
        if self.present is not None and self.present.shape[1] == s:
            keys = self.present[:, None, None, :]
            if c.padding == "keys":
                seen = seen & keys
            elif c.padding == "real":
                seen = seen & ~keys
            elif c.padding == "queries" and t == s:
                seen = seen & self.present[:, None, :, None]
        return seen


def turned(x: Tensor, angle: Tensor, layout: str) -> Tensor:
    """Each pair of x turned by its angle; what is beyond the angles stays."""
    half = angle.shape[-1]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype) * (-1 if layout == "backwards" else 1)
    x, rest = x[..., : 2 * half], x[..., 2 * half :]
    if layout == "interleaved":
        left, right = x[..., 0::2], x[..., 1::2]
        out = torch.stack([left * cos - right * sin, right * cos + left * sin], -1).flatten(-2)
    else:
        left, right = x[..., :half], x[..., half:]
        out = torch.cat([left * cos - right * sin, right * cos + left * sin], -1)
    return torch.cat([out, rest], -1)


def usual(heads: Heads, scales: list[float], windows: list[int]) -> Iterator[Choices]:
    """What models do on purpose."""
    rotations = [(None, ""), *(("half", one) for one in heads.frequencies)]
    for scale in scales:
        for causal in (0, None):
            for window in (None, *windows):
                for rotation, frequency in rotations:
                    for positions in ("plain", "real") if rotation and heads.present is not None else ("plain",):
                        c = Choices(scale, causal, window, rotation=rotation, frequency=frequency, positions=positions)
                        yield c
                        yield from (replace(c, bias=name) for name in heads.usual_biases)


def deviations(c: Choices, heads: Heads) -> Iterator[Choices]:
    """What comes of one mistake."""
    width, group = heads.q.shape[-1], heads.q.shape[1] // heads.k.shape[1]
    for scale in (1.0, width**-0.5, 1 / width, width**-0.25, heads.dim**-0.5, 1 / heads.dim, width**0.5):
        if not math.isclose(scale, c.scale):
            yield replace(c, scale=scale)
    for causal in (None, 0, 1, -1):
        if causal != c.causal:
            yield replace(c, causal=causal)
    for window in (None,) if c.window is None else (None, c.window - 1, c.window + 1):
        if window != c.window:
            yield replace(c, window=window)
    if heads.present is not None:
        yield from (replace(c, padding=way) for way in ("ignored", "real", "queries"))
    for rotation in (None, "interleaved", "backwards", "queries", "keys") if c.rotation else ():
        yield replace(c, rotation=rotation)
    if group > 1:
        yield replace(c, heads="tiled")
    else:
        yield from (replace(c, exchanged=two) for two in ("query and key", "key and value", "query and value"))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        if torch.finfo(dtype).eps > torch.finfo(heads.q.dtype).eps:
            yield replace(c, precision=dtype)
    yield replace(c, merged="head")
    for bias in ("", *heads.biases) if heads.biases else ():
        if bias != c.bias:
            yield replace(c, bias=bias)


def strangeness(c: Choices, heads: Heads) -> int:
    """In how many fields a record is none that models are built with."""
    rotation = c.rotation if c.rotation in (None, "half") else "half"
    plain = Choices(heads.q.shape[-1] ** -0.5, None if c.causal is None else 0, rotation=rotation)
    own = {name: getattr(c, name) for name in ("window", "frequency", "positions")}
    own["bias"] = c.bias if c.bias in heads.usual_biases[:1] else ""
    return len(differing(c, replace(plain, **own)))


def differing(left: Choices, right: Choices) -> list[str]:
    """The fields in which two records differ."""
    return [each.name for each in fields(Choices) if getattr(left, each.name) != getattr(right, each.name)]


def named_number(c: float, dim: int) -> str:
    """A factor as people write it, where it is made of a width."""
    known = {"1": 1.0, f"√{dim}": dim**0.5, f"1/√{dim}": dim**-0.5, f"1/{dim}": 1 / dim, f"{dim}^(-1/4)": dim**-0.25}
    return next((name for name, value in known.items() if math.isclose(c, value, rel_tol=1e-4)), f"{c:.6g}")


ROTATIONS = {
    None: "does not rotate",
    "half": "rotates queries and keys in pairs (i, i + k/2)",
    "interleaved": "rotates them in pairs (2i, 2i + 1)",
    "backwards": "rotates backwards",
    "queries": "rotates queries only",
    "keys": "rotates keys only",
}


def phrase(field: str, c: Choices, heads: Heads) -> str:
    """What a model does that made this choice."""
    width = heads.q.shape[-1]
    if field == "scale":
        wide = named_number(c.scale, width)
        told = any(sign in wide for sign in "√/") or wide == "1"
        return f"multiplies scores by {wide if told else named_number(c.scale, heads.dim)}"
    if field == "causal":
        return {None: "lets a token see later ones", 0: "hides later tokens", 1: "lets a token see the next one",
                -1: "hides a token from itself"}[c.causal]  # fmt: skip
    if field == "window":
        return "has no window" if c.window is None else f"has a window of {c.window} places"
    if field == "padding":
        return {"keys": "hides padding", "ignored": "ignores the padding mask", "real": "has the padding mask inverted",
                "queries": "masks queries at padding instead of keys"}[c.padding]  # fmt: skip
    if field == "rotation":
        return ROTATIONS[c.rotation]
    if field == "frequency":
        frequency, magnitude = heads.frequencies[c.frequency]
        turned_by = float(frequency[min(1, len(frequency) - 1)])
        return f"rotates the second pair by {turned_by:.4g} a place, cosines times {magnitude:.4g}"
    if field == "positions":
        return (
            "counts real tokens only" if c.positions == "real" else "counts positions from the first place, padding too"
        )
    if field == "heads":
        return "serves neighbouring query heads by one key head" if c.heads == "grouped" else "tiles its key heads"
    if field == "exchanged":
        return f"has {c.exchanged} exchanged" if c.exchanged else "has query, key and value in order"
    if field == "precision":
        return f"computes the softmax in {str(c.precision).removeprefix('torch.')}"
    if field == "bias":
        return f"adds a bias to the scores, {c.bias}" if c.bias else "adds no bias to the scores"
    return "lays heads side by side for each token" if c.merged == "token" else "lays heads one behind the other"
