"""Every source gives the records it should, in parts that share nothing; what is wrong is named before it costs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as runs

from glassformer.image.coco import lengths
from glassformer.image.datasets import PictureSet, Record, load_pictures, put_aside
from glassformer.image.files import write_image


def only_objects(record: Record) -> Any:
    assert record.objects is not None
    return record.objects


def flowers(root: Path, per_class: int = 10) -> Path:
    for k, name in enumerate(("rose", "daisy")):
        (root / name / "more").mkdir(parents=True)
        for n in range(per_class):
            write_image(root / name / ("more" if n % 2 else "") / f"{n}.png", torch.full((3, 4 + n, 5), 0.1 * (k + 1)))
    (root / ".hidden").mkdir()
    (root / "rose" / "notes.txt").write_text("no picture")
    return root


# Digits


def test_digits_are_scikit_learns_and_split_alike_in_each_class():
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    pictures = load_pictures("digits")
    assert pictures.labels == tuple("0123456789")
    assert len(pictures.train) + len(pictures.validation) == len(targets) == 1797
    seen = sorted(int(record.place.split()[1]) for part in (pictures.train, pictures.validation) for record in part)
    assert seen == list(range(1797))
    counts = Counter(record.label for record in pictures.validation)
    everywhere = Counter(targets.tolist())
    assert all(counts[digit] == round(everywhere[digit] * 0.2) for digit in range(10))
    record = pictures.validation[5]
    number = int(record.place.split()[1])
    assert record.label == targets[number]
    expected = torch.from_numpy(images[number]).reshape(8, 8) / 16
    torch.testing.assert_close(record.picture[1].double() / 255, expected, rtol=0, atol=0.002)


def test_the_seed_draws_the_split():
    first, again, other = (load_pictures("digits?validation=0.3", seed=seed) for seed in (3, 3, 4))
    places = [[record.place for record in one.validation] for one in (first, again, other)]
    assert places[0] == places[1] != places[2]
    assert sum(map(len, (first.train, first.validation))) == 1797


def test_a_part_of_each_class_is_put_aside():
    train, held = put_aside(list(range(30)), [0] * 20 + [1] * 10, 0.2, seed=1)
    assert len([n for n in held if n < 20]) == 4
    assert len([n for n in held if n >= 20]) == 2
    assert sorted(train + held) == list(range(30))
    assert train == sorted(train)
    with pytest.raises(ValueError, match=r"3 entries are too few to put 0.1 of them aside"):
        put_aside([1, 2, 3], [0, 0, 0], 0.1, seed=0)


# Folders of classes


def test_a_folder_for_each_class(tmp_path: Path):
    pictures = load_pictures(str(flowers(tmp_path)))
    assert pictures.labels == ("daisy", "rose")
    assert len(pictures.train) == 18
    assert Counter(record.label for record in pictures.validation) == {0: 1, 1: 1}
    for record in pictures.train:
        shade = {"rose": 26, "daisy": 51}[pictures.labels[record.label or 0]]
        assert int(record.picture[0, 0, 0]) == shade
        assert Path(record.place).is_file()
    few = pictures.train[2:5]
    assert len(few) == 3
    assert torch.equal(few[0].picture, pictures.train[2].picture)


def test_parts_in_folders_of_their_own(tmp_path: Path):
    flowers(tmp_path / "train")
    flowers(tmp_path / "val", 2)
    pictures = load_pictures(str(tmp_path))
    assert (len(pictures.train), len(pictures.validation)) == (20, 4)
    assert "val" in Path(pictures.validation[0].place).parts
    part = load_pictures(f"{tmp_path / 'train'}?validation={tmp_path / 'val'}")
    assert [record.place for record in part.validation] == [record.place for record in pictures.validation]
    assert len(load_pictures(f"{tmp_path}?validation=0.5").train) == 10
    (tmp_path / "val" / "daisy").rename(tmp_path / "daisy")
    assert {record.label for record in load_pictures(str(tmp_path)).validation} == {1}  # a rose is a rose
    (tmp_path / "val" / "rose").rename(tmp_path / "val" / "tulip")
    with pytest.raises(ValueError, match=r"the class 'tulip', which .*train has not"):
        load_pictures(str(tmp_path))


def test_bad_files_are_named_before_any_is_learned_from(tmp_path: Path):
    flowers(tmp_path)
    (tmp_path / "rose" / "broken.png").write_text("no picture")
    (tmp_path / "rose" / "empty.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"broken\.png is no picture .*\(and 1 more of 22 files\)"):
        load_pictures(str(tmp_path))


def test_folders_without_classes_or_pictures_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no folders"):
        load_pictures(str(tmp_path))
    (tmp_path / "rose").mkdir()
    with pytest.raises(ValueError, match="holds no files of the class 'rose'"):
        load_pictures(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"neither pictures by name.*did you mean 'digits'"):
        load_pictures("digit")
    with pytest.raises(ValueError, match="did you mean 'semantic'"):
        load_pictures("digits", kind="semantics")
    with pytest.raises(ValueError, match="'digits' is for classification, not for kind='detection'"):
        load_pictures("digits", kind="detection")
    with pytest.raises(ValueError, match="no option 'validate'"):
        load_pictures("digits?validate=0.5")
    with pytest.raises(ValueError, match="is no part of all"):
        load_pictures("digits?validation=2")


# COCO


def square(x: int, y: int, side: int) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def annotations(root: Path, **changes: Any) -> Path:
    """Twelve pictures of 20 × 30 pixels: a square as polygons, one as run lengths, one as COCO's text; and a crowd."""
    mask = np.zeros((20, 30), np.uint8, order="F")
    mask[2:7, 10:14] = 1
    text = runs.encode(mask)["counts"].decode()
    counts = [10 * 20 + 2, *([5, 15] * 3), 5, 600 - 202 - 65]
    images, found = [], []
    for n in range(12):
        write_image(root / f"{n}.png", torch.rand(3, 20, 30))
        images.append({"id": 100 + n, "file_name": f"{n}.png", "height": 20, "width": 30})
        drawn = [
            {"bbox": [3, 4, 5, 5], "category_id": 7, "segmentation": square(3, 4, 5)},
            {"bbox": [10, 2, 4, 5], "category_id": 2, "segmentation": {"size": [20, 30], "counts": counts}},
            {"bbox": [10, 2, 4, 5], "category_id": 2, "segmentation": {"size": [20, 30], "counts": text}},
            {"bbox": [0, 0, 9, 9], "category_id": 2, "iscrowd": 1, "segmentation": {}},
        ]
        found += [{"id": 1000 * n + k, "image_id": 100 + n, **one} for k, one in enumerate(drawn)]
    found[0] |= changes
    categories = [{"id": 7, "name": "cat"}, {"id": 2, "name": "dog"}]
    path = root / "set.json"
    path.write_text(json.dumps({"images": images, "annotations": found, "categories": categories}))
    return path


