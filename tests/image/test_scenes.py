"""The generated world: what is said of a picture is true of it."""

import re
import time

import numpy as np
import pytest
import torch

from glassformer.foundation.counting import draws
from glassformer.image import captions
from glassformer.image.captions import Thing
from glassformer.image.scenes import SIZES, SceneBatch, Scenes
from glassformer.image.shapes import COLOURS, SHAPES, Figures, stamps


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    return Scenes(seed=3).batch(range(400))


def test_numbers_by_counting_depend_on_seed_and_number_alone_and_are_even() -> None:
    wide = draws(7, range(2000), 8)
    assert np.array_equal(draws(7, [1999, 3], 8), wide[[1999, 3]])
    assert np.array_equal(draws(7, [5], 3), wide[[5], :3])
    assert not np.intersect1d(draws(8, range(2000), 8), wide).size
    shares = np.histogram(wide, bins=10, range=(0, 1))[0] / wide.size
    assert np.abs(shares - 0.1).max() < 0.01
    related = np.corrcoef(np.concatenate([wide[:-1], wide[1:]], axis=1).T) - np.eye(16)
    assert np.abs(related).max() < 0.1  # about 1 / √2000 is chance


def test_a_picture_is_the_same_in_whatever_batch_it_is_asked_for(batch: SceneBatch) -> None:
    again = Scenes(seed=3).batch([399, 70, 7])
    for place, number in enumerate([399, 70, 7]):
        assert torch.equal(again.pictures[place], batch.pictures[number])
        assert torch.equal(again.semantic[place], batch.semantic[number])
        assert again.objects[place].masks is not None
        assert torch.equal(again.objects[place].masks, batch.objects[number].masks)  # type: ignore[arg-type]
        assert again.captions[place] == batch.captions[number]
        assert again.things[place] == batch.things[number]
    assert not torch.equal(Scenes(seed=4).batch([7]).pictures[0], batch.pictures[7])


