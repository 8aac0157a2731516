"""Where a token stands: vectors added to the embeddings, or rotations of queries and keys."""

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
    """PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos(the same)  (Vaswani et al. 2017, section 3.5)."""

    def __init__(self, max_positions: int, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim={dim} is odd; sines and cosines come in pairs, so it must be even")
        self.max_positions, self.dim = max_positions, dim

    def forward(self, positions: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows d"]:
        even = torch.arange(0, self.dim, 2, device=positions.device, dtype=torch.float64)
        angle = positions[..., None].double() * torch.exp(even * (-math.log(10_000.0) / self.dim))
        table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        return table.to(torch.get_default_dtype())

    def extra_repr(self) -> str:
        return f"{self.max_positions}, {self.dim}"


class RotaryScaling(ABC):
    """How a model trained on short contexts turns its frequencies for longer ones."""

    @abstractmethod
    def frequency(self, head_dim: int, base: float, length: int) -> Float[Tensor, "half"]:
        """Radians per position for each pair of coordinates, for a sequence of `length` positions."""

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied by."""
        return 1.0


def rotary_frequency(head_dim: int, base: float) -> Float[Tensor, "half"]:
    """base^(−2i/k) for i = 0 … k/2 − 1 (Su et al. 2021, section 3.2.2)."""
    return base ** -(torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim)


@dataclass(frozen=True, kw_only=True)
class LinearScaling(RotaryScaling):
    """All frequencies divided by `factor` (position interpolation, Chen et al. 2023)."""

    factor: float

    def frequency(self, head_dim: int, base: float, length: int) -> Tensor:
        return rotary_frequency(head_dim, base) / self.factor


@dataclass(frozen=True, kw_only=True)
class DynamicScaling(RotaryScaling):
    """The base grows with the length once it passes `max_positions` ("dynamic NTK").

    The frequencies depend on the length, so keys cached at a shorter length stay as they were rotated then.
    """

    factor: float
    max_positions: int

    def frequency(self, head_dim: int, base: float, length: int) -> Tensor:
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

    def frequency(self, head_dim: int, base: float, length: int) -> Tensor:
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

    def frequency(self, head_dim: int, base: float, length: int) -> Tensor:
        def pair_turning(turns: float) -> float:
            """The (fractional) pair that makes this many full turns within the trained context."""
            return head_dim * math.log(self.original_max_positions / (turns * 2 * math.pi)) / (2 * math.log(base))

        low, high = pair_turning(self.beta_fast), pair_turning(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        high += 0.001 if low == high else 0.0
        ramp = ((torch.arange(head_dim // 2, dtype=torch.float32, device="cpu") - low) / (high - low)).clamp(0, 1)
        frequency = rotary_frequency(head_dim, base)
        return frequency / self.factor * ramp + frequency * (1 - ramp)

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0


class Rotation:
    """The rotation itself, for given positions: turns each pair (x_i, x_{i + k/2}) by its angle."""

    def __init__(self, cos: Float[Tensor, "*b t k"], sin: Float[Tensor, "*b t k"]) -> None:
        self.cos, self.sin = cos, sin

    def __call__(self, x: Float[Tensor, "b h t k"]) -> Float[Tensor, "b h t k"]:
        left, right = x.chunk(2, dim=-1)
        return x * self.cos.to(x.dtype) + torch.cat([-right, left], dim=-1) * self.sin.to(x.dtype)


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, equation 15), in the half-split layout of Hugging Face's files.

    Called with positions it gives the `Rotation` that queries and keys go through. It holds no parameters.
    """

    def __init__(self, head_dim: int, *, base: float = 10_000.0, scaling: RotaryScaling | None = None) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"head_dim={head_dim} is odd; rotary positions turn pairs, so it must be even")
        self.head_dim, self.base, self.scaling = head_dim, base, scaling
        self._frequency: dict[torch.device, Tensor] = {}

    def forward(self, positions: Int[Tensor, "*b t"]) -> Rotation:
        angle = positions[..., None].float() * self._frequencies(positions)
        angle = torch.cat([angle, angle], dim=-1)
        if positions.ndim == 2:
            angle = angle[:, None]  # the same turn for every head
        magnitude = 1.0 if self.scaling is None else self.scaling.magnitude
        return Rotation(angle.cos() * magnitude, angle.sin() * magnitude)

    def _frequencies(self, positions: Int[Tensor, "*b t"]) -> Float[Tensor, "half"]:
        if isinstance(self.scaling, DynamicScaling):
            return self.scaling.frequency(self.head_dim, self.base, int(positions.max()) + 1).to(positions.device)
        if positions.device not in self._frequency:
            scaling = self.scaling or LinearScaling(factor=1.0)
            self._frequency[positions.device] = scaling.frequency(self.head_dim, self.base, 0).to(positions.device)
        return self._frequency[positions.device]

    def extra_repr(self) -> str:
        return f"{self.head_dim}, base={self.base}, scaling={self.scaling}"