def test_boxes_and_masks_of_coco(tmp_path: Path):
    pictures = load_pictures(str(annotations(tmp_path)), kind="instances")
    assert pictures.labels == ("dog", "cat")
    assert (len(pictures.train), len(pictures.validation)) == (11, 1)
    objects = only_objects(pictures.train[3])
    assert objects.classes.tolist() == [1, 0, 0]
    assert objects.boxes.tolist() == [[3, 4, 8, 9], [10, 2, 14, 7], [10, 2, 14, 7]]
    expected = torch.zeros(2, 20, 30, dtype=torch.bool)
    expected[0, 4:9, 3:8] = expected[1, 2:7, 10:14] = True
    assert torch.equal(objects.masks, expected[[0, 1, 1]])
    boxes_alone = load_pictures(str(tmp_path / "set.json"), kind="detection")
    assert only_objects(boxes_alone.train[0]).masks is None


def test_coco_with_a_file_for_each_part_and_folders_of_pictures(tmp_path: Path):
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        annotations(tmp_path / part)
        (tmp_path / part / "set.json").rename(tmp_path / f"{part}.json")
    source = f"{tmp_path}/a.json?pictures={tmp_path}/a&validation={tmp_path}/b.json&validation_pictures={tmp_path}/b"
    pictures = load_pictures(source, kind="detection")
    assert (len(pictures.train), len(pictures.validation)) == (12, 12)
    assert Path(pictures.validation[0].place).parent.name == "b"
    with pytest.raises(FileNotFoundError, match=r"0\.png is not there \(24 of 24 pictures are missing\)"):
        load_pictures(f"{tmp_path}/a.json?validation={tmp_path}/b.json", kind="detection")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"bbox": [3, 4, 40, 5]},
            r"0\.png: annotation 0 has bbox=.*beyond its picture \(30 wide, 20 high\)",
        ),
        ({"bbox": [3, 4, 0, 5]}, "has no area"),
        ({"bbox": [3, 4, float("nan"), 5]}, "no finite numbers"),
        ({"bbox": [3, 4, 5]}, "expected .x, y, width, height."),
        ({"category_id": 5}, "category_id=5, which is not in the file"),
        ({"image_id": 5}, "image_id=5, which is not in the file"),
    ],
)
def test_bad_annotations_are_named_when_the_set_is_loaded(tmp_path: Path, changes: dict[str, Any], sentence: str):
    path = annotations(tmp_path, **changes)
    with pytest.raises(ValueError, match=sentence):
        load_pictures(str(path), kind="instances")


