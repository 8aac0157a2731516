"""Maps of classes are counted as a loop over the pixels counts them, and precision of masks is COCO's."""

import numpy as np
import pytest

from glassformer.metrics.coco_ap import coco_ap
from glassformer.metrics.segmentation import class_ious, mean_iou, pixel_accuracy, pixel_counts


def test_counts_and_iou_are_those_of_a_loop_over_the_pixels() -> None:
    random = np.random.default_rng(0)
    said, there = random.integers(0, 4, (3, 9, 7)), random.integers(0, 4, (3, 9, 7))
    there[random.random(there.shape) < 0.2] = 255
    there[there == 3] = 2  # class 3 is said, and nowhere there
    counts = pixel_counts(list(said), list(there), 5)
    for i in range(5):
        for j in range(5):
            assert counts[i, j] == sum(t == i and s == j for s, t in zip(said.flat, there.flat, strict=True))
    ious = class_ious(counts)
    for number in range(4):
        mine, true = (said == number) & (there != 255), there == number
        assert ious[number] == pytest.approx((mine & true).sum() / (mine | true).sum())
    assert ious[3] == 0
    assert ious[4] is None
    assert mean_iou(counts) == pytest.approx(np.mean(ious[:4]))
    assert pixel_accuracy(counts) == pytest.approx((said == there)[there != 255].mean())


def test_iou_is_scikit_learn_s_jaccard_score() -> None:
    from sklearn.metrics import jaccard_score

    random = np.random.default_rng(1)
    said, there = random.integers(0, 3, (2, 8, 8)), random.integers(0, 3, (2, 8, 8))
    expected = jaccard_score(there.ravel(), said.ravel(), average=None)
    assert class_ious(pixel_counts(list(said), list(there), 3)) == pytest.approx(list(expected))


def test_batches_counted_one_by_one_add_up() -> None:
    random = np.random.default_rng(2)
    said, there = list(random.integers(0, 3, (4, 5, 5))), list(random.integers(0, 3, (4, 5, 5)))
    parts = pixel_counts(said[:1], there[:1], 3) + pixel_counts(said[1:], there[1:], 3)
    assert (parts == pixel_counts(said, there, 3)).all()
    assert mean_iou(np.zeros((3, 3), np.int64)) == pixel_accuracy(np.zeros((3, 3), np.int64)) == 0


def test_maps_that_do_not_match_are_named() -> None:
    square = np.zeros((3, 3), int)
    with pytest.raises(ValueError, match="2 maps are held against 1"):
        pixel_counts([square, square], [square], 2)
    with pytest.raises(ValueError, match=r"shape \(3, 3\) is held against one of \(2, 3\)"):
        pixel_counts([square], [square[:2]], 2)
    with pytest.raises(ValueError, match="a reference holds class 2; there are 2 classes"):
        pixel_counts([square], [square + 2], 2)
    with pytest.raises(ValueError, match="a prediction holds class -1"):
        pixel_counts([square - 1], [square], 2)


def squares(*places: tuple[int, int]) -> np.ndarray:
    """Masks of 10 × 10 pixels with their upper left corners there."""
    masks = np.zeros((len(places), 40, 40), bool)
    for mask, (y, x) in zip(masks, places, strict=True):
        mask[y : y + 10, x : x + 10] = True
    return masks


THERE = [{"classes": [0, 1], "masks": squares((2, 2), (20, 25))}, {"classes": [1], "masks": squares((7, 7))}]


def test_what_is_right_has_a_precision_of_one_by_masks_and_by_boxes() -> None:
    said = [each | {"scores": [0.9, 0.8][: len(each["classes"])]} for each in THERE]
    assert coco_ap(said, THERE, kind="masks") == {"ap": 1.0, "ap50": 1.0, "ap75": 1.0, "ap_small": 1.0}
    boxes = [{"classes": [0], "boxes": [[1.0, 2.0, 50.0, 60.0]]}]
    assert coco_ap([boxes[0] | {"scores": [0.5]}], boxes)["ap_medium"] == 1.0


def test_masks_moved_by_one_pixel_count_at_the_thresholds_that_they_pass() -> None:
    """9 of 11 columns are common: an IoU of 0.818 passes 0.50 to 0.80, seven of ten thresholds."""
    said = [
        {"classes": each["classes"], "scores": [0.9, 0.8][: len(each["classes"])],
         "masks": np.roll(each["masks"], 1, axis=2)} for each in THERE
    ]  # fmt: skip
    assert coco_ap(said, THERE, kind="masks")["ap"] == pytest.approx(0.7, abs=1e-6)
    assert coco_ap(said, THERE, kind="masks")["ap75"] == pytest.approx(1.0)


def test_names_count_and_a_surer_mistake_costs_more_than_one_less_sure() -> None:
    wrong = [
        {"classes": [1 - number for number in each["classes"]], "scores": [0.9, 0.8][: len(each["classes"])],
         "masks": each["masks"]} for each in THERE
    ]  # fmt: skip
    assert coco_ap(wrong, THERE, kind="masks")["ap50"] < 0.3
    extra = squares((7, 7), (30, 0))
    ap = [
        coco_ap([THERE[0] | {"scores": [0.9, 0.9]}, {"classes": [1, 1], "scores": [0.8, score], "masks": extra}],
                THERE, kind="masks")["ap"]
        for score in (0.1, 0.85)
    ]  # fmt: skip
    assert ap[0] == pytest.approx(1.0)
    assert ap[1] < ap[0]


def test_nothing_said_is_nothing_and_nothing_there_is_an_error() -> None:
    nothing = {"classes": [], "scores": [], "masks": squares()}
    assert coco_ap([nothing, nothing], THERE, kind="masks") == {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
    with pytest.raises(ValueError, match="no picture has an object"):
        coco_ap([nothing], [nothing], kind="masks")
    with pytest.raises(ValueError, match="kind is 'mask'; expected 'boxes' or 'masks'"):
        coco_ap([nothing], [nothing], kind="mask")
    with pytest.raises(ValueError, match="predictions of 1 pictures are held against 2"):
        coco_ap([nothing], THERE, kind="masks")
    with pytest.raises(KeyError, match="what is said of picture 0 of 2 has no 'scores'"):
        coco_ap(THERE, THERE, kind="masks")
