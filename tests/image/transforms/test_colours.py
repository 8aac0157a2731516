"""Colours change as Pillow changes them, and RandAugment's geometry moves what it says; ranges and seeds hold."""

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from glassformer.image.objects import Objects, boxes_of
from glassformer.image.transforms import ColourJitter, Compose, PictureBatch, RandAugment
from glassformer.image.transforms import randaugment as ra
from glassformer.image.transforms.colour import shift_hue

CHANGES: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "auto_contrast": lambda image, s: ImageOps.autocontrast(image),
    "equalize": lambda image, s: ImageOps.equalize(image),
    "solarize": lambda image, s: ImageOps.solarize(image, int(np.ceil(255 * (1 - s)))),
    "posterize": lambda image, s: ImageOps.posterize(image, 8 - round(4 * s)),
    "colour": lambda image, s: ImageEnhance.Color(image).enhance(1 + 0.9 * s),
    "contrast": lambda image, s: ImageEnhance.Contrast(image).enhance(1 + 0.9 * s),
    "brightness": lambda image, s: ImageEnhance.Brightness(image).enhance(1 + 0.9 * s),
    "sharpness": lambda image, s: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * s),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("strength", [0.3, 0.9])
def test_colours_change_as_pillow_changes_them(name: str, strength: float):
    bytes_ = (torch.rand(3, 3, 15, 21) * torch.tensor([1.0, 0.4, 0.7])[:, None, None, None] * 255).byte() // 2 + 20
    bytes_[1, 2] = 77  # a flat channel
    got = ra.COLOURS[name](bytes_.float() / 255, torch.full((3,), strength))
    for ours, picture in zip(got, bytes_, strict=True):
        theirs = CHANGES[name](Image.fromarray(picture.permute(1, 2, 0).numpy()), strength)
        expected = torch.from_numpy(np.array(theirs)).permute(2, 0, 1).float() / 255
        torch.testing.assert_close(ours, expected, rtol=0, atol=2.1 / 255)  # theirs rounds within


def test_bytes_that_pillow_counts_are_counted_alike():
    bytes_ = (torch.rand(4, 3, 30, 30).pow(2) * 255).byte()
    for name in ("equalize", "posterize", "solarize"):
        got = (ra.COLOURS[name](bytes_.float() / 255, torch.full((4,), 0.5)) * 255).round().byte()
        for ours, picture in zip(got, bytes_, strict=True):
            theirs = CHANGES[name](Image.fromarray(picture.permute(1, 2, 0).numpy()), 0.5)
            assert torch.equal(ours, torch.from_numpy(np.array(theirs)).permute(2, 0, 1))