def test_boxes_are_cut_where_that_is_asked_and_empty_ones_dropped(tmp_path: Path):
    path = annotations(tmp_path, bbox=[25, 15, 40, 50])
    first = next(one for one in everything(load_pictures(f"{path}?boxes=clip", "detection")) if "/0.png" in one.place)
    assert only_objects(first).boxes[0].tolist() == [25, 15, 30, 20]
    path = annotations(tmp_path, bbox=[25, 15, 0, 3])
    first = next(one for one in everything(load_pictures(f"{path}?boxes=clip", "detection")) if "/0.png" in one.place)
    assert len(only_objects(first)) == 2
    path = annotations(tmp_path, bbox=[24.7, 3, 6, 4])  # rounding
    first = next(one for one in everything(load_pictures(str(path), "detection")) if "/0.png" in one.place)
    assert only_objects(first).boxes[0, 2] == 30


def everything(pictures: PictureSet) -> list[Record]:
    return [*pictures.train, *pictures.validation]


@pytest.mark.parametrize(
    ("segmentation", "sentence"),
    [
        (None, "no segmentation"),
        ([[1.0, 2.0]], "fewer than three corners"),
        ({"size": [20, 30], "counts": [1, 2]}, "do not fill its picture of 20 × 30"),
        ({"size": [30, 20], "counts": [600]}, "do not fill"),
        ({"size": [20, 30], "counts": "~~"}, "do not fill"),
        ({"size": [20, 30], "counts": "52"}, "do not fill"),
    ],
)
def test_a_mask_that_cannot_be_drawn_is_named(tmp_path: Path, segmentation: Any, sentence: str):
    path = annotations(tmp_path, segmentation=segmentation)
    with pytest.raises(ValueError, match=sentence):
        everything(load_pictures(str(path), kind="instances"))


def test_coco_text_is_read_as_its_own_tools_write_it():
    chance = np.random.default_rng(0)
    for _ in range(50):
        mask = np.asfortranarray(chance.random((17, 23)) < chance.random(), dtype=np.uint8)
        mask[:, chance.integers(23) :] = 0
        flat = np.concatenate([[0], mask.flatten("F")])
        ends = np.append(np.nonzero(np.diff(flat))[0], mask.size)
        expected = np.diff(np.concatenate([[0], ends]))
        assert lengths(runs.encode(mask)["counts"].decode()) == expected.tolist()


