"""Boxes are half-open, masks give their boxes, and what cannot be a box is refused."""

import pytest
import torch

from glassformer.image.objects import Objects, boxes_of, centre_boxes, check_boxes, corner_boxes


def test_the_box_of_a_mask_is_tight_and_half_open():
    masks = torch.zeros(2, 5, 7, dtype=torch.bool)
    masks[0, 1:4, 2] = True
    masks[1, 0, 0] = masks[1, 4, 6] = True
    assert boxes_of(masks).tolist() == [[2, 1, 3, 4], [0, 0, 7, 5]]
    assert boxes_of(masks[:0]).shape == (0, 4)


def test_an_empty_mask_has_no_box():
    masks = torch.ones(2, 3, 3, dtype=torch.bool)
    masks[1] = False
    with pytest.raises(ValueError, match="mask 1 is empty"):
        boxes_of(masks)


def test_centres_and_corners_are_each_others_way_back():
    boxes = torch.tensor([[0.0, 0.0, 20.0, 10.0], [5.0, 2.0, 6.0, 8.0]])
    centres = centre_boxes(boxes, (10, 20))
    torch.testing.assert_close(centres, torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.275, 0.5, 0.05, 0.6]]))
    torch.testing.assert_close(corner_boxes(centres, (10, 20)), boxes)
    torch.testing.assert_close(corner_boxes(centre_boxes(boxes[None], (7, 9)), (7, 9)), boxes[None])


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ([0.0, 0.0, float("nan"), 1.0], "box 1 .* no finite number"),
        ([3.0, 0.0, 3.0, 1.0], "box 1 .*no area"),
        ([3.0, 5.0, 4.0, 1.0], "box 1 .*no area"),
        ([0.0, 0.0, 21.0, 1.0], "box 1 .*beyond its picture of width 20 and height 10"),
        ([-1.0, 0.0, 1.0, 1.0], "box 1 .*beyond its picture"),
        ([0.0, 0.0, 1.0, 11.0], "box 1 .*beyond its picture"),
    ],
)
def test_a_box_that_cannot_be_is_named(box: list[float], sentence: str):
    boxes = torch.tensor([[0.0, 0.0, 20.0, 10.0], box])
    with pytest.raises(ValueError, match=sentence):
        check_boxes(boxes, (10, 20))


def test_objects_agree_in_number_and_kind():
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    with pytest.raises(ValueError, match="2 classes and 1 boxes"):
        Objects(classes=torch.tensor([1, 2]), boxes=boxes)
    with pytest.raises(ValueError, match="whole numbers"):
        Objects(classes=torch.tensor([1.0]), boxes=boxes)
    with pytest.raises(ValueError, match=r"boolean \(1, y, x\) here"):
        Objects(classes=torch.tensor([1]), boxes=boxes, masks=torch.ones(2, 3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="no area"):
        Objects(classes=torch.tensor([1]), boxes=boxes.flip(1))


def test_a_selection_keeps_what_belongs_together():
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    for k in range(3):
        masks[k, k, k] = True
    objects = Objects.from_masks(torch.tensor([5, 6, 7]), masks)
    kept = objects.select(torch.tensor([True, False, True]))
    assert kept.classes.tolist() == [5, 7]
    assert len(kept) == 2
    assert kept.masks is not None
    assert torch.equal(boxes_of(kept.masks), kept.boxes)
    turned = objects.select(torch.tensor([2, 0]))
    assert turned.boxes.tolist() == [[2, 2, 3, 3], [0, 0, 1, 1]]
    assert len(Objects.none()) == 0
    empty = Objects.none(mask_size=(4, 6)).masks
    assert empty is not None
    assert empty.shape == (0, 4, 6)
