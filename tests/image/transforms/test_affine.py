"""Shifted, turned, scaled: by as much as is said, with boxes and maps, and the same for the same seed."""

import pytest
import torch

from glassformer.image.objects import Objects
from glassformer.image.transforms import PictureBatch, RandomAffine
from glassformer.image.transforms.batch import generator_of

NOTHING = dict.fromkeys(("shift", "rotate", "scale"), 0.0)


def batch(number: int = 3) -> PictureBatch:
    pictures = torch.zeros(number, 3, 21, 31)
    pictures[:, :, 8:13, 10:21] = 1.0
    mask = pictures[0, :1] > 0
    objects = Objects(classes=torch.tensor([4]), boxes=torch.tensor([[10.0, 8.0, 21.0, 13.0]]), masks=mask)
    semantic = (pictures[:, 0] > 0).byte()
    return PictureBatch(pictures=pictures, objects=(objects,) * number, semantic=semantic)


def centre(picture: torch.Tensor) -> tuple[float, float]:
    """Of the light, in rows and columns."""
    light = picture.mean(0)
    rows, columns = torch.arange(light.shape[0]) + 0.5, torch.arange(light.shape[1]) + 0.5
    return ((light.sum(1) * rows).sum() / light.sum()).item(), ((light.sum(0) * columns).sum() / light.sum()).item()


def test_nothing_asked_for_changes_nothing() -> None:
    moved = RandomAffine(**NOTHING)(batch(), generator_of(0, 0))
    torch.testing.assert_close(moved.pictures, batch().pictures, atol=1e-5, rtol=0)
    assert moved.semantic is not None
    assert moved.semantic.equal((batch().pictures[:, 0] > 0).byte())


def test_shifts_reach_as_far_as_they_may_and_masks_boxes_and_maps_go_along() -> None:
    moved = RandomAffine(**NOTHING | {"shift": 0.2})(batch(200), generator_of(0, 0))
    centres = [centre(picture) for picture in moved.pictures]
    rows, columns = (torch.tensor(each) for each in zip(*centres, strict=True))
    assert (rows - 10.5).abs().max() == pytest.approx(0.2 * 21, rel=0.05)
    assert (columns - 15.5).abs().max() == pytest.approx(0.2 * 31, rel=0.05)
    assert moved.objects is not None
    assert moved.semantic is not None
    for i, objects in enumerate(moved.objects):
        x0, y0, x1, y1 = objects.boxes[0].tolist()
        assert ((y0 + y1) / 2, (x0 + x1) / 2) == pytest.approx(centres[i], abs=0.6)
        assert objects.masks is not None
        assert objects.masks[0].equal(moved.semantic[i] == 1)


def test_turns_go_both_ways_and_keep_the_middle() -> None:
    moved = RandomAffine(**NOTHING | {"rotate": 30.0})(batch(100), generator_of(1, 0))
    leans = []
    for picture in moved.pictures:
        assert centre(picture) == pytest.approx((10.5, 15.5), abs=0.1)
        light = picture.mean(0)
        y, x = torch.meshgrid(torch.arange(21) - 10.0, torch.arange(31) - 15.0, indexing="ij")
        cross, spread = (light * x * y).sum(), (light * (x * x - y * y)).sum()
        leans.append(torch.rad2deg(0.5 * torch.atan2(2 * cross, spread)).item())
    assert max(leans) == pytest.approx(30, abs=2)
    assert min(leans) == pytest.approx(-30, abs=2)


def test_scales_enlarge_and_shrink() -> None:
    moved = RandomAffine(**NOTHING | {"scale": 0.3})(batch(200), generator_of(2, 0))
    areas = moved.pictures.mean(1).sum((1, 2)) / 55
    assert areas.max().item() == pytest.approx(1.3**2, rel=0.05)
    assert areas.min().item() == pytest.approx(0.7**2, rel=0.08)


def test_the_generator_decides() -> None:
    affine = RandomAffine()
    first, again, other = (affine(batch(), generator_of(0, step)).pictures for step in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)


def test_what_cannot_be_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="scale=1"):
        RandomAffine(scale=1.0)
    with pytest.raises(ValueError, match=r"shift=-0\.1"):
        RandomAffine(shift=-0.1)