def test_files_that_are_no_coco_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"is not there; expected a \.json"):
        load_pictures(str(tmp_path / "none.json"), kind="detection")
    (tmp_path / "a.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="no list 'annotations'"):
        load_pictures(str(tmp_path / "a.json"), kind="detection")
    (tmp_path / "a.json").write_text('{"images": [{"id": 1}], "annotations": [], "categories": []}')
    with pytest.raises(ValueError, match="lacks 'height'"):
        load_pictures(str(tmp_path / "a.json"), kind="detection")
    path = annotations(tmp_path)
    write_image(tmp_path / "4.png", torch.rand(3, 7, 7))
    with pytest.raises(ValueError, match=r"4\.png is 7 × 7 pixels, and .* says \(20, 30\)"):
        load_pictures(str(path), kind="detection")


# Pairs of a picture and its mask


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for part in ("photos", "masks"):
        (tmp_path / part).mkdir()
    for n in range(10):
        write_image(tmp_path / "photos" / f"{n}.jpg", torch.rand(3, 6, 8))
        mask = torch.full((6, 8), n % 3, dtype=torch.uint8)
        mask[0] = 255
        write_image(tmp_path / "masks" / f"{n}.png", mask)
    return tmp_path


def test_pairs_of_two_folders(photos: Path):
    pictures = load_pictures(f"{photos}/photos::{photos}/masks", kind="semantic")
    assert pictures.labels == ("class 0", "class 1", "class 2")
    assert (len(pictures.train), len(pictures.validation)) == (9, 1)
    for record in everything(pictures):
        assert record.semantic is not None
        assert record.semantic[0].tolist() == [255] * 8
        assert record.semantic[1, 1] == int(Path(record.place).stem) % 3
        assert record.picture.shape == (3, 6, 8)


def test_pairs_of_a_table_with_names_for_the_classes(photos: Path):
    rows = "\n".join(f"photos/{n}.jpg,masks/{n}.png" for n in range(10))
    (photos / "pairs.csv").write_text(f"picture,mask\n{rows}\n")
    (photos / "names.txt").write_text("sky\nsea\nland\nship\n")
    source = f"{photos}/pairs.csv?labels={photos}/names.txt"
    assert load_pictures(source, kind="semantic").labels == ("sky", "sea", "land", "ship")
    (photos / "names.txt").write_text("sky\nsea\n")
    with pytest.raises(ValueError, match=r"2\.png holds the class 2; there are 2, counted from 0"):
        everything(load_pictures(source, kind="semantic"))
    (photos / "pairs.csv").write_text(f"photo,mask\n{rows}\n")
    with pytest.raises(ValueError, match="columns photo, mask, and no 'picture'"):
        load_pictures(source, kind="semantic")


def test_pairs_that_do_not_fit_are_named(photos: Path):
    source = f"{photos}/photos::{photos}/masks"
    write_image(photos / "masks" / "3.png", torch.zeros(5, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"3\.jpg is 6 × 8 pixels, and its mask .*3\.png 5 × 8"):
        load_pictures(source, kind="semantic")
    (photos / "masks" / "3.png").unlink()
    with pytest.raises(ValueError, match="3 has no mask of this name"):
        load_pictures(source, kind="semantic")
    with pytest.raises(FileNotFoundError, match="is no folder here"):
        load_pictures(f"{photos}/photos::{photos}/mask", kind="semantic")


# Hugging Face's hub


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets as `datasets` gives them, made in memory instead of fetched."""
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    chance = np.random.default_rng(0)
    photos = [Image.fromarray(chance.integers(0, 255, (6, 8, 3), dtype=np.uint8)) for _ in range(20)]
    maps = [Image.fromarray(np.full((6, 8), n % 4, np.uint8)) for n in range(20)]
    labels, names = [n % 2 for n in range(20)], datasets.ClassLabel(names=["a", "b"])
    objects = {"bbox": [[1.0, 1.0, 3.0, 9.0], [2.0, 2.0, 0.0, 1.0]], "category": [1, 0]}
    sets = {
        "labelled": ({"img": photos, "label": labels}, {"label": names}),
        "maps": ({"image": photos, "annotation": maps}, {"annotation": datasets.Image()}),
        "boxes": ({"image": photos, "objects": [objects] * 20}, {}),
    }

    def load(name: str, config: str | None) -> Any:
        if name not in sets:
            raise ValueError(f"no {name}")
        columns, features = sets[name]
        made = datasets.Dataset.from_dict(columns)
        image = "img" if "img" in columns else "image"
        for column, feature in {image: datasets.Image(), **features}.items():
            made = made.cast_column(column, feature)
        return datasets.DatasetDict({"train": made, **({"test": made.select(range(4))} if config else {})})

    monkeypatch.setattr(datasets, "load_dataset", load)
    return photos


def test_sets_of_the_hub(published: Any):
    labelled = load_pictures("hf:labelled?picture=img")
    assert labelled.labels == ("a", "b")
    assert (len(labelled.train), len(labelled.validation)) == (18, 2)
    record = labelled.train[3]
    number = int(record.place.split()[-1])
    assert record.label == number % 2
    assert torch.equal(record.picture, torch.from_numpy(np.array(published[number])).permute(2, 0, 1))
    assert len(load_pictures("hf:labelled:plain").validation) == 4
    maps = load_pictures("hf:maps", kind="semantic")
    assert len(maps.labels) == 4
    assert maps.train[0].semantic is not None
    boxes = load_pictures("hf:boxes", kind="detection")
    objects = only_objects(boxes.train[0])
    assert objects.boxes.tolist() == [[1, 1, 4, 6]]
    assert objects.classes.tolist() == [1]
    with pytest.raises(ValueError, match=r"which holds the mask\? say so"):
        load_pictures("hf:boxes", kind="semantic")
    with pytest.raises(OSError, match="cannot load the data set 'hf:none'"):
        load_pictures("hf:none")
    with pytest.raises(ValueError, match="kind='instances' is read from COCO files"):
        load_pictures("hf:boxes", kind="instances")


# Scenes


def test_scenes_are_drawn_when_they_are_asked_for():
    from glassformer.image.scenes import Scenes

    pictures = load_pictures("scenes?size=32&train=30&validation=4&seed=5", kind="instances", seed=9)
    world = Scenes(size=32, seed=5)
    assert pictures.labels == world.classes
    assert (len(pictures.train), len(pictures.validation)) == (30, 4)
    expected = world.batch([11])
    record = pictures.train[11]
    assert torch.equal(record.picture, expected.pictures[0])
    drawn: Any = expected.objects[0]
    assert torch.equal(only_objects(record).masks, drawn.masks)
    maps = load_pictures("scenes?size=32&train=30&validation=4&seed=5", kind="semantic")
    assert maps.labels == ("background", *world.classes)
    assert maps.train[11].semantic is not None
    assert torch.equal(maps.train[11].semantic, expected.semantic[0])
    more = load_pictures("scenes?size=32&train=3000&validation=4&seed=5", kind="semantic")
    assert torch.equal(more.validation[3].picture, pictures.validation[3].picture)
    with pytest.raises(ValueError, match="for detection or instances or semantic, not for kind='classification'"):
        load_pictures("scenes")


def test_a_folder_in_three_parts_has_one_to_test_on_and_all_of_one_without_can_be_validated_on(tmp_path: Path):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        for name in ("rose", "tulip"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                write_image(tmp_path / part / name / f"{i}.png", torch.zeros(3, 4, 4, dtype=torch.uint8))
    pictures = load_pictures(str(tmp_path))
    assert [len(part) for part in (pictures.train, pictures.validation, pictures.test)] == [8, 4, 6]
    assert all("/test/" in record.place for record in pictures.test)
    whole = load_pictures(f"{tmp_path / 'train'}?validation=1")
    assert (len(whole.train), len(whole.validation)) == (0, 8)
    (tmp_path / "test" / "tulip").rename(tmp_path / "test" / "lily")
    with pytest.raises(ValueError, match=r"has the class 'lily', which .*train has not"):
        load_pictures(str(tmp_path))


def test_generated_parts_share_no_picture():
    scenes = load_pictures("scenes?size=24&train=3&validation=3&test=3", "semantic")
    places = [record.place for part in (scenes.train, scenes.validation, scenes.test) for record in part]
    assert len(set(places)) == 9
    assert len(load_pictures("scenes", "semantic").test) == 0
