"""How a picture becomes tokens: patches in an order, a class token, positions; each tried otherwise."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from glassformer.tracing.hypotheses import Finding, Hypothesis, tested
from glassformer.tracing.place import Place
from glassformer.tracing.points import ForwardPass


@dataclass(frozen=True, eq=False)
class Tokens:
    """What a picture's tokens are made of: pixels (b c y x), the patches' weight (d c p q) and bias, the class token
    (d), and the learned positions (n d), the class token's first; each None where a model has none."""

    pixels: Tensor
    weight: Tensor
    bias: Tensor | None
    token: Tensor | None
    positions: Tensor


@dataclass(frozen=True)
class Ways:
    """pixels: the order within a patch. order: that of the patches. token: where the class token stands. place: which
    position a patch has. mode: how positions are interpolated for a grid of another shape."""

    pixels: str = "c y x"
    order: str = "row by row"
    token: str = "in front"
    place: str = "its own"
    mode: str = "bicubic"

    def patches(self, made_of: Tokens) -> Tensor:
        """The patches' vectors (b, rows, columns, d)."""
        p, q = made_of.weight.shape[2:]
        cut = rearrange(made_of.pixels, f"b c (r y) (s x) -> b r s ({self.pixels})", y=p, x=q)
        patches = F.linear(cut, made_of.weight.flatten(1), made_of.bias)
        if self.order == "backwards":
            return patches.flip(1, 2)
        return patches if self.order == "row by row" else patches.transpose(1, 2).reshape(patches.shape)

    def compute(self, made_of: Tokens) -> Tensor | None:
        """The tokens (b, t, d), positions added, in float64; None where these ways do not fit."""
        patches = self.patches(made_of)
        rows, columns = patches.shape[1:3]
        patches = patches.flatten(1, 2)
        front = 0 if made_of.token is None else 1
        own, learned = made_of.positions[:front], made_of.positions[front:]
        side = round(len(learned) ** 0.5)
        if side * side != len(learned):
            return None
        if (rows, columns) != (side, side):
            learned = self.interpolated(learned, side, rows, columns)
        elif self.mode != "bicubic":
            return None
        if self.place == "the one before" and front:
            own, learned = torch.zeros_like(own), torch.cat([own, learned[:-1]])
        learned = torch.zeros_like(learned) if self.place == "none" else learned
        patches = patches + learned
        if made_of.token is None:
            return patches
        token = (made_of.token + own).expand(len(patches), 1, -1)
        parts = {"in front": [token, patches], "at the end": [patches, token], "left out": [patches]}[self.token]
        return torch.cat(parts, 1)

    def interpolated(self, learned: Tensor, side: int, rows: int, columns: int) -> Tensor:
        """The positions (rows · columns, d) of a grid of another shape."""
        square = rearrange(learned, "(y x) d -> 1 d y x", y=side)
        mode, _, corners = self.mode.partition(", ")
        align = None if mode == "nearest" else bool(corners)
        there = F.interpolate(square, size=(rows, columns), mode=mode, align_corners=align)
        return rearrange(there, "1 d y x -> (y x) d")


DEVIATIONS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("patch order", "lays the patches column by column", {"order": "column by column"}),
    ("patch order", "lays the patches from the last to the first", {"order": "backwards"}),
    ("pixel order", "reads a patch's pixels before its channels", {"pixels": "y x c"}),
    ("pixel order", "reads a patch column by column", {"pixels": "c x y"}),
    ("class token", "puts the class token at the end", {"token": "at the end"}),
    ("class token", "leaves the class token out", {"token": "left out"}),
    (
        "positions",
        "gives each patch the position before its own",
        {"place": "the one before"},
    ),
    ("positions", "gives patches no positions", {"place": "none"}),
    ("position interpolation", "interpolates positions bilinearly", {"mode": "bilinear"}),
    ("position interpolation", "takes the nearest position", {"mode": "nearest"}),
    ("position interpolation", "interpolates positions from corner to corner", {"mode": "bicubic, corners"}),
    ("position interpolation", "interpolates positions bilinearly, corner to corner", {"mode": "bilinear, corners"}),
)
"""The matter, what a model does that does so, and how it differs from the usual ways."""


def patch_findings(place: Place) -> tuple[list[Finding], list[str]]:
    """Which of the ways to make tokens of a picture each of the two models goes."""
    made_of = tokens_of(place.a)
    value = place.point.value
    if made_of is None or value.ndim not in (3, 4) or len(made_of.weight) not in (value.shape[1], value.shape[-1]):
        return [], []
    return tested(place, list(variants(made_of, *place.shown())))


def variants(made_of: Tokens, value: Tensor, other: Tensor) -> Iterator[Hypothesis]:
    """The usual way first, then each other one that gives a value of this shape: patches, or all tokens."""
    if value.shape != other.shape:
        return
    for key, does, otherwise in (("", "makes its tokens in the usual way", {}), *DEVIATIONS):
        ways = replace(Ways(), **otherwise)
        made = ways.patches(made_of) if value.ndim == 4 else ways.compute(made_of)
        if made is not None and made.shape == value.shape:
            yield Hypothesis(key, does, lambda made=made: made)


def tokens_of(run: ForwardPass) -> Tokens | None:
    """What a model's tokens are made of, by the names that it has for it; None for what is no picture's encoder."""
    pixels = run.given.get("pixel_values")
    if not isinstance(pixels, Tensor) or pixels.ndim != 4:
        return None
    named = {name: parameter.detach().double().cpu() for name, parameter in run.model.named_parameters()}
    weight = next((name for name, x in named.items() if x.ndim == 4 and "patch" in name), None)
    positions = next((x for name, x in named.items() if "position" in name and x.ndim == 3 and len(x) == 1), None)
    if weight is None or positions is None:
        return None
    token = next((x for name, x in named.items() if name.rpartition(".")[2] in ("class_token", "cls_token")), None)
    return Tokens(pixels.detach().double().cpu(), named[weight], named.get(weight.removesuffix("weight") + "bias"),
                  None if token is None else token.flatten(), positions[0])  # fmt: skip
