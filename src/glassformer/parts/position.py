"""Where a token stands: vectors added to the embeddings, rotations of queries and keys, or biases of their scores."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class LearnedPosition(nn.Module):
    """One learned vector per position (Gehring et al. 2017; GPT, BERT)."""

    def __init__(self, max_positions: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_positions, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw from N(0, 0.02²)."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, positions: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows d"]:
        return F.embedding(positions, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class SinusoidalPosition(nn.Module):
    """PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos(the same)  (Vaswani et al. 2017, section 3.5).

    Computed in float64 and given in `dtype` (None: torch's default one). Raises ValueError for a position that is not
    below `max_positions`, where looking at the values costs nothing: on the CPU, outside torch.compile.
    """

    def __init__(self, max_positions: int, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim={dim} is odd; sines and cosines come in pairs, so it must be even")
        self.max_positions, self.dim = max_positions, dim

    def forward(self, positions: Int[Tensor, "*rows"], dtype: torch.dtype | None = None) -> Float[Tensor, "*rows d"]:
        if positions.device.type == "cpu" and not torch.compiler.is_compiling():
            if bool((positions >= self.max_positions).any()):
                raise ValueError(f"position {int(positions.max())} is not below max_positions={self.max_positions}")
        angle = _angles(positions, rotary_frequency(self.dim, 10_000.0))
        table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        return table.to(torch.get_default_dtype() if dtype is None else dtype)

    def extra_repr(self) -> str:
        return f"{self.max_positions}, {self.dim}"


class RotaryScaling(ABC):
    """How a model trained on short contexts turns its frequencies for longer ones."""

    @abstractmethod
    def frequency(self, head_dim: int, base: float, length: int | Tensor) -> Float[Tensor, "half"]:
        """Radians per position for each pair of coordinates, for a sequence of `length` positions, in float64."""

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied by."""
        return 1.0


def rotary_frequency(head_dim: int, base: float | Tensor) -> Float[Tensor, "half"]:
    """base^(−2i/k) for i = 0 … k/2 − 1 (Su et al. 2021, section 3.2.2), in float64."""
    device = base.device if isinstance(base, Tensor) else torch.device("cpu")
    return base ** -(torch.arange(0, head_dim, 2, device=device).to(_wide(device)) / head_dim)


def _wide(device: torch.device) -> torch.dtype:
    """At position 100,000 a float32 angle is off by a hundredth of a radian; Apple's GPUs have nothing wider."""
    return torch.float32 if device.type == "mps" else torch.float64


def _angles(positions: Int[Tensor, "*rows"], frequency: Float[Tensor, "half"]) -> Float[Tensor, "*rows half"]:
    wide = _wide(positions.device)
    return positions[..., None].to(wide) * frequency.to(positions.device, wide)


@dataclass(frozen=True, kw_only=True)
class LinearScaling(RotaryScaling):
    """All frequencies divided by `factor` (position interpolation, Chen et al. 2023)."""

    factor: float

    def frequency(self, head_dim: int, base: float, length: int | Tensor) -> Tensor:
        return rotary_frequency(head_dim, base) / self.factor


@dataclass(frozen=True, kw_only=True)
class DynamicScaling(RotaryScaling):
    """The base grows with the length once it passes `max_positions` ("dynamic NTK").

    The frequencies depend on the length, so keys cached at a shorter length stay as they were rotated then.
    """

    factor: float
    max_positions: int

    def frequency(self, head_dim: int, base: float, length: int | Tensor) -> Tensor:
        length = torch.as_tensor(length)  # on its device: the values need not be waited for
        ratio = length.clamp(min=self.max_positions).to(_wide(length.device)) / self.max_positions
        stretch = (self.factor * ratio - (self.factor - 1)) ** (head_dim / (head_dim - 2))
        return rotary_frequency(head_dim, base * stretch)


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling(RotaryScaling):
    """Long wavelengths divided by `factor`, short ones kept, a ramp between (Llama 3.1's release)."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_max_positions: int

    def frequency(self, head_dim: int, base: float, length: int | Tensor) -> Tensor:
        frequency = rotary_frequency(head_dim, base)
        turns = self.original_max_positions * frequency / (2 * math.pi)  # full turns within the trained context
        span = self.high_frequency_factor - self.low_frequency_factor
        keep = ((turns - self.low_frequency_factor) / span).clamp(0, 1)
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

    def frequency(self, head_dim: int, base: float, length: int | Tensor) -> Tensor:
        def pair_turning(turns: float) -> float:
            """The (fractional) pair that makes this many full turns within the trained context."""
            return head_dim * math.log(self.original_max_positions / (turns * 2 * math.pi)) / (2 * math.log(base))

        low, high = pair_turning(self.beta_fast), pair_turning(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        high += 0.001 if low == high else 0.0
        ramp = ((torch.arange(head_dim // 2, dtype=torch.float64, device="cpu") - low) / (high - low)).clamp(0, 1)
        frequency = rotary_frequency(head_dim, base)
        return frequency / self.factor * ramp + frequency * (1 - ramp)

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0


class Rotation:
    """The rotation itself, for given positions: turns each pair (x_i, x_j), j = i + k/2, by its angle.

        y_i = x_i cos − x_j sin     y_j = x_j cos + x_i sin

    `cos` and `sin` hold each angle twice, at i and at j.
    """

    def __init__(self, cos: Float[Tensor, "*b t k"], sin: Float[Tensor, "*b t k"]) -> None:
        self.cos, self.sin = cos, sin
        self._tables: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def __call__(self, x: Float[Tensor, "b h t k"]) -> Float[Tensor, "b h t k"]:
        if x.dtype not in self._tables:  # once for all layers
            left, right = self.sin.chunk(2, dim=-1)
            self._tables[x.dtype] = self.cos.to(x.dtype), torch.cat([-left, right], dim=-1).to(x.dtype)
        cos, signed_sin = self._tables[x.dtype]
        return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), signed_sin)


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, equation 15), in the half-split layout of Hugging Face's files.

    Called with positions it gives the `Rotation` that queries and keys go through. It holds no parameters. Angles are
    computed in float64, whatever the model's dtype; the rotation casts their cosines and sines to that of its input.
    """

    def __init__(self, head_dim: int, *, base: float = 10_000.0, scaling: RotaryScaling | None = None) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"head_dim={head_dim} is odd; rotary positions turn pairs, so it must be even")
        self.head_dim, self.base, self.scaling = head_dim, base, scaling
        self._frequency = (scaling or LinearScaling(factor=1.0)).frequency(head_dim, base, 0)
        self._on_device: dict[torch.device, Tensor] = {}

    def forward(self, positions: Int[Tensor, "*b t"]) -> Rotation:
        angle = _angles(positions, self._frequencies(positions))
        if positions.ndim == 2:
            angle = angle[:, None]  # the same turn for every head
        magnitude = 1.0 if self.scaling is None else self.scaling.magnitude
        cos, sin = angle.cos() * magnitude, angle.sin() * magnitude
        return Rotation(torch.cat([cos, cos], dim=-1), torch.cat([sin, sin], dim=-1))

    def _frequencies(self, positions: Int[Tensor, "*b t"]) -> Float[Tensor, "half"]:
        device = positions.device
        if isinstance(self.scaling, DynamicScaling):
            return self.scaling.frequency(self.head_dim, self.base, positions.max() + 1)
        if device.type == "cpu" or torch.compiler.is_compiling():
            return self._frequency
        if device not in self._on_device:
            self._on_device[device] = self._frequency.to(device, _wide(device))
        return self._on_device[device]

    def extra_repr(self) -> str:
        return f"{self.head_dim}, base={self.base}, scaling={self.scaling}"


