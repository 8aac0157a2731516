"""Pictures shifted, turned and scaled by as much as each draws: what a digit may do and stay the same digit."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.image.transforms.batch import PictureBatch, uniform
from glassformer.image.transforms.randaugment import move


@dataclass(frozen=True, kw_only=True)
class RandomAffine:
    """Each picture shifted by up to `shift` of its width and height, turned by up to `rotate` degrees round its middle,
    made 1 − `scale` to 1 + `scale` times as large; `fill` (0 is black) stands where nothing was.

    Masks and maps go along; boxes become those of their masks, or of their moved corners.
    """

    shift: float = 0.1
    rotate: float = 10.0
    scale: float = 0.1
    fill: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.shift <= 1 and 0 <= self.rotate <= 180 and 0 <= self.scale < 1):
            said = f"shift={self.shift}, rotate={self.rotate}, scale={self.scale}"
            raise ValueError(f"{said}: expected 0 to 1, 0 to 180 degrees, and 0 to 1 with 1 excluded")

    def maps(self, number: int, size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "b 2 3"]:
        """The affine maps, of (x, y) from the picture's middle, that take new pixels to where they were."""
        rows, columns = size
        turn = uniform(number, -self.rotate, self.rotate, generator).double() * (math.pi / 180)
        size_now = 1 + uniform(number, -self.scale, self.scale, generator).double()
        x, y = (uniform(number, -self.shift, self.shift, generator).double() for _ in range(2))
        cos, sin = turn.cos() / size_now, turn.sin() / size_now
        return torch.stack([cos, sin, x * columns, -sin, cos, y * rows], dim=1).reshape(number, 2, 3)

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        """The batch, moved."""
        return move(batch, self.maps(len(batch), batch.size, generator), fill=self.fill)
