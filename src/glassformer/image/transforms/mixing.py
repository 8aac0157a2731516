"""Two pictures in one, and their labels in the same parts: Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

Each picture's partner is another one of the batch, by a random order of it.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from glassformer.image.transforms.batch import PictureBatch, spread
from glassformer.image.transforms.erasing import inside


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """`λ · picture + (1 − λ) · partner`, labels alike, λ from Beta(α, α) for each picture."""

    num_classes: int
    alpha: float = 0.2

    def __post_init__(self) -> None:
        _check(self.alpha, self.num_classes)

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        labels = _labels(batch, self.num_classes, "Mixup")
        if labels is None:
            raise ValueError("Mixup mixes labels, and these pictures have none")
        if batch.semantic is not None:
            raise ValueError("Mixup blends pictures, and classes of pixels cannot be blended; use CutMix")
        partner, part = _partner(len(batch), self.alpha, generator)
        pictures = torch.lerp(batch.pictures[partner], batch.pictures, spread(part, batch.pictures)).clamp(0, 1)
        return replace(batch, pictures=pictures, labels=_mixed(labels, partner, part))


@dataclass(frozen=True, kw_only=True)
class CutMix:
    """A rectangle of the partner's takes the place of the picture's, and as much of the label, and of the map.

    Its sides are √(1 − λ) of the picture's, λ from Beta(α, α), its middle anywhere; the part that counts is what is
    left of it inside the picture.
    """

    num_classes: int
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check(self.alpha, self.num_classes)

    def __call__(self, batch: PictureBatch, generator: torch.Generator) -> PictureBatch:
        labels = _labels(batch, self.num_classes, "CutMix")
        if labels is None and batch.semantic is None:
            raise ValueError("CutMix mixes labels or maps of classes, and these pictures have none")
        partner, part = _partner(len(batch), self.alpha, generator)
        size = torch.tensor(batch.size)
        extent = ((1 - part).sqrt()[:, None] * size).long()
        start = (torch.rand(len(batch), 2, generator=generator) * size).long() - extent // 2
        taken = inside(start, extent, batch.size)
        device, semantic = batch.pictures.device, batch.semantic
        shape = (len(batch), *[1] * (batch.pictures.ndim - 3), *batch.size)
        pictures = torch.where(taken.reshape(shape).to(device), batch.pictures[partner], batch.pictures)
        if semantic is not None:
            semantic = torch.where(taken.to(semantic.device), semantic[partner], semantic)
        left = 1 - taken.flatten(1).float().mean(dim=1)
        mixed = None if labels is None else _mixed(labels, partner, left)
        return replace(batch, pictures=pictures, labels=mixed, semantic=semantic)


def _check(alpha: float, num_classes: int) -> None:
    if alpha <= 0 or num_classes < 1:
        raise ValueError(f"alpha={alpha}, num_classes={num_classes}: expected alpha above 0, and 1 or more classes")


def _labels(batch: PictureBatch, num_classes: int, who: str) -> Float[Tensor, "b n"] | None:
    """Labels as parts of classes."""
    if batch.objects is not None:
        raise ValueError(f"{who} mixes labels of pictures; these have objects, of which half is not half an object")
    if batch.labels is None:
        return None
    if batch.labels.is_floating_point():
        if batch.labels.shape[1] != num_classes:
            raise ValueError(f"labels are parts of {batch.labels.shape[1]} classes, and num_classes={num_classes}")
        return batch.labels
    if len(batch.labels) and not 0 <= int(batch.labels.amin()) <= int(batch.labels.amax()) < num_classes:
        raise ValueError(f"labels go from {batch.labels.amin()} to {batch.labels.amax()}; num_classes={num_classes}")
    return F.one_hot(batch.labels.long(), num_classes).float()


def _partner(number: int, alpha: float, generator: torch.Generator) -> tuple[Tensor, Float[Tensor, "b"]]:
    """Who is mixed with whom, and how much of the first stays."""
    partner = torch.randperm(number, generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))  # torch draws no Beta from a generator of its own
    part = np.random.default_rng(seed).beta(alpha, alpha, number)
    return partner, torch.from_numpy(part).float()


def _mixed(labels: Float[Tensor, "b n"], partner: Tensor, part: Float[Tensor, "b"]) -> Float[Tensor, "b n"]:
    return torch.lerp(labels[partner.to(labels.device)], labels, part.to(labels)[:, None])
