"""How a model tells places apart, as numbers: what it adds, by how much it turns, or what it does to scores."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.parts import ALiBi, BucketedBias, GridPosition, LearnedPosition, Rotary, SinusoidalPosition
from glassformer.parts.position import LinearScaling, alibi_slopes, distance_bucket


@dataclass(frozen=True, kw_only=True)
class AddedVectors:
    """A vector p_i for each place, added to the token's."""

    name: str
    kind: str
    vectors: Float[Tensor, "t d"]

    def dot_products(self) -> Float[Tensor, "t 3"]:
        """p_i · p_(i+Δ) over the mean of p_i · p_i, for Δ = 0, 1, …: the mean over i, the least and the most."""
        products = self.vectors @ self.vectors.T
        products = products / products.diagonal().mean().clamp(min=1e-30)
        rows = [products.diagonal(distance) for distance in range(len(products))]
        return torch.stack([torch.stack([row.mean(), row.min(), row.max()]) for row in rows])

    def spectrum(self) -> tuple[Float[Tensor, "f"], Float[Tensor, "f"]]:
        """Frequencies in turns per place, and the share that each has in how the vectors vary along the places.

        |DFT(p − mean)|² summed over the dimensions; the shares add up to 1.
        """
        power = torch.fft.rfft(self.vectors - self.vectors.mean(0), dim=0).abs().square().sum(-1)[1:]
        return torch.fft.rfftfreq(len(self.vectors)).double()[1:], power / power.sum().clamp(min=1e-30)


@dataclass(frozen=True, kw_only=True)
class Turns:
    """An angle p · frequency for each pair of coordinates of queries and keys at place p (Su et al. 2021)."""

    name: str
    kind: str
    frequency: Float[Tensor, "half"]
    length: int

    def pattern(self) -> Float[Tensor, "t half"]:
        """cos(p · frequency)."""
        return (torch.arange(self.length)[:, None] * self.frequency).cos()

    def wavelengths(self) -> Float[Tensor, "half"]:
        """Places until a pair has turned once: 2π / frequency; infinite for a pair that never turns."""
        return 2 * math.pi / self.frequency

    def dot_products(self) -> Float[Tensor, "t"]:
        """(R_i q) · (R_(i+Δ) k) over q · k, for Δ = 0, 1, … and q = k all ones: the mean of cos(Δ · frequency)."""
        return self.pattern().mean(-1)


@dataclass(frozen=True, kw_only=True)
class ScoreBias:
    """What is added to the score of a query and a key, for each head, by the distance from query to key."""

    name: str
    kind: str
    bias: Float[Tensor, "h n"]
    distances: Float[Tensor, "n"]
    slopes: Float[Tensor, "h"] | None = None
    """of ALiBi: how fast each head forgets"""
    buckets: Float[Tensor, "n"] | None = None
    """of T5: which of the learned numbers stands for a distance"""

    def share(self) -> Float[Tensor, "h n"]:
        """exp(bias) over its largest: the weight of each distance, were all scores equal, beside the best one's."""
        return (self.bias - self.bias.amax(-1, keepdim=True)).exp()


Positions = AddedVectors | Turns | ScoreBias


def sinusoidal_positions(length: int, dim: int) -> AddedVectors:
    """The table of Vaswani et al. 2017, section 3.5, for places 0 to `length` − 1."""
    vectors = SinusoidalPosition(length, dim)(torch.arange(length), torch.float64)
    return AddedVectors(name=f"sin and cos, {dim} wide", kind="sinusoidal", vectors=vectors)


def positions_of(model: nn.Module, length: int = 128) -> list[Positions]:
    """Everything that tells a model's places apart, up to `length` of them; what layers repeat is listed once.

    Of our models the parts of `glassformer.parts.position`; of others a table by its name (`wpe`, `position...`),
    rotations by their `inv_freq`, ALiBi and T5's buckets by their config. Raises ValueError for a model in which there
    is none of these, and for fewer than 2 places.
    """
    if length < 2:
        raise ValueError(f"length is {length}; expected 2 places or more, to have a distance between them")
    found: list[Positions] = []
    for position in _found(model, length):
        if not any(_same(position, other) for other in found):
            found.append(position)
    if not found:
        raise ValueError(f"{type(model).__name__} has no positions of a kind that is known here: no table, rotation, "
                         "ALiBi or buckets")  # fmt: skip
    return found


