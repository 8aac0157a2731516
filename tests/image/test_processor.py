"""Pictures come out of our processors as out of Hugging Face's: every bit, at odd sizes, and through both files."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassformer.image.objects import Objects, boxes_of
from glassformer.image.processor import ImageProcessor, ShortestEdge, load_image_processor, mask_labels
from glassformer.image.processor_file import FAMILIES, to_attributes

SMALL = {"size": {"height": 40, "width": 32}}
EDGES = {"size": {"shortest_edge": 40, "longest_edge": 63}}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("vit", {}),
    ("vit", {**SMALL, "resample": 3, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}),
    ("vit", {**SMALL, "do_normalize": False}),
    ("vit", {**SMALL, "do_rescale": False}),
    ("vit", {**SMALL, "rescale_factor": 1 / 127.5}),
    ("deit", {}),
    ("deit", {**SMALL, "crop_size": {"height": 50, "width": 21}}),
    ("deit", {**SMALL, "crop_size": {"height": 21, "width": 51}}),
    ("bit", {}),
    ("bit", {"size": {"shortest_edge": 41}, "crop_size": {"height": 33, "width": 33}}),
    ("detr", EDGES),
    ("detr", {**SMALL, "pad_size": {"height": 50, "width": 60}}),
    ("conditional_detr", EDGES),
    ("deformable_detr", EDGES),
    ("segformer", SMALL),
    ("maskformer", EDGES),
    ("maskformer", {**EDGES, "size_divisor": 7, "ignore_index": 255}),
    ("mask2former", EDGES),
]


def theirs_of(family: str, options: dict[str, Any]) -> Any:
    kind = import_module(f"transformers.models.{family}.image_processing_pil_{family}")
    return getattr(kind, FAMILIES[family].theirs + "Pil")(**options)


def pictures(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    """Smooth in part and noisy in part, as photographs are."""
    made = []
    for rows, columns in sizes:
        ramp = torch.linspace(0, 200, rows)[:, None] + torch.linspace(0, 40, columns)
        made.append((ramp + torch.rand(3, rows, columns) * 55).to(torch.uint8))
    return made


ODD = ((37, 61), (64, 23), (50, 50), (91, 40))


@pytest.mark.parametrize(("family", "options"), CASES)
def test_every_bit_is_as_hugging_face_prepares_it(tmp_path: Path, family: str, options: dict[str, Any]):
    theirs = theirs_of(family, options)
    theirs.save_pretrained(tmp_path)
    ours = load_image_processor(tmp_path)
    batch = pictures(*ODD)
    expected = theirs([picture.numpy() for picture in batch], return_tensors="pt")
    got = ours(batch)
    assert set(got) == set(expected)
    assert got["pixel_values"].dtype == torch.float32
    torch.testing.assert_close(got["pixel_values"], expected["pixel_values"].float(), rtol=0, atol=0)
    if "pixel_mask" in expected:
        torch.testing.assert_close(got["pixel_mask"], expected["pixel_mask"], rtol=0, atol=0)


@pytest.mark.parametrize(("family", "options"), CASES)
def test_what_we_save_their_library_opens_and_does_the_same(tmp_path: Path, family: str, options: dict[str, Any]):
    theirs_of(family, options).save_pretrained(tmp_path / "theirs")
    ours = load_image_processor(tmp_path / "theirs")
    ours.save(tmp_path / "ours")
    assert load_image_processor(tmp_path / "ours") == ours
    kind = import_module(f"transformers.models.{family}.image_processing_pil_{family}")
    again = getattr(kind, FAMILIES[family].theirs + "Pil").from_pretrained(tmp_path / "ours")
    batch = pictures((37, 61))
    expected = again([picture.numpy() for picture in batch], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours(batch)["pixel_values"], expected.float(), rtol=0, atol=0)
    written = json.loads((tmp_path / "ours" / "preprocessor_config.json").read_text())
    assert written["image_processor_type"] == FAMILIES[family].theirs


def test_new_sizes_are_theirs_for_every_shape():
    from transformers.image_transforms import get_size_with_aspect_ratio

    chance = np.random.default_rng(0)
    for _ in range(500):
        rows, columns, length, longest = (int(n) for n in chance.integers(1, 300, 4))
        if longest < length:
            continue
        expected = get_size_with_aspect_ratio((rows, columns), length, longest)
        assert ShortestEdge(length, longest).of((rows, columns)) == expected


def test_boxes_and_masks_become_the_labels_that_theirs_become():
    theirs = theirs_of("detr", EDGES)
    batch = pictures((37, 61), (64, 30))
    objects, annotations = [], []
    for k, picture in enumerate(batch):
        masks = torch.zeros(2, *picture.shape[1:], dtype=torch.bool)
        masks[0, 3:20, 5:21] = masks[1, 10:33, 2:9] = True
        one = Objects.from_masks(torch.tensor([3, k]), masks)
        objects.append(one)
        boxes = [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in one.boxes.tolist()]
        found = [
            {"bbox": box, "category_id": int(c), "area": 1.0, "iscrowd": 0}
            for box, c in zip(boxes, one.classes, strict=True)
        ]
        annotations.append({"image_id": k, "annotations": found})
    expected = theirs([p.numpy() for p in batch], annotations=annotations, return_tensors="pt")["labels"]
    ours = ImageProcessor(size=ShortestEdge(40, 63), pad=True, family="detr")
    got = ours(batch, objects=objects)
    for mine, other, one in zip(got["labels"], expected, objects, strict=True):
        assert mine["class_labels"].tolist() == other["class_labels"].tolist() == one.classes.tolist()
        torch.testing.assert_close(mine["boxes"], other["boxes"], rtol=0, atol=1e-6)
        assert mine["masks"].shape[1:] == got["pixel_values"].shape[2:]
    masks, classes = mask_labels(got["labels"])
    assert masks[0].dtype == torch.float32
    assert classes[1].tolist() == [3, 1]


def test_masks_of_objects_and_maps_of_classes_are_resized_as_theirs():
    picture = pictures((37, 61))[0]
    numbers = torch.randint(0, 5, (4, 7)).repeat_interleave(10, 0).repeat_interleave(9, 1)[:37, :61].byte()
    theirs = theirs_of("maskformer", {**EDGES, "ignore_index": 255, "size_divisor": 8})
    expected = theirs([picture.numpy()], segmentation_maps=[numbers.numpy()], return_tensors="pt")
    ours = ImageProcessor(size=ShortestEdge(40, 63), multiple_of=8, pad=True, family="maskformer")
    present = numbers.unique().long()
    masks = numbers == present[:, None, None]
    got = ours([picture], objects=[Objects(classes=present, boxes=boxes_of(masks), masks=masks)])
    mine, classes = mask_labels(got["labels"])
    torch.testing.assert_close(mine[0], expected["mask_labels"][0], rtol=0, atol=0)
    assert classes[0].tolist() == expected["class_labels"][0].tolist()
    with_map = ours([picture], semantic=[numbers])["labels"]
    torch.testing.assert_close(with_map[0], (mine[0] * present[:, None, None]).sum(0).long())


@pytest.mark.parametrize("reduce", [False, True])
def test_semantic_maps_are_as_segformers(tmp_path: Path, reduce: bool):
    theirs = theirs_of("segformer", {**SMALL, "do_reduce_labels": reduce})
    theirs.save_pretrained(tmp_path)
    batch = pictures((37, 61), (64, 23))
    maps = [torch.randint(0, 256, picture.shape[1:], dtype=torch.uint8) for picture in batch]
    copies = [one.numpy().copy() for one in maps]
    expected = theirs([p.numpy() for p in batch], segmentation_maps=copies, return_tensors="pt")["labels"]
    got = load_image_processor(tmp_path)(batch, semantic=maps)["labels"]
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("published", "family", "expected"),
    [
        (
            {"do_normalize": True, "do_resize": True, "size": 224, "feature_extractor_type": "ViTFeatureExtractor"},
            "vit",
            {"size": (224, 224)},
        ),
        (
            {
                "feature_extractor_type": "DetrFeatureExtractor",
                "format": "coco_detection",
                "max_size": 1333,
                "size": 80,
            },
            "detr",
            {"size": ShortestEdge(80, 1333), "pad": True},
        ),
        (
            {"feature_extractor_type": "SegformerFeatureExtractor", "reduce_labels": True, "size": 64},
            "segformer",
            {"size": (64, 64), "reduce_labels": True},
        ),
        (
            {"feature_extractor_type": "DeiTFeatureExtractor", "crop_size": 20, "size": 30, "resample": 3},
            "deit",
            {"size": (30, 30), "crop": (20, 20), "resample": "bicubic"},
        ),
        (
            {"image_processor_type": "Mask2FormerImageProcessor", "_max_size": 1333, "num_labels": 133, **EDGES}
            | {"reduce_labels": False, "size_divisor": 32, "ignore_index": 255},
            "mask2former",
            {"size": ShortestEdge(40, 63), "multiple_of": 32},
        ),
    ],
)
def test_files_of_the_feature_extractors_are_read(
    tmp_path: Path, published: dict[str, Any], family: str, expected: dict[str, Any]
):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(published))
    ours = load_image_processor(tmp_path)
    assert ours.family == family
    assert {name: getattr(ours, name) for name in expected} == expected


def test_a_file_that_names_no_type_goes_by_the_models(tmp_path: Path):
    (tmp_path / "preprocessor_config.json").write_text('{"size": 48}')
    with pytest.raises(ValueError, match="names no image_processor_type"):
        load_image_processor(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "swin"}')
    assert load_image_processor(tmp_path).size == (48, 48)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"do_blur": True}, "do_blur=True is not implemented for a ViTImageProcessor"),
        ({"do_pad": True}, "do_pad=True is not implemented"),
        ({"size": {"max_height": 3, "max_width": 4}}, "expected a height and a width, or a shortest_edge"),
        ({"resample": 9}, "resample=9 is none of Pillow's ways"),
        ({"image_mean": [0.5, 0.5]}, "image_mean=.*three numbers"),
        ({"image_std": [0.5, 0.5, 0]}, "must be above 0"),
        ({"image_std": [0.5, 0.5, float("inf")]}, "not all are finite"),
        ({"image_mean": ["red", 0, 0]}, "could not convert"),
        ({"rescale_factor": 0}, "must be above 0"),
        ({"do_resize": "yes"}, "do_resize='yes'; expected true or false"),
        ({"image_processor_type": 3}, "image_processor_type=3; expected the name"),
        ({"size": "big"}, "size='big' is not implemented"),
        ({"size": {"shortest_edge": 3.5}}, "whole numbers"),
        ({"size": {"height": True, "width": 3}}, "whole numbers"),
        ({"size": {"height": 0, "width": 4}}, "1 or more"),
        ({"image_processor_type": "DetrImageProcesor"}, "did you mean 'DetrImageProcessor'"),
    ],
)
def test_what_a_file_asks_for_and_is_not_here_is_refused(tmp_path: Path, wrong: dict[str, Any], sentence: str):
    said = {"image_processor_type": "ViTImageProcessor", **wrong}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=sentence):
        load_image_processor(tmp_path)


def test_a_folder_without_the_file_and_a_processor_without_words_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no preprocessor_config\.json"):
        load_image_processor(tmp_path)
    for processor, word in [
        (ImageProcessor(pad=True), "pad=True"),
        (ImageProcessor(reduce_labels=True), "reduce_labels=True"),
        (ImageProcessor(family="bert"), "family='bert'"),
        (ImageProcessor(shift=0.5), "shift=0.5"),
    ]:
        with pytest.raises(ValueError, match=word):
            processor.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert to_attributes(ImageProcessor())["size"] == {"height": 224, "width": 224}


def test_floats_and_bytes_of_one_picture_are_prepared_alike():
    picture = pictures((20, 30))[0]
    processor = ImageProcessor(size=None, mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.3))
    one, other = processor([picture])["pixel_values"], processor([picture.float() / 255])["pixel_values"]
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(processor.pixels(one), picture[None].float() / 255)
    sized = ImageProcessor(size=(10, 11))
    assert torch.equal(sized([picture])["pixel_values"], sized([picture.float() / 255])["pixel_values"])


def test_bad_pictures_and_targets_are_refused_in_a_sentence():
    ours, picture = ImageProcessor(size=(8, 8)), torch.rand(3, 6, 5)
    bad = picture.clone()
    bad[1, 2, 3] = float("nan")
    grey, wide = picture[:1], torch.rand(3, 9, 5)
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        ([], {}, "no pictures"),
        ([bad], {}, "not finite"),
        ([picture * 255], {}, "from .* to 2"),
        ([grey], {}, "3 channels"),
        ([picture[None]], {}, r"a picture is \(3, y, x\)"),
        ([picture], {"objects": []}, "0 objects for 1 pictures"),
        ([picture], {"semantic": [torch.zeros(6, 4, dtype=torch.uint8)]}, "map of classes of shape"),
        ([picture], {"semantic": [torch.zeros(6, 5)]}, "uint8"),
    ]
    for pictures_, targets, sentence in wrong:
        with pytest.raises(ValueError, match=sentence):
            ours(pictures_, **targets)
    outside = Objects(classes=torch.tensor([1]), boxes=torch.tensor([[0.0, 0.0, 9.0, 2.0]]))
    with pytest.raises(ValueError, match=r"box 0 .* beyond its picture of width 5 and height 6"):
        ours([picture], objects=[outside])
    with pytest.raises(ValueError, match="not kept through crop"):
        ImageProcessor(size=None, crop=(2, 2))([picture], objects=[Objects.none()])
    with pytest.raises(ValueError, match="make no batch"):
        ImageProcessor(size=None)([picture, wide])
    with pytest.raises(ValueError, match="above pad_size"):
        ImageProcessor(size=None, pad=True, pad_size=(8, 8))([wide])
    with pytest.raises(ValueError, match="too narrow"):
        ImageProcessor(size=ShortestEdge(2, 10))([torch.rand(3, 1, 400)])
    empty = ours([picture], objects=[Objects.none(mask_size=(6, 5))])["labels"][0]
    assert empty["boxes"].shape == (0, 4)
    assert empty["masks"].shape == (0, 8, 8)