def test_hues_turn_as_the_standard_library_turns_them():
    pictures = torch.rand(2, 3, 6, 6)
    pictures[0, :, 0, 0] = 0.3  # grey has no hue
    turns = torch.tensor([0.17, -0.4])
    got = shift_hue(pictures, turns)
    for number in range(2):
        for pixel, mine in zip(pictures[number].flatten(1).T, got[number].flatten(1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
            expected = colorsys.hsv_to_rgb((hue + float(turns[number])) % 1, saturation, value)
            torch.testing.assert_close(mine, torch.tensor(expected), rtol=0, atol=1e-5)
    torch.testing.assert_close(shift_hue(pictures, torch.zeros(2)), pictures, rtol=0, atol=1e-6)


def test_jitter_stays_in_range_and_leaves_out_what_is_zero():
    batch = PictureBatch(pictures=torch.rand(50, 3, 4, 4))
    got = ColourJitter(brightness=1, contrast=1, saturation=1, hue=0.5)(batch, torch.Generator().manual_seed(0))
    assert 0 <= got.pictures.amin() <= got.pictures.amax() <= 1
    assert (got.pictures - batch.pictures).abs().amax((1, 2, 3)).min() > 0
    same = ColourJitter(brightness=0, contrast=0, saturation=0)(batch, torch.Generator())
    assert torch.equal(same.pictures, batch.pictures)
    shades = ColourJitter(brightness=0.5, contrast=0, saturation=0)(
        PictureBatch(pictures=torch.full((2000, 3, 1, 1), 0.4)), torch.Generator().manual_seed(0)
    ).pictures
    assert 0.2 <= shades.amin() < 0.205
    assert 0.595 < shades.amax() <= 0.6
    for wrong in ({"hue": 0.6}, {"contrast": -0.1}, {"brightness": 2.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            ColourJitter(**wrong)


# RandAugment's geometry


def dot(rows: int, columns: int, y: int, x: int) -> PictureBatch:
    """One white pixel on black, known by its mask, its box and its class."""
    mask = torch.zeros(1, rows, columns, dtype=torch.bool)
    mask[0, y - 1 : y + 2, x - 1 : x + 2] = True
    return PictureBatch(
        pictures=mask[None].float().expand(1, 3, rows, columns),
        objects=(Objects.from_masks(torch.tensor([4]), mask),),
        semantic=mask.byte() * 4,
    )


@pytest.mark.parametrize(
    ("name", "strength"),
    [
        ("translate_x", 0.55),
        ("translate_y", -0.55),
        ("rotate", 3.0),
        ("rotate", 0.8),
        ("shear_x", 3.3),
        ("shear_y", -3.3),
    ],
)
def test_pictures_masks_and_boxes_move_to_where_they_should(name: str, strength: float):
    batch = dot(32, 42, 10, 15)
    got = ra.move(batch, ra.motion(name, strength, batch.size)[None])
    assert got.objects is not None
    assert got.semantic is not None
    (one,) = got.objects
    assert one.masks is not None
    assert torch.equal(one.boxes, boxes_of(one.masks))
    middle = one.boxes.unflatten(1, (2, 2)).mean(1)[0]
    centre = torch.tensor([batch.size[1] / 2, batch.size[0] / 2])
    expected = expected_place(name, strength, torch.tensor([15.5, 10.5]) - centre, batch.size) + centre
    torch.testing.assert_close(middle, expected, rtol=0, atol=1.01)
    assert torch.equal(got.semantic[0] == 4, one.masks[0])
    bright = (got.pictures[0, 0] > 0.75) & one.masks[0]
    assert bright.sum() >= 0.5 * one.masks.sum()
    bare = Objects(classes=torch.tensor([4]), boxes=batch.objects[0].boxes if batch.objects else torch.zeros(0, 4))
    boxed = ra.move(PictureBatch(pictures=batch.pictures, objects=(bare,)), ra.motion(name, strength, batch.size)[None])
    assert boxed.objects is not None
    torch.testing.assert_close(boxed.objects[0].boxes, one.boxes, rtol=0, atol=2.01)


def expected_place(name: str, strength: float, place: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Where a point (x, y) from the middle goes: the way from old to new, written apart from the library's."""
    x, y = place.tolist()
    turn = np.deg2rad(30 * strength)
    moved = {
        "translate_x": (x + 150 / 331 * strength * size[1], y),
        "translate_y": (x, y + 150 / 331 * strength * size[0]),
        "rotate": (np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y),
        "shear_x": (x - 0.3 * strength * y, y),
        "shear_y": (x, y - 0.3 * strength * x),
    }[name]
    return torch.tensor(moved, dtype=torch.float32)


def test_a_quarter_turn_is_exact_and_no_motion_is_none():
    picture = torch.rand(1, 3, 9, 9)
    turned = ra.move(PictureBatch(pictures=picture), ra.motion("rotate", 3.0, (9, 9))[None])
    torch.testing.assert_close(turned.pictures, picture.rot90(-1, (2, 3)), rtol=0, atol=1e-5)
    for name in ra.SPACES:
        still = ra.move(PictureBatch(pictures=picture), ra.motion(name, 0.0, (9, 9))[None])
        torch.testing.assert_close(still.pictures, picture, rtol=0, atol=1e-5)
    away = ra.move(PictureBatch(pictures=picture), ra.motion("translate_x", 331 / 150, (9, 9))[None])
    torch.testing.assert_close(away.pictures, torch.full_like(picture, 0.5), rtol=0, atol=1e-6)


def test_an_object_that_shrinks_with_its_picture_stays():
    batch = dot(32, 32, 16, 16)
    shrunk = ra.move(batch, torch.eye(2, 3, dtype=torch.float64)[None] * 3)
    assert shrunk.objects is not None
    assert shrunk.objects[0].boxes.tolist() == [[16, 16, 17, 17]]
    away = torch.eye(2, 3, dtype=torch.float64)[None].clone()
    away[..., 2] = 17.5  # its last pixels leave at the corner
    gone = ra.move(batch, away)
    assert gone.objects is not None
    assert len(gone.objects[0]) == 0


def test_each_picture_draws_its_own_operations_and_stays_a_picture():
    batch = dot(20, 20, 9, 12)
    many = PictureBatch(
        pictures=torch.rand(60, 3, 20, 20), objects=batch.objects * 60 if batch.objects else None,
        semantic=batch.semantic.repeat(60, 1, 1) if batch.semantic is not None else None,
    )  # fmt: skip
    got = RandAugment(num_ops=3, magnitude=20)(many, torch.Generator().manual_seed(0))
    assert 0 <= got.pictures.amin() <= got.pictures.amax() <= 1
    changed = (got.pictures - many.pictures).abs().amax((1, 2, 3)) > 1e-3
    assert changed.float().mean() > 0.8
    assert got.objects is not None
    assert len({tuple(one.boxes.flatten().tolist()) for one in got.objects}) > 10
    for one in got.objects:
        assert one.masks is not None
        assert torch.equal(one.boxes, boxes_of(one.masks))
    nothing = RandAugment(operations=("identity",))(many, torch.Generator())
    assert torch.equal(nothing.pictures, many.pictures)


def test_every_operation_is_drawn():
    drawn = dict.fromkeys(ra.OPERATIONS, 0)
    for name in drawn:
        batch = PictureBatch(pictures=torch.rand(2, 3, 11, 13).pow(2) * 0.9)
        got = RandAugment(num_ops=1, magnitude=15, operations=(name,))(batch, torch.Generator().manual_seed(0))
        drawn[name] = int(not torch.allclose(got.pictures, batch.pictures, atol=1e-3))
    assert drawn == {name: int(name != "identity") for name in ra.OPERATIONS}
    with pytest.raises(ValueError, match="did you mean 'rotate'"):
        RandAugment(operations=("rotat",))
    with pytest.raises(ValueError, match="no operations"):
        RandAugment(operations=())
    with pytest.raises(ValueError, match="magnitude=31"):
        RandAugment(magnitude=31)


def test_clips_change_alike_in_every_frame():
    clip = torch.rand(6, 1, 3, 10, 12).expand(6, 3, 3, 10, 12)
    counted = tuple(name for name in ra.OPERATIONS if name != "equalize")  # more frames, finer steps
    for transform in (RandAugment(num_ops=3, operations=counted), ColourJitter(hue=0.2)):
        got = Compose((transform,))(PictureBatch(pictures=clip), 3).pictures
        for frame in range(1, 3):
            torch.testing.assert_close(got[:, frame], got[:, 0], rtol=0, atol=1e-6)
        alone = Compose((transform,))(PictureBatch(pictures=clip[:, 0]), 3).pictures
        torch.testing.assert_close(got[:, 0], alone, rtol=0, atol=2 / 255)
