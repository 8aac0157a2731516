"""A batch of pictures with what is known of them, and a sequence of transforms of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from glassformer.image.datasets import Record
from glassformer.image.objects import Objects, check_boxes
from glassformer.image.pixels import as_float


@dataclass(frozen=True, kw_only=True)
class PictureBatch:
    """Pictures of one size in [0, 1], or clips, whose frames change alike, and what is known of each.

    `labels` are numbers of classes (b), or parts of them (b, n) once pictures are mixed.
    """

    pictures: Float[Tensor, "b *t 3 y x"]
    labels: Int[Tensor, "b"] | Float[Tensor, "b n"] | None = None
    objects: tuple[Objects, ...] | None = None
    semantic: UInt8[Tensor, "b y x"] | None = None

    def __post_init__(self) -> None:
        if self.pictures.ndim not in (4, 5) or self.pictures.shape[-3] != 3 or not self.pictures.is_floating_point():
            found = f"{self.pictures.dtype} {tuple(self.pictures.shape)}"
            raise ValueError(f"a batch is pictures (b, 3, y, x) or clips (b, t, 3, y, x) in floats, not {found}")
        for name in ("labels", "objects", "semantic"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self):
                raise ValueError(f"{len(value)} {name} for {len(self)} pictures; give one for each")
        if self.semantic is not None and (self.semantic.shape[1:] != self.size or self.semantic.dtype != torch.uint8):
            found = f"{self.semantic.dtype} {tuple(self.semantic.shape)}"
            raise ValueError(f"semantic maps are uint8 (b, y, x) of the pictures' {self.size}, not {found}")

    @classmethod
    def of(cls, record: Record) -> Self:
        """A batch of one record, to be transformed at its own size; `join` makes one batch of several."""
        return cls(
            pictures=as_float(record.picture)[None],
            labels=None if record.label is None else torch.tensor([record.label]),
            objects=None if record.objects is None else (record.objects,),
            semantic=None if record.semantic is None else record.semantic[None],
        )

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pictures.shape[-2], self.pictures.shape[-1]


class Transform(Protocol):
    """A change of a batch; what is random in it is drawn from the generator, a CPU one, and from nothing else."""

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        """The changed batch; the one that is given stays as it is."""
        ...


@dataclass(frozen=True)
class OneOf:
    """One of these transforms for each batch, each as often as the others."""

    transforms: tuple[Transform, ...]

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        """The batch, changed by one of them."""
        chosen = int(torch.randint(len(self.transforms), (), generator=generator))
        return self.transforms[chosen](batch, generator)


@dataclass(frozen=True)
class Compose:
    """Transforms one after the other: a pure function of the batch, the seed and the step."""

    transforms: tuple[Transform, ...]
    seed: int = 0

    def __call__(self, batch: PictureBatch, step: int) -> PictureBatch:
        """The batch of this step, changed. ValueError for pixels that are no numbers in [0, 1], and for bad boxes."""
        batch = replace(batch, pictures=as_float(batch.pictures))
        for number, objects in enumerate(batch.objects or ()):
            try:
                check_boxes(objects.boxes, batch.size)
            except ValueError as error:
                raise ValueError(f"picture {number}: {error}") from error
            if objects.masks is not None and objects.masks.shape[1:] != batch.size:
                raise ValueError(f"picture {number} is {batch.size}, and its masks {tuple(objects.masks.shape[1:])}")
        generator = generator_of(self.seed, step)
        for transform in self.transforms:
            batch = transform(batch, generator)
        return batch


def generator_of(seed: int, step: int) -> torch.Generator:
    """A generator for each pair of seed and step; neighbours share nothing."""
    state = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def join(batches: Sequence[PictureBatch]) -> PictureBatch:
    """One batch of several whose pictures are of one size and known by the same."""
    if len({batch.pictures.shape[1:] for batch in batches}) != 1:
        sizes = sorted({batch.size for batch in batches})
        raise ValueError(f"pictures of the sizes {sizes} make no batch; resize or crop them first")
    kinds = ("labels", "objects", "semantic")
    known = {name for name in kinds for batch in batches if getattr(batch, name) is not None}
    if lacking := [name for name in known for batch in batches if getattr(batch, name) is None]:
        raise ValueError(f"{lacking[0]} are known of some of these pictures, and not of others; all or none expected")
    labels, semantic = (
        torch.cat([getattr(batch, name) for batch in batches]) if name in known else None
        for name in ("labels", "semantic")
    )
    return PictureBatch(
        pictures=torch.cat([batch.pictures for batch in batches]),
        labels=labels,
        objects=tuple(one for batch in batches for one in batch.objects or ()) if "objects" in known else None,
        semantic=semantic,
    )


def uniform(number: int, low: float, high: float, generator: torch.Generator) -> Float[Tensor, "b"]:
    """Numbers drawn evenly from [low, high)."""
    return torch.rand(number, generator=generator) * (high - low) + low


def spread(values: Float[Tensor, "b"], pictures: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """One value for each picture, shaped to be combined with all its pixels."""
    return values.to(pictures.device).reshape(-1, *[1] * (pictures.ndim - 1))
