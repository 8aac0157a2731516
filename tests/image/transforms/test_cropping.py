"""Resize, crop and flip: exact where no pixel is made, as PyTorch resizes where some are; objects go along."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from glassformer.image.objects import Objects, boxes_of
from glassformer.image.transforms import (
    CentreCrop,
    Compose,
    PictureBatch,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    Resize,
    Transform,
)
from glassformer.image.transforms.windows import CropWindows, look

WHATEVER = torch.Generator()


def scene(number: int = 4, rows: int = 12, columns: int = 17, *, masks: bool = True) -> PictureBatch:
    """Pictures with two rectangles each, known by boxes, masks and a map of classes."""
    objects, semantic = [], torch.zeros(number, rows, columns, dtype=torch.uint8)
    for k in range(number):
        drawn = torch.zeros(2, rows, columns, dtype=torch.bool)
        drawn[0, 1 : 6 + k, 2:9] = drawn[1, 5:11, 8 : 12 + k] = True
        one = Objects.from_masks(torch.tensor([1, 2]), drawn)
        objects.append(one if masks else replace(one, masks=None))
        semantic[k][drawn[0]], semantic[k][drawn[1]] = 1, 2
    return PictureBatch(pictures=torch.rand(number, 3, rows, columns), objects=tuple(objects), semantic=semantic)


def objects_of(batch: PictureBatch) -> tuple[Objects, ...]:
    assert batch.objects is not None
    return batch.objects


def map_of(batch: PictureBatch) -> torch.Tensor:
    assert batch.semantic is not None
    return batch.semantic


EVERY: list[Transform] = [
    Resize((9, 20)),
    CentreCrop((8, 8)),
    CentreCrop((20, 10)),
    RandomCrop((8, 9)),
    RandomCrop((12, 17), padding=4),
    RandomResizedCrop((10, 10)),
    RandomFlip(),
]


@pytest.mark.parametrize("size", [(12, 17), (5, 6), (31, 40), (7, 29)])
def test_resizing_is_pytorchs_antialiased(size: tuple[int, int]):
    batch = scene()
    got = Resize(size)(batch, WHATEVER)
    expected = F.interpolate(batch.pictures, size=size, mode="bilinear", antialias=True)
    torch.testing.assert_close(got.pictures, expected, rtol=0, atol=2e-6)
    nearest = F.interpolate(map_of(batch)[:, None].float(), size=size, mode="nearest-exact")[:, 0]
    assert torch.equal(map_of(got), nearest.byte())


def test_a_piece_is_resized_as_if_it_were_alone():
    batch = scene(1)
    windows = CropWindows(torch.tensor([[2.0, 3.0]]), torch.tensor([[7.0, 11.0]]), torch.zeros(1, 2, dtype=torch.bool))
    piece = batch.pictures[..., 2:9, 3:14]
    expected = F.interpolate(piece, size=(5, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(look(batch, windows, (5, 16)).pictures, expected, rtol=0, atol=2e-6)


def test_crops_are_slices_to_the_bit():
    batch = scene()
    got = CentreCrop((8, 8))(batch, WHATEVER)
    assert torch.equal(got.pictures, batch.pictures[..., 2:10, 4:12])
    assert torch.equal(map_of(got), map_of(batch)[:, 2:10, 4:12])
    wider = CentreCrop((14, 19))(batch, WHATEVER)
    assert torch.equal(wider.pictures, F.pad(batch.pictures, (1, 1, 1, 1)))
    assert torch.equal(map_of(wider), F.pad(map_of(batch), (1, 1, 1, 1), value=255))


def test_random_crops_come_from_everywhere_and_nowhere_else():
    batch = PictureBatch(pictures=torch.arange(35).reshape(1, 1, 5, 7).expand(400, 3, 5, 7) / 35)
    got = RandomCrop((4, 5), padding=1)(batch, torch.Generator().manual_seed(0)).pictures[:, 0]
    padded = F.pad(batch.pictures[0, 0], (1, 1, 1, 1))
    pieces = [padded[y : y + 4, x : x + 5] for y in range(4) for x in range(5)]
    found = [next(k for k, piece in enumerate(pieces) if torch.equal(piece, one)) for one in got]
    assert set(found) == set(range(20))


def test_flipping_twice_changes_nothing_and_once_exchanges_the_sides():
    batch, flip = scene(), RandomFlip(probability=1.0)
    once = flip(batch, WHATEVER)
    assert torch.equal(once.pictures, batch.pictures.flip(-1))
    assert torch.equal(map_of(once), map_of(batch).flip(-1))
    first = objects_of(batch)[0].boxes[0]
    assert objects_of(once)[0].boxes[0].tolist() == [17 - first[2], first[1], 17 - first[0], first[3]]
    bare = flip(scene(masks=False), WHATEVER)
    for one, other in zip(objects_of(bare), objects_of(once), strict=True):
        assert torch.equal(one.boxes, other.boxes)
    twice = flip(once, WHATEVER)
    assert torch.equal(twice.pictures, batch.pictures)
    for one, other in zip(objects_of(twice), objects_of(batch), strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert one.masks is not None
        assert other.masks is not None
        assert torch.equal(one.masks, other.masks)
    some = RandomFlip(0.3)(PictureBatch(pictures=torch.rand(1000, 3, 1, 2)), torch.Generator().manual_seed(1))
    assert some.pictures.shape == (1000, 3, 1, 2)


def test_flips_are_as_frequent_as_asked():
    pictures = torch.zeros(2000, 3, 1, 2)
    pictures[..., 0] = 1
    got = RandomFlip(0.3)(PictureBatch(pictures=pictures), torch.Generator().manual_seed(1)).pictures
    assert abs(float(got[:, 0, 0, 1].mean()) - 0.3) < 0.03


@pytest.mark.parametrize("transform", EVERY)
def test_boxes_masks_and_maps_stay_together(transform: Transform):
    batch = scene()
    for seed in range(5):
        got = transform(batch, torch.Generator().manual_seed(seed))
        alone = transform(scene(masks=False), torch.Generator().manual_seed(seed))
        for number, (one, bare) in enumerate(zip(objects_of(got), objects_of(alone), strict=True)):
            assert one.masks is not None
            assert torch.equal(one.boxes, boxes_of(one.masks))
            for mask, kind in zip(one.masks, one.classes, strict=True):
                if kind == 2:  # it was painted last
                    assert torch.equal(mask, map_of(got)[number] == 2)
            for kind, box in zip(bare.classes, bare.boxes, strict=True):
                if (same := one.classes == kind).any():  # masks are on whole pixels, boxes need not be
                    torch.testing.assert_close(one.boxes[same][0], box, rtol=0, atol=1.5)


@pytest.mark.parametrize("masks", [False, True])
def test_objects_that_are_hardly_seen_are_left_out(masks: bool):
    batch = scene(1, masks=masks)
    windows = CropWindows(torch.tensor([[0.0, 0.0]]), torch.tensor([[12.0, 9.0]]), torch.zeros(1, 2, dtype=torch.bool))
    assert objects_of(look(batch, windows, (12, 9)))[0].classes.tolist() == [1, 2]  # a quarter of it
    windows = replace(windows, extent=torch.tensor([[6.0, 9.0]]))
    got = objects_of(look(batch, windows, (6, 9)))[0]
    assert got.classes.tolist() == [1]  # one pixel of 24 is not enough
    assert got.boxes.tolist() == [[2, 1, 9, 6]]


def test_resized_crops_have_the_area_and_shape_that_are_asked():
    pictures = torch.zeros(500, 3, 40, 40)
    pictures[:, 0] = torch.linspace(0, 1, 40)[:, None]
    pictures[:, 1] = torch.linspace(0, 1, 40)
    transform = RandomResizedCrop((40, 40), area=(0.2, 0.6), ratio=(0.5, 2.0))
    got = transform(PictureBatch(pictures=pictures), torch.Generator().manual_seed(0)).pictures
    rows = (got[:, 0, 30, 0] - got[:, 0, 10, 0]) * 39 * 2  # ramps say how far the window reaches
    columns = (got[:, 1, 0, 30] - got[:, 1, 0, 10]) * 39 * 2
    area, ratio = rows * columns / 1600, columns / rows
    assert 0.17 < area.min() < 0.25
    assert 0.5 < area.max() < 0.65
    assert 0.42 < ratio.min() < 0.6
    assert 1.6 < ratio.max() < 2.3
    with pytest.raises(ValueError, match="expected 0 < low <= high"):
        RandomResizedCrop((4, 4), area=(0.5, 0.2))


@pytest.mark.parametrize("transform", EVERY)
def test_frames_of_a_clip_change_alike(transform: Transform):
    clip = torch.rand(3, 1, 3, 12, 17).expand(3, 4, 3, 12, 17)
    got = transform(PictureBatch(pictures=clip), torch.Generator().manual_seed(0)).pictures
    alone = transform(PictureBatch(pictures=clip[:, 0]), torch.Generator().manual_seed(0)).pictures
    for frame in range(4):
        torch.testing.assert_close(got[:, frame], alone, rtol=0, atol=1e-6)


def test_a_piece_larger_than_the_picture_is_refused():
    with pytest.raises(ValueError, match=r"no piece of \(13, 9\) fits a picture of \(12, 17\) with padding=0"):
        Compose((RandomCrop((13, 9)),))(scene(), 0)
