"""Mixed pictures and mixed labels say the same; erased parts are where they may be; a seed says everything."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from glassformer.image.datasets import Record
from glassformer.image.objects import Objects
from glassformer.image.transforms import (
    ColourJitter,
    Compose,
    CutMix,
    Mixup,
    PictureBatch,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    Resize,
)
from glassformer.image.transforms.batch import generator_of, join


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(classes: int = 5, number: int = 200, size: tuple[int, int] = (8, 8)) -> PictureBatch:
    """Pictures of one shade, which says their class: shade = class / 10."""
    labels = torch.arange(number) % classes
    return PictureBatch(pictures=(labels / 10)[:, None, None, None].expand(number, 3, *size).clone(), labels=labels)


@pytest.mark.parametrize("mix", [Mixup(num_classes=5, alpha=1.0), CutMix(num_classes=5)])
def test_labels_are_mixed_as_the_pictures_are(mix: Mixup | CutMix):
    got = mix(flat(), seeded())
    assert got.labels is not None
    torch.testing.assert_close(got.labels.sum(1), torch.ones(200))
    assert got.labels.amin() >= 0
    shades = got.labels @ (torch.arange(5) / 10)
    torch.testing.assert_close(got.pictures.mean((1, 2, 3)), shades, rtol=0, atol=1e-5)
    assert ((got.labels > 0).sum(1) == 2).float().mean() > 0.5


def test_mixup_blends_and_cutmix_cuts():
    blended = Mixup(num_classes=5, alpha=1.0)(flat(), seeded()).pictures
    assert torch.equal(blended, blended[..., :1, :1].expand_as(blended))
    cut = CutMix(num_classes=5)(flat(), seeded()).pictures
    for picture in cut[:, 0]:
        shades = picture.unique()
        assert len(shades) <= 2
        assert all(any(abs(float(shade) - k / 10) < 1e-6 for k in range(5)) for shade in shades)
        if len(shades) == 2:
            rectangles = [(picture == shade).nonzero() for shade in shades]
            spans = [(place.amax(0) - place.amin(0) + 1).prod() for place in rectangles]
            assert any(int(span) == len(place) for span, place in zip(spans, rectangles, strict=True))


def test_parts_are_drawn_from_beta():
    batch = PictureBatch(pictures=torch.rand(4000, 3, 1, 1), labels=torch.arange(4000))
    for alpha, variance in ((0.2, 1 / (4 * 1.4)), (1.0, 1 / 12), (8.0, 1 / (4 * 17))):
        labels = Mixup(num_classes=4000, alpha=alpha)(batch, seeded()).labels
        assert labels is not None
        own = labels.diagonal()
        assert abs(float(own.mean()) - 0.5) < 0.03
        assert abs(float(own.var()) / variance - 1) < 0.1


def test_maps_of_classes_are_cut_with_the_pictures():
    batch = flat()
    semantic = (batch.pictures[:, 0] * 10).round().byte()
    got = CutMix(num_classes=5)(PictureBatch(pictures=batch.pictures, semantic=semantic), seeded())
    assert got.semantic is not None
    assert got.labels is None
    assert torch.equal(got.semantic, (got.pictures[:, 0] * 10).round().byte())
    assert not torch.equal(got.semantic, semantic)


def test_labels_that_are_mixed_already_are_mixed_further():
    got = CutMix(num_classes=5)(Mixup(num_classes=5)(flat(), seeded()), seeded(1))
    assert got.labels is not None
    torch.testing.assert_close(got.labels.sum(1), torch.ones(200))
    torch.testing.assert_close(got.pictures.mean((1, 2, 3)), got.labels @ (torch.arange(5) / 10), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mix", [Mixup, CutMix])
def test_what_cannot_be_mixed_is_refused(mix: Callable[..., Any]):
    pictures = torch.rand(2, 3, 4, 4)
    objects = (Objects.none(), Objects.none())
    wrong = [
        (PictureBatch(pictures=pictures), "have none"),
        (PictureBatch(pictures=pictures, labels=torch.tensor([0, 7])), "labels go from 0 to 7; num_classes=5"),
        (PictureBatch(pictures=pictures, labels=torch.rand(2, 3)), "parts of 3 classes"),
        (PictureBatch(pictures=pictures, labels=torch.tensor([0, 1]), objects=objects), "have objects"),
    ]
    for batch, sentence in wrong:
        with pytest.raises(ValueError, match=sentence):
            mix(num_classes=5)(batch, seeded())
    with pytest.raises(ValueError, match="alpha above 0"):
        mix(num_classes=5, alpha=0)
    maps = PictureBatch(pictures=pictures, labels=torch.tensor([0, 1]), semantic=torch.zeros(2, 4, 4).byte())
    with pytest.raises(ValueError, match="use CutMix"):
        Mixup(num_classes=5)(maps, seeded())


# Erasing


def test_one_rectangle_of_the_asked_area_is_erased():
    batch = PictureBatch(pictures=torch.zeros(500, 3, 30, 40))
    erase = RandomErasing(probability=1.0, area=(0.1, 0.3), ratio=(0.5, 2.0), fill=1.0)
    erased = erase(batch, seeded()).pictures
    assert torch.equal(erased[:, 0], erased[:, 2])
    areas, ratios = [], []
    for picture in erased[:, 0]:
        place = picture.nonzero()
        span = place.amax(0) - place.amin(0) + 1
        assert int(span.prod()) == len(place)
        areas.append(len(place) / 1200)
        ratios.append(float(span[0] / span[1]))
    assert 0.08 < min(areas) < 0.12
    assert 0.27 < max(areas) < 0.33
    assert 0.4 < min(ratios) < 0.6
    assert 1.7 < max(ratios) < 2.3
    assert len({tuple(one[0].nonzero()[0].tolist()) for one in erased}) > 200


def test_erasing_is_as_frequent_as_asked_and_random_within():
    batch = PictureBatch(pictures=torch.zeros(1000, 3, 8, 8))
    got = RandomErasing(probability=0.25)(batch, seeded()).pictures
    hit = got.flatten(1).amax(1) > 0
    assert abs(float(hit.float().mean()) - 0.25) < 0.04
    assert got[hit].flatten(1).amax(1).unique().numel() > 100
    clip = RandomErasing(probability=1.0, fill=0.5)(
        PictureBatch(pictures=torch.zeros(4, 3, 3, 8, 8)), seeded()
    ).pictures
    assert torch.equal(clip[:, 0], clip[:, 2])
    all_wrong: list[dict[str, Any]] = [{"area": (0, 0.5)}, {"area": (0.5, 1.5)}, {"ratio": (2, 1)}, {"fill": 3}]
    for wrong in all_wrong:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RandomErasing(**wrong)


# Sequences

WHOLE = Compose(
    (
        RandomResizedCrop((10, 10)),
        RandomFlip(),
        ColourJitter(hue=0.1),
        RandAugment(),
        RandomErasing(),
        Mixup(num_classes=5),
    ),
    seed=7,
)


def test_the_seed_and_the_step_say_everything():
    batch = PictureBatch(pictures=torch.rand(6, 3, 12, 14), labels=torch.arange(6) % 5)
    before = batch.pictures.clone()
    first = WHOLE(batch, 3)
    torch.rand(10)
    again = WHOLE(batch, 3)
    assert torch.equal(first.pictures, again.pictures)
    assert first.labels is not None
    assert again.labels is not None
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.pictures, WHOLE(batch, 4).pictures)
    assert not torch.equal(first.pictures, Compose(WHOLE.transforms, seed=8)(batch, 3).pictures)
    assert torch.equal(batch.pictures, before)
    drawn = {float(torch.rand((), generator=generator_of(seed, step))) for seed in range(10) for step in range(10)}
    assert len(drawn) == 100


def test_global_randomness_is_left_alone():
    batch = PictureBatch(pictures=torch.rand(6, 3, 12, 14), labels=torch.arange(6) % 5)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    WHOLE(batch, 0)
    assert torch.equal(torch.rand(3), expected)


def test_bad_batches_are_refused_in_a_sentence():
    pictures = torch.rand(2, 3, 6, 5)
    outside = Objects(classes=torch.tensor([1]), boxes=torch.tensor([[0.0, 0.0, 9.0, 2.0]]))
    wide = Objects.none(mask_size=(6, 6))
    whole = Compose((RandomFlip(),))
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: PictureBatch(pictures=torch.rand(3, 6, 5)), "a batch is pictures"),
        (lambda: PictureBatch(pictures=torch.rand(2, 1, 6, 5)), "a batch is pictures"),
        (lambda: PictureBatch(pictures=pictures, labels=torch.tensor([1])), "1 labels for 2 pictures"),
        (lambda: PictureBatch(pictures=pictures, semantic=torch.zeros(2, 6, 6).byte()), "semantic maps are uint8"),
        (lambda: whole(PictureBatch(pictures=pictures * float("nan")), 0), "not finite"),
        (lambda: whole(PictureBatch(pictures=pictures * 255), 0), "float pixels lie in"),
        (lambda: whole(PictureBatch(pictures=pictures, objects=(outside, outside)), 0), "picture 0: box 0 .*beyond"),
        (lambda: whole(PictureBatch(pictures=pictures, objects=(wide, wide)), 0), "and its masks"),
    ]
    for make, sentence in wrong:
        with pytest.raises(ValueError, match=sentence):
            make()
    empty = whole(PictureBatch(pictures=pictures, objects=(Objects.none(), Objects.none())), 0)
    assert empty.objects is not None
    assert len(empty.objects[0]) == 0


def test_records_of_any_size_become_one_batch():
    sizes = ((9, 12), (20, 7))
    records = [
        Record(picture=torch.randint(0, 256, (3, *size), dtype=torch.uint8), place="here", label=k)
        for k, size in enumerate(sizes)
    ]
    batches = [Resize((8, 8))(PictureBatch.of(record), seeded()) for record in records]
    joined = join(batches)
    assert joined.labels is not None
    assert joined.labels.tolist() == [0, 1]
    assert joined.pictures.shape == (2, 3, 8, 8)
    assert torch.equal(joined.pictures[1], batches[1].pictures[0])
    with pytest.raises(ValueError, match=r"of the sizes \[\(9, 12\), \(20, 7\)\] make no batch"):
        join([PictureBatch.of(record) for record in records])
    with pytest.raises(ValueError, match="labels are known of some"):
        join([batches[0], PictureBatch(pictures=batches[0].pictures)])
    crops = [RandomCrop((5, 5))(PictureBatch.of(record), seeded(k)) for k, record in enumerate(records)]
    assert join(crops).size == (5, 5)
