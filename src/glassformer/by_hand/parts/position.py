"""Where a token stands: vectors added to the embeddings, rotations of queries and keys, or biases of the scores."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.parts.embedding import add_rows
from glassformer.by_hand.parts.module import Module, Parameter


class LearnedPosition(Module):
    """One learned vector per position (Gehring et al. 2017; GPT, BERT)."""

    def __init__(self, max_positions: int, dim: int) -> None:
        self.weight = Parameter(np.zeros((max_positions, dim), "f4"))

    def forward(self, positions: Array) -> Array:
        self._positions = positions
        return self.weight.data[positions]

    def backward(self, dy: Array) -> None:
        """dW[p] = Σ dy over the tokens at position p; dy (b, t, d) even where all rows share their positions (t)."""
        add_rows(self.weight.grad, self._positions, dy)


class SinusoidalPosition(Module):
    """PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos(the same)  (Vaswani et al. 2017, section 3.5)."""

    def __init__(self, max_positions: int, dim: int) -> None:
        if dim % 2:
            raise ValueError(f"dim={dim} is odd; sines and cosines come in pairs, so it must be even")
        self.max_positions, self.dim = max_positions, dim

    def forward(self, positions: Array) -> Array:
        angle = positions[..., None] * rotary_frequency(self.dim, 10_000.0)
        return np.stack([np.sin(angle), np.cos(angle)], -1).reshape(*positions.shape, self.dim)


def rotary_frequency(head_dim: int, base: float) -> Array:
    """base^(−2i/k) for i = 0 … k/2 − 1 (Su et al. 2021, section 3.2.2)."""
    return base ** -(np.arange(0, head_dim, 2) / head_dim)


class RotaryScaling(ABC):
    """How a model trained on short contexts turns its frequencies for longer ones."""

    @abstractmethod
    def frequency(self, head_dim: int, base: float, length: int) -> Array:
        """Radians per position for each pair of coordinates (k/2), for a sequence of `length` positions."""

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied by."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class LinearScaling(RotaryScaling):
    """All frequencies divided by `factor` (position interpolation, Chen et al. 2023)."""

    factor: float

    def frequency(self, head_dim: int, base: float, length: int) -> Array:
        return rotary_frequency(head_dim, base) / self.factor


@dataclass(frozen=True, kw_only=True)
class DynamicScaling(RotaryScaling):
    """The base grows with the length once it passes `max_positions` ("dynamic NTK")."""

    factor: float
    max_positions: int

    def frequency(self, head_dim: int, base: float, length: int) -> Array:
        ratio = max(length, self.max_positions) / self.max_positions
        stretch = (self.factor * ratio - (self.factor - 1)) ** (head_dim / (head_dim - 2))
        return rotary_frequency(head_dim, base * stretch)


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling(RotaryScaling):
    """Long wavelengths divided by `factor`, short ones kept, a ramp between (Llama 3.1's release)."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_max_positions: int

    def frequency(self, head_dim: int, base: float, length: int) -> Array:
        frequency = rotary_frequency(head_dim, base)
        turns = self.original_max_positions * frequency / (2 * math.pi)  # full turns within the trained context
        span = self.high_frequency_factor - self.low_frequency_factor
        keep = np.clip((turns - self.low_frequency_factor) / span, 0, 1)
        return (1 - keep) * frequency / self.factor + keep * frequency


@dataclass(frozen=True, kw_only=True)
class YarnScaling(RotaryScaling):
    """Interpolation by frequency, and a softmax temperature (YaRN, Peng et al. 2023, sections 3.2 to 3.4)."""

    factor: float
    original_max_positions: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True

    def frequency(self, head_dim: int, base: float, length: int) -> Array:
        def pair_turning(turns: float) -> float:
            """The (fractional) pair that makes this many full turns within the trained context."""
            return head_dim * math.log(self.original_max_positions / (turns * 2 * math.pi)) / (2 * math.log(base))

        low, high = pair_turning(self.beta_fast), pair_turning(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        high += 0.001 if low == high else 0.0
        ramp = np.clip((np.arange(head_dim // 2) - low) / (high - low), 0, 1)
        frequency = rotary_frequency(head_dim, base)
        return frequency / self.factor * ramp + frequency * (1 - ramp)

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0


class Rotation:
    """Turns each pair (x_i, x_{i + k/2}) by its angle; `cos` and `sin` are (t, k/2) or (b, 1, t, k/2).

    y_i = x_i cos − x_j sin      y_j = x_j cos + x_i sin,      j = i + k/2
    """

    def __init__(self, cos: Array, sin: Array) -> None:
        self.cos, self.sin = cos, sin

    def __call__(self, x: Array) -> Array:
        return _turn(x, self.cos, self.sin)

    def backward(self, dy: Array) -> Array:
        """The transpose of a rotation is the rotation back: sin changes its sign."""
        return _turn(dy, self.cos, -self.sin)


def _turn(x: Array, cos: Array, sin: Array) -> Array:
    half = x.shape[-1] // 2
    cos, sin = cos.astype(x.dtype, copy=False), sin.astype(x.dtype, copy=False)
    left, right = x[..., :half], x[..., half:]
    y = np.empty(x.shape, x.dtype)
    y[..., :half] = left * cos - right * sin
    y[..., half:] = right * cos + left * sin
    return y


class Rotary(Module):
    """Rotary position embedding (Su et al. 2021, equation 15), in the half-split layout of Hugging Face's files.

    Called with positions it gives the `Rotation` that queries and keys go through. It holds no parameters.
    """

    def __init__(self, head_dim: int, *, base: float = 10_000.0, scaling: RotaryScaling | None = None) -> None:
        if head_dim % 2:
            raise ValueError(f"head_dim={head_dim} is odd; rotary positions turn pairs, so it must be even")
        self.head_dim, self.base = head_dim, base
        self.scaling = scaling or LinearScaling(factor=1.0)
        self._frequency = self.scaling.frequency(head_dim, base, 0)

    def forward(self, positions: Array) -> Rotation:
        frequency = self._frequency
        if isinstance(self.scaling, DynamicScaling):
            frequency = self.scaling.frequency(self.head_dim, self.base, int(positions.max()) + 1)
        angle = positions[..., None] * frequency
        if positions.ndim == 2:
            angle = angle[:, None]  # the same turn for every head
        return Rotation(np.cos(angle) * self.scaling.magnitude, np.sin(angle) * self.scaling.magnitude)


def alibi_slopes(num_heads: int) -> Array:
    """2^(−8/n), 2^(−16/n), … for n heads, a power of two (Press et al. 2022, section 3).

    For other counts: the slopes of the next lower power n, then every second one of those of 2n (their released code).
    """
    n = 2 ** (num_heads.bit_length() - 1)
    exponents = [8 * i / n for i in range(1, n + 1)] + [4 * i / n for i in range(1, 2 * (num_heads - n), 2)]
    return 2.0 ** -np.array(exponents)


class ALiBi(Module):
    """slope_h · (j − i), added to the score of query i and key j (Press et al. 2022, section 3). No parameters."""

    def __init__(self, num_heads: int) -> None:
        self._slopes = alibi_slopes(num_heads)

    def forward(self, queries: Array, keys: Array) -> Array:
        """The bias (#b, h, t, s) for queries (#b, t) and keys (#b, s) at these positions."""
        distance = keys[..., None, :] - queries[..., :, None]
        bias = self._slopes[:, None, None] * distance[..., None, :, :]
        return bias if bias.ndim == 4 else bias[None]


def distance_bucket(distance: Array, num_buckets: int, max_distance: int, *, both_ways: bool) -> Array:
    """The bucket of a key that stands `distance` places after its query (Raffel et al. 2020, section 2.1).

    Half of the buckets hold one distance each, 0, 1, 2, …; the others grow as its logarithm up to `max_distance`, from
    where on all distances share the last. With `both_ways` keys behind and keys ahead have half of all buckets each;
    without it a key ahead, which no query sees, counts as distance 0.
    """
    ahead = np.zeros_like(distance)
    if both_ways:
        num_buckets //= 2
        ahead, distance = num_buckets * (distance > 0), abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = num_buckets // 2
    # In float32 and in this order, as the published weights were trained: at the edges of the buckets rounding decides.
    far = np.log(np.maximum(distance, 1).astype("f4") / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    far = np.minimum(exact + (far * np.float32(num_buckets - exact)).astype(int), num_buckets - 1)
    return ahead + np.where(distance < exact, distance, far)


class BucketedBias(Module):
    """weight[bucket(j − i), h], added to the score of query i and key j (Raffel et al. 2020, section 2.1).

    The queries are the last `t` of `s` places.
    """

    def __init__(self, num_buckets: int, num_heads: int, *, max_distance: int, both_ways: bool) -> None:
        exact = num_buckets // (4 if both_ways else 2)
        if exact < 1 or max_distance <= exact:
            raise ValueError(f"num_buckets={num_buckets} gives {exact} distances a bucket of their own; expected 1 or "
                             f"more, and fewer than max_distance={max_distance}")  # fmt: skip
        self.weight = Parameter(np.zeros((num_buckets, num_heads), "f4"))
        self.max_distance, self.both_ways = max_distance, both_ways

    def forward(self, t: int, s: int) -> Array:
        """(1, h, t, s)"""
        distance = np.arange(s) - np.arange(s - t, s)[:, None]
        self._buckets = distance_bucket(distance, len(self.weight.data), self.max_distance, both_ways=self.both_ways)
        return self.weight.data[self._buckets].transpose(2, 0, 1)[None]

    def backward(self, dy: Array) -> None:
        """dW[bucket] = Σ dy over the pairs in it, and over the batch; dy (b, h, t, s)."""
        add_rows(self.weight.grad, self._buckets, dy.sum(0).transpose(1, 2, 0))
