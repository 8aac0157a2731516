"""Classes in parts: mixed pictures, smoothed labels, and the loss of them."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from glassformer.models.catalog import HEADS
from glassformer.models.deit import DeiTForImageClassificationWithTeacher
from glassformer.models.vision import ImageClassification, check_told, class_loss
from glassformer.training.data import Augmentation
from glassformer.training.tasks.augmented import mixed, smoothed, softened

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 3, 1, 1, 2, 0])
PICTURES = torch.stack([torch.full((3, 8, 8), 40 * i, dtype=torch.uint8) for i in range(6)])


def test_the_loss_of_parts_of_classes_is_torch_s_and_of_whole_ones_that_of_their_numbers() -> None:
    parts = LOGITS.flip(0).softmax(-1)
    torch.testing.assert_close(class_loss(LOGITS, parts), F.cross_entropy(LOGITS, parts))
    torch.testing.assert_close(class_loss(LOGITS, F.one_hot(CLASSES, 4).float()), class_loss(LOGITS, CLASSES))
    halves = class_loss(LOGITS.bfloat16(), parts.bfloat16())
    assert halves.dtype == torch.float32


def test_every_classifier_of_pictures_and_clips_learns_by_this_one_loss() -> None:
    tasks = ("image_classification", "video_classification", "distilled_image_classification")
    heads: list[Any] = [heads[task] for heads in HEADS.values() for task in tasks if task in heads]
    own = {head for head in heads if head.forward is not ImageClassification.forward}
    assert len(heads) > 8
    assert own == {DeiTForImageClassificationWithTeacher}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.ones(6, 3) / 3, r"shape \(6, 3\); expected \(6, 4\), a part for each class"),
        (torch.full((6, 4), 0.5), "labels of picture 0 are .* sum to 1"),
        (F.one_hot(CLASSES, 4).float().index_fill(0, torch.tensor(2), torch.nan), "labels of picture 2"),
        (torch.tensor([4] * 6), "4"),
    ],
)
def test_labels_that_cannot_be_are_named(labels: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_told(labels, 6, 4)


def test_smoothed_labels_have_torch_s_loss_of_smoothing() -> None:
    found = class_loss(LOGITS, smoothed(CLASSES, 0.2, 4))
    torch.testing.assert_close(found, F.cross_entropy(LOGITS, CLASSES, label_smoothing=0.2))
    assert smoothed(CLASSES, 0.0, 4) is CLASSES


def test_pictures_and_their_classes_are_mixed_in_the_same_parts_by_the_seed_alone() -> None:
    """Picture i is of one brightness, 40 i / 255: what is in it says which two were mixed, and in which parts."""
    classes = torch.arange(6)
    for augment in (Augmentation(mixup=1.0), Augmentation(cutmix=1.0), Augmentation(mixup=0.5, cutmix=1.0)):
        first, again = (mixed(PICTURES, classes, augment, 6, np.random.default_rng(4)) for _ in range(2))
        pictures, parts = first
        assert torch.equal(parts, again[1])
        assert torch.equal(pictures, again[0])
        assert parts.shape == (6, 6)
        mean = (parts * (40 * torch.arange(6) / 255)).sum(1)
        torch.testing.assert_close(pictures.mean((1, 2, 3)), mean, atol=1e-5, rtol=0)
        assert ((parts > 0).sum(1) == 2).any()
    plain = mixed(PICTURES, classes, Augmentation(), 6, np.random.default_rng(4))
    assert plain[0] is PICTURES
    assert plain[1] is classes


def test_both_ways_of_mixing_come_about_equally_often() -> None:
    blended = 0
    for seed in range(40):
        pictures = mixed(PICTURES, CLASSES, Augmentation(mixup=1.0, cutmix=1.0), 4, np.random.default_rng(seed))[0]
        blended += bool((pictures == pictures[..., :1, :1]).all())  # where a rectangle is put in, some are uneven
    assert 10 < blended < 30


def test_clips_are_mixed_as_pictures_are_and_then_smoothed() -> None:
    clips = PICTURES[:, None].expand(-1, 2, -1, -1, -1)
    seen, parts = softened(clips, CLASSES, Augmentation(cutmix=1.0), 0.4, 4, np.random.default_rng(0))
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert parts.min() >= 0.1
    torch.testing.assert_close(parts.sum(1), torch.ones(6))