def alibi_slopes(num_heads: int) -> Float[Tensor, "h"]:
    """2^(−8/n), 2^(−16/n), … for n heads, a power of two (Press et al. 2022, section 3).

    For other counts: the slopes of the next lower power n, then every second one of those of 2n (their released code).
    """
    n = 2 ** (num_heads.bit_length() - 1)
    exponents = [8 * i / n for i in range(1, n + 1)] + [4 * i / n for i in range(1, 2 * (num_heads - n), 2)]
    return 2.0 ** -torch.tensor(exponents, dtype=torch.float32, device="cpu")


class ALiBi(nn.Module):
    """slope_h · (j − i), added to the score of query i and key j (Press et al. 2022, section 3). No parameters."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self._slopes: dict[torch.device, Tensor] = {}

    def forward(self, queries: Int[Tensor, "*b t"], keys: Int[Tensor, "*b s"]) -> Float[Tensor, "#b h t s"]:
        """The bias for queries and keys at these positions, for all rows of a batch or for each."""
        if keys.device not in self._slopes:
            self._slopes[keys.device] = alibi_slopes(self.num_heads).to(keys.device)
        distance = (keys[..., None, :] - queries[..., :, None]).float()
        bias = self._slopes[keys.device][:, None, None] * distance[..., None, :, :]
        return bias if bias.ndim == 4 else bias[None]

    def extra_repr(self) -> str:
        return f"{self.num_heads}"


def distance_bucket(
    distance: Int[Tensor, "*places"], num_buckets: int, max_distance: int, *, both_ways: bool
) -> Int[Tensor, "*places"]:
    """The bucket of a key that stands `distance` places after its query (Raffel et al. 2020, section 2.1).

    Half of the buckets hold one distance each, 0, 1, 2, …; the others grow as its logarithm up to `max_distance`, from
    where on all distances share the last. With `both_ways` keys behind and keys ahead have half of all buckets each;
    without it a key ahead, which no query sees, counts as distance 0.
    """
    ahead = torch.zeros_like(distance)
    if both_ways:
        num_buckets //= 2
        ahead, distance = num_buckets * (distance > 0), distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = num_buckets // 2
    # In float32 and in this order, as the published weights were trained: at the edges of the buckets rounding decides.
    far = (distance.clamp(min=1).float() / exact).log() / math.log(max_distance / exact) * (num_buckets - exact)
    far = (exact + far.long()).clamp(max=num_buckets - 1)
    return ahead + torch.where(distance < exact, distance, far)


class BucketedBias(nn.Module):
    """weight[bucket(j − i), h], added to the score of query i and key j (Raffel et al. 2020, section 2.1).

    The queries are the last `t` of `s` places. Raises ValueError where the buckets are too few to tell distances apart,
    or the maximum distance is not beyond those that have a bucket of their own.
    """

    def __init__(self, num_buckets: int, num_heads: int, *, max_distance: int, both_ways: bool) -> None:
        super().__init__()
        exact = num_buckets // (4 if both_ways else 2)
        if exact < 1 or max_distance <= exact:
            raise ValueError(f"num_buckets={num_buckets} gives {exact} distances a bucket of their own; expected 1 or "
                             f"more, and fewer than max_distance={max_distance}")  # fmt: skip
        self.weight = nn.Parameter(torch.empty(num_buckets, num_heads))
        self.max_distance, self.both_ways = max_distance, both_ways
        self._kept: dict[torch.device, Tensor] = {}
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw from N(0, 0.02²)."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, t: int, s: int) -> Float[Tensor, "1 h t s"]:
        if torch.compiler.is_exporting():  # `unfold` would take the sizes of the example for all
            places = torch.arange(s, device=self.weight.device)
            return F.embedding(self._computed(places - places[s - t :, None]), self.weight).permute(2, 0, 1)[None]
        # The bias depends on the distance alone: one row of them, from 1 − s to t − 1, holds every query's.
        row = F.embedding(self._buckets(1 - s, t), self.weight).T
        if t == 1:
            return row.contiguous()[None, :, None]
        return row.unfold(1, s, 1).flip(1)[None]

    def _buckets(self, first: int, end: int) -> Int[Tensor, "n"]:
        """The buckets of the distances `first` … `end` − 1; they are kept, for they depend on nothing else."""
        device, reach = self.weight.device, max(-first, end)
        if torch.compiler.is_compiling():
            return self._computed(torch.arange(first, end, device=device))
        if device not in self._kept or self._kept[device].shape[0] < 2 * reach + 1:
            reach = max(2 * reach, 256)
            with torch.inference_mode(False):  # kept for training too, which takes no tensor made in inference
                self._kept[device] = self._computed(torch.arange(-reach, reach + 1)).to(device)
        middle = self._kept[device].shape[0] // 2
        return self._kept[device][middle + first : middle + end]

    def _computed(self, distance: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        return distance_bucket(distance, self.weight.shape[0], self.max_distance, both_ways=self.both_ways)

    def extra_repr(self) -> str:
        num_buckets, num_heads = self.weight.shape
        return f"{num_buckets}, {num_heads}, max_distance={self.max_distance}, both_ways={self.both_ways}"
