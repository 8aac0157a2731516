"""How pictures and clips differ from one time that they are seen to the next, and their classes with them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from glassformer.image.transforms import PictureBatch, Transform
from glassformer.training.data import Augmentation

if TYPE_CHECKING:
    from glassformer.training.recipe import Recipe


def changed(batch: PictureBatch, transforms: Sequence[Transform], random: np.random.Generator) -> PictureBatch:
    """The batch as it is seen this time, with what is known of it."""
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    for transform in transforms:
        batch = transform(batch, generator)
    return batch


def augmented(
    pictures: UInt8[Tensor, "b *t 3 y x"], augment: Augmentation, random: np.random.Generator
) -> UInt8[Tensor, "b *t 3 y x"] | Float[Tensor, "b *t 3 y x"]:
    """Pictures or clips alone as they are seen this time, in [0, 1]; as they are where nothing is done to them."""
    if not (transforms := augment.transforms()):
        return pictures
    return changed(PictureBatch(pictures=pictures.float() / 255), transforms, random).pictures


def mixed(
    pictures: Tensor, labels: Int[Tensor, "b"], augment: Augmentation, num_classes: int, random: np.random.Generator
) -> tuple[Tensor, Int[Tensor, "b"] | Float[Tensor, "b n"]]:
    """Pictures or clips in [0, 1] and their classes, as parts of several where [data.augment] mixes them."""
    if not (mixing := augment.mixing(num_classes)):
        return pictures, labels
    floats = pictures if pictures.is_floating_point() else pictures.float() / 255
    batch = changed(PictureBatch(pictures=floats, labels=labels), mixing, random)
    assert batch.labels is not None
    return batch.pictures, batch.labels


def softened(
    pictures: Tensor,
    labels: Int[Tensor, "b"],
    augment: Augmentation,
    smoothing: float,
    num_classes: int,
    random: np.random.Generator,
) -> tuple[Tensor, Int[Tensor, "b"] | Float[Tensor, "b n"]]:
    """Pictures or clips and their classes as they are learned from: mixed, and smoothed, where that is asked for."""
    pictures, parts = mixed(pictures, labels, augment, num_classes, random)
    return pictures, smoothed(parts, smoothing, num_classes)


def smoothed(
    labels: Int[Tensor, "b"] | Float[Tensor, "b n"], smoothing: float, num_classes: int
) -> Int[Tensor, "b"] | Float[Tensor, "b n"]:
    """(1 − ε) · what is said + ε / n for each class (Szegedy et al. 2016, "Rethinking the Inception", section 7)."""
    if not smoothing:
        return labels
    parts = labels if labels.is_floating_point() else F.one_hot(labels, num_classes).float()
    return (1 - smoothing) * parts + smoothing / num_classes


def check_smoothing(smoothing: float) -> None:
    """Raise ValueError for what leaves nothing of a label."""
    if not 0 <= smoothing < 1:
        raise ValueError(f"[task] label_smoothing is {smoothing}; expected 0 or more, and less than 1")


def check_not_mixed(recipe: "Recipe") -> None:
    """Raise ValueError where classes are to be mixed by a task that has none."""
    augment = recipe.pictures.augment
    if augment.mixup or augment.cutmix:
        raise ValueError(f"[data.augment] mixup={augment.mixup}, cutmix={augment.cutmix} mix classes, of which this "
                         "task learns nothing; leave them out")  # fmt: skip
