"""Places of the picture that learn what lies on them, beside the queries of Mask2Former."""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from glassformer.models.mask2former import Mask2FormerForUniversalSegmentation
from glassformer.models.mask2former_config import Mask2FormerConfig
from glassformer.models.swin import SwinConfig
from glassformer.training.places import PlaceObjective, mask_place_loss, shares
from glassformer.training.tasks.mask_segmentation import MaskSegmentation

BACKBONE = SwinConfig(
    image_size=32, patch_size=2, dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4, path_dropout=0.0
)
CONFIG = Mask2FormerConfig(
    backbone=BACKBONE, dim=32, mask_dim=16, num_heads=2, num_encoder_layers=1, encoder_hidden_dim=32, num_layers=1,
    hidden_dim=32, num_queries=4, num_points=32, num_classes=3,
)  # fmt: skip


def mask(rows: slice, columns: slice) -> Tensor:
    there = torch.zeros(32, 32)
    there[rows, columns] = 1
    return there


LEFT, CORNER = mask(slice(None), slice(0, 8)), mask(slice(24, 32), slice(28, 32))
MASKS = [torch.stack([LEFT, CORNER, mask(slice(24, 32), slice(24, 28))]), torch.zeros(0, 32, 32)]
CLASSES = [torch.tensor([2, 0, 0]), torch.zeros(0, dtype=torch.long)]


def loss_of(model: Mask2FormerForUniversalSegmentation, pictures: Tensor) -> Tensor:
    torch.manual_seed(1)  # both times the same points
    return model(pixel_values=pictures, mask_labels=MASKS, class_labels=CLASSES).loss


def loss_of_places(
    model: Mask2FormerForUniversalSegmentation,
    grids: Sequence[Tensor],
    masks: Sequence[Tensor] = MASKS,
    classes: Sequence[Tensor] = CLASSES,
) -> Tensor:
    output = SimpleNamespace(pixel_decoder_hidden_states=grids)
    return mask_place_loss(model, output, {"mask_labels": masks, "class_labels": classes})


def test_a_place_belongs_to_the_classes_of_what_covers_it_in_parts() -> None:
    found = shares(MASKS, CLASSES, 3, torch.zeros(2, 1, 2, 2))
    assert found.shape == (2, 4, 4)
    assert found[0].tolist() == [[0, 0, 0.5, 0.5], [0, 0, 0, 1], [0, 0, 0.5, 0.5], [0.25, 0, 0, 0.75]]
    assert (found[1] == torch.tensor([0, 0, 0, 1.0])).all()
    assert shares(MASKS, CLASSES, 3, torch.zeros(2, 1, 4, 4))[0, -1].tolist() == [1, 0, 0, 0]  # two of a kind


def test_places_teach_with_the_models_own_head_beside_its_own_loss() -> None:
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(CONFIG)
    pictures = torch.randn(2, 3, 32, 32)
    plain = loss_of(model, pictures)
    grids, _ = model.body.pixels(model.body.backbone.feature_maps(pictures))
    more = loss_of_places(model, grids)
    inputs = {"pixel_values": pictures, "mask_labels": MASKS, "class_labels": CLASSES}
    torch.manual_seed(1)
    torch.testing.assert_close(PlaceObjective(mask_place_loss, 2.0)(model, inputs), plain + 2 * more)
    assert more > 0
    (slope,) = torch.autograd.grad(more, model.body.pixels.project[0][0].weight)
    assert slope.abs().max() > 0


def test_the_loss_of_places_is_the_weighted_cross_entropy_with_their_parts() -> None:
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(CONFIG)
    with torch.no_grad():  # the same for all places: "nothing" e times as probable as each class
        model.head.weight.zero_()
        assert model.head.bias is not None
        model.head.bias.copy_(torch.tensor([0.0, 0, 0, 1]))
    grid = torch.randn(2, 32, 2, 2)
    something, nothing, total = 1.25, 6.75, math.log(3 + math.e)
    wanted = (something * total + 0.1 * nothing * (total - 1)) / (something + 0.1 * nothing)
    assert loss_of_places(model, [grid]).item() == pytest.approx(wanted, rel=1e-6)
    empty = loss_of_places(model, [grid], [MASKS[1]] * 2, [CLASSES[1]] * 2)
    assert empty.item() == pytest.approx(total - 1, rel=1e-6)


def test_the_task_takes_no_weight_that_teaches_nothing() -> None:
    with pytest.raises(ValueError, match=r"place_weight=-1\.0 teaches nothing"):
        MaskSegmentation(place_weight=-1.0)