def test_masks_boxes_map_and_counts_agree(batch: SceneBatch) -> None:
    for i, objects in enumerate(batch.objects):
        masks = objects.masks
        assert masks is not None
        assert masks.sum(0).le(1).all()  # a pixel shows one object
        classes = torch.zeros(64, 64, dtype=torch.long)
        for kind, mask, box in zip(objects.classes.tolist(), masks, objects.boxes.long().tolist(), strict=True):
            classes[mask] = kind + 1
            rows, columns = (mask.any(1 - axis).nonzero().flatten() for axis in (0, 1))
            assert box == [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        assert torch.equal(classes, batch.semantic[i].long())
        assert batch.counts[i].tolist() == [int((objects.classes == kind).sum()) for kind in range(len(SHAPES))]
        assert [SHAPES[kind] for kind in objects.classes.tolist()] == [thing.shape for thing in batch.things[i]]


def test_a_mask_is_where_the_picture_shows_the_colour_that_is_said(batch: SceneBatch) -> None:
    """Of plain shapes, inside the mask: an object in front, or a mask of something else, would show."""
    wrong = seen = 0
    for picture, objects, things in zip(batch.pictures, batch.objects, batch.things, strict=True):
        assert objects.masks is not None
        for mask, thing in zip(objects.masks, things, strict=True):
            within = mask.clone()
            for axis in (0, 1):
                within = within & within.roll(1, axis) & within.roll(-1, axis)
            within[[0, -1]] = within[:, [0, -1]] = False
            if thing.texture == "plain" and within.any():
                colour = torch.tensor(COLOURS[thing.colour]) * 255
                off = (picture[:, within].float() - colour[:, None]).abs().amax(0) > 1
                wrong, seen = wrong + int(off.sum()), seen + len(off)
    assert seen > 5000
    assert wrong / seen < 0.003  # the tip of a star in front may tint a pixel without having it


def test_where_no_mask_is_there_is_nothing_but_background() -> None:
    batch = Scenes(seed=5, least=12, most=12).batch(range(300))
    plain = [i for i, ground in enumerate(batch.backgrounds) if " " not in ground]
    assert len(plain) > 20
    for i in plain:
        near = torch.nn.functional.max_pool2d((batch.semantic[i] > 0).float()[None], 5, stride=1, padding=2)[0] > 0
        rest = batch.pictures[i][:, ~near]
        assert (rest == rest[:, :1]).all(dim=0).float().mean() > 0.97  # but for the tips of stars, half a pixel wide


def test_a_shape_lies_where_its_record_says_and_is_as_large(batch: SceneBatch) -> None:
    for objects, things in zip(batch.objects, batch.things, strict=True):
        assert objects.masks is not None
        for mask, thing in zip(objects.masks, things, strict=True):
            low, high = SIZES[thing.size]
            assert low * 64 <= thing.radius <= high * 64
            rows, columns = mask.nonzero().T.double() + 0.5
            assert (torch.hypot(rows - thing.y, columns - thing.x) <= 1.15 * thing.radius + 1).all()
            if thing.shape == "circle" and thing.visible == 1:
                assert float(mask.sum()) == pytest.approx(np.pi * (0.92 * thing.radius) ** 2, rel=0.12)
            if thing.shape == "ring":
                assert not mask[int(thing.y), int(thing.x)]


@pytest.mark.parametrize(("shape", "area", "holds_its_centre"), [
    ("circle", np.pi * 0.92**2, True), ("ring", np.pi * (0.96**2 - 0.48**2), False), ("square", 1.56**2, True),
    ("triangle", 3 * 3**0.5 * 0.25, True), ("star", 1.1226 * 1.1**2, True),
    ("cross", 4 * 0.66 * 0.95 - 0.66**2, True), ("heart", (4 + np.pi) * 0.48**2, True),
])  # fmt: skip
def test_a_shape_has_the_area_of_its_geometry(shape: str, area: float, holds_its_centre: bool) -> None:
    one = np.ones(1, np.float32)
    figure = Figures(
        picture=np.zeros(1, int), shape=np.array([SHAPES.index(shape)]), texture=np.zeros(1, int), x=100 * one,
        y=100.5 * one, radius=80 * one, angle=0.3 * one, period=4 * one, first=np.ones((1, 3), np.float32),
        second=np.ones((1, 3), np.float32),
    )  # fmt: skip
    (stamp,) = stamps(figure)
    assert stamp.cover.sum() == pytest.approx(area * 80**2, rel=0.01)
    assert (stamp.cover[100 - stamp.top, 100 - stamp.left] > 0.5) == holds_its_centre
    assert not stamp.cover[[0, -1]].any()
    assert not stamp.cover[:, [0, -1]].any()


def test_what_is_hidden_almost_whole_is_left_out_of_picture_and_labels() -> None:
    crowd = Scenes(seed=5, least=12, most=12, size=96)
    numbers = range(100)
    batch = crowd.batch(numbers)
    everything = [thing.visible for things in batch.things for thing in things]
    assert min(everything) >= crowd.least_visible
    assert len(everything) < 0.9 * 12 * len(numbers)  # some were left out, or this test shows nothing
    barely = Scenes(seed=5, least=12, most=12, size=96, least_visible=1e-6).batch(numbers)
    shown = [thing.visible for things in barely.things for thing in things]
    assert 0 < min(shown) < 0.1
    for objects, things in zip(batch.objects, batch.things, strict=True):
        assert objects.masks is not None
        for mask, thing in zip(objects.masks, things, strict=True):
            if thing.shape == "square":  # a whole one has (1.56 r)² pixels
                whole = (1.56 * thing.radius) ** 2
                assert float(mask.sum()) / whole == pytest.approx(thing.visible, abs=0.1)


def test_colours_textures_sizes_shapes_and_backgrounds_all_come() -> None:
    batch = Scenes(seed=0).batch(range(400))
    things = [thing for some in batch.things for thing in some]
    for name, kinds in (("shape", 8), ("colour", 8), ("texture", 5), ("size", 3)):
        shares = np.unique([getattr(thing, name) for thing in things], return_counts=True)[1] / len(things)
        assert len(shares) == kinds
        assert shares.min() > 0.5 / kinds
    assert len(set(batch.backgrounds)) == 15
    assert {len(some) for some in batch.things} >= {1, 2, 3, 4, 5}
    hidden = np.mean([thing.visible < 0.95 for thing in things])
    assert 0.1 < hidden < 0.6


def test_captions_speak_of_everything_and_are_true(batch: SceneBatch) -> None:
    said = {"left": 0, "right": 0, "above": 0, "below": 0, "front": 0}
    for text, things, ground in zip(batch.captions, batch.things, batch.backgrounds, strict=True):
        assert f"{ground} background" in text
        assert text[0].isupper()
        assert text.endswith(".")
        for shape in {thing.shape for thing in things}:
            assert shape in text
        if any(size in text.split(". ")[0] for size in SIZES):
            assert all(captions.described(thing)[2:] in text for thing in things)
        for found in re.finditer(r"[Tt]he ([a-z ]+) (?:is|stands|can be seen) (to the left of|to the right of|above|below|in front of) the ([a-z ]+)\.", text):  # noqa: E501  # fmt: skip
            first, relation, second = found.groups()
            a, b = (_meant(words, things) for words in (first, second))
            key = relation.split()[2] if " " in relation else relation
            said["front" if key not in said else key] += 1
            if relation == "in front of":
                assert things.index(a) > things.index(b)
                assert b.visible <= 0.9
                assert np.hypot(a.x - b.x, a.y - b.y) < 1.15 * (a.radius + b.radius)
            else:
                assert {"to the left of": a.x < b.x, "to the right of": a.x > b.x, "above": a.y < b.y,
                        "below": a.y > b.y}[relation]  # fmt: skip
    assert min(said.values()) >= 5
    openings = {text.split()[0] for text in batch.captions}
    assert len(openings) >= 5


def _meant(words: str, things: tuple[Thing, ...]) -> Thing:
    """The one thing that all the words fit."""
    named = {"striped": "stripes", "dotted": "dots", "checkered": "checker", "shaded": "gradient"}
    wanted = {named.get(word, word) for word in words.split()}
    fitting = [thing for thing in things if wanted <= {thing.shape, thing.colour, thing.texture, thing.size}]
    assert len(fitting) == 1, (words, things)
    return fitting[0]


def test_an_empty_picture_has_no_objects_and_says_so() -> None:
    batch = Scenes(least=0, most=0, size=32).batch([0, 1])
    assert [len(objects) for objects in batch.objects] == [0, 0]
    assert not batch.semantic.any()
    assert all("background" in text for text in batch.captions)


def test_shapes_can_be_chosen_and_are_the_classes() -> None:
    world = Scenes(shapes=("star", "ring"))
    batch = world.batch(range(50))
    assert world.classes == ("star", "ring")
    assert batch.counts.shape == (50, 2)
    assert {thing.shape for things in batch.things for thing in things} == {"star", "ring"}
    for objects, things in zip(batch.objects, batch.things, strict=True):
        assert [world.classes[kind] for kind in objects.classes.tolist()] == [thing.shape for thing in things]


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"size": 8}, "size=8 is too small"), ({"least": 3, "most": 2}, "least=3 and most=2"),
    ({"least_visible": 0.0}, "least_visible=0.0"), ({"shapes": ("sta",)}, "no shape 'sta'.*'star'"),
    ({"shapes": ()}, "one or more"), ({"shapes": ("star", "star")}, "each once"), ({"seed": -1}, "this one is -1"),
])  # fmt: skip
def test_a_world_that_cannot_be_is_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Scenes(**settings)


def test_numbers_below_zero_and_empty_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="this one is -2"):
        Scenes().batch([1, -2])
    with pytest.raises(ValueError, match="no numbers"):
        Scenes().batch([])


@pytest.mark.slow
def test_two_thousand_pictures_a_second_of_one_core() -> None:
    world, numbers = Scenes(), range(256)
    world.batch(numbers)
    seconds = []
    for _ in range(8):
        start = time.process_time()
        world.batch(numbers)
        seconds.append(time.process_time() - start)
    assert len(numbers) / min(seconds) >= 2000