def _found(model: nn.Module, length: int) -> Iterator[Positions]:
    config = getattr(model, "config", None)
    for path, part in model.named_modules():
        name, weight = path or type(part).__name__, getattr(part, "weight", None)
        if isinstance(part, LearnedPosition | SinusoidalPosition | GridPosition):
            yield _added(name, part, length)
        elif isinstance(part, Rotary):
            frequency = (part.scaling or LinearScaling(factor=1.0)).frequency(part.head_dim, part.base, length)
            yield Turns(name=name, kind="rotary", frequency=frequency, length=length)
        elif isinstance(part, ALiBi):
            yield _alibi(name, part.num_heads, length)
        elif isinstance(part, BucketedBias):
            yield _buckets(name, part.weight, part.max_distance, length, both_ways=part.both_ways)
        elif isinstance(getattr(part, "inv_freq", None), Tensor):
            yield Turns(name=name, kind="rotary", frequency=_plain(part.inv_freq), length=length)
        elif isinstance(part, nn.Embedding) and "relative_attention_bias" in path:
            buckets, reach = config.relative_attention_num_buckets, config.relative_attention_max_distance  # pyright: ignore
            if weight.shape[0] == buckets:  # pyright: ignore
                yield _buckets(name, weight, reach, length, both_ways="decoder" not in path)
        elif _is_table(path, part):
            yield AddedVectors(name=name, kind="learned", vectors=_plain(weight)[:length])
    if getattr(config, "model_type", "") == "bloom" or getattr(config, "alibi", False):
        yield _alibi("ALiBi", getattr(config, "num_attention_heads", None) or config.n_head, length)  # pyright: ignore


def _is_table(path: str, part: nn.Module) -> bool:
    last = path.rpartition(".")[2]
    return isinstance(part, nn.Embedding) and (last == "wpe" or "position" in last)


def _plain(tensor: Any) -> Tensor:
    return tensor.detach().double().cpu()


def _added(name: str, part: Any, length: int) -> AddedVectors:
    if isinstance(part, SinusoidalPosition):
        found = sinusoidal_positions(min(length, part.max_positions), part.dim)
        return AddedVectors(name=name, kind="sinusoidal", vectors=found.vectors)
    if isinstance(part, GridPosition):
        grid = _plain(part.weight)[0, part.before :]
        return AddedVectors(name=f"{name}, row by row", kind="learned, of a grid", vectors=grid[:length])
    return AddedVectors(name=name, kind="learned", vectors=_plain(part.weight)[:length])


def _alibi(name: str, num_heads: int, length: int) -> ScoreBias:
    distances, slopes = torch.arange(1 - length, 1).double(), alibi_slopes(num_heads).double()
    return ScoreBias(name=name, kind="ALiBi", bias=slopes[:, None] * distances, distances=distances, slopes=slopes)


def _buckets(name: str, weight: Any, reach: int, length: int, *, both_ways: bool) -> ScoreBias:
    distances = torch.arange(1 - length, length if both_ways else 1)
    bucket = distance_bucket(distances, weight.shape[0], reach, both_ways=both_ways)
    bias = _plain(weight)[bucket].T
    return ScoreBias(name=name, kind="buckets", bias=bias, distances=distances.double(), buckets=bucket.double())


def _same(one: Positions, other: Positions) -> bool:
    if type(one) is not type(other):
        return False
    for key in ("vectors", "frequency", "bias"):
        left, right = getattr(one, key, None), getattr(other, key, None)
        if left is not None and right is not None:
            return left.shape == right.shape and torch.equal(left, right)
    return False
