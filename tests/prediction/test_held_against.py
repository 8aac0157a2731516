"""Pictures and clips that a model is held against: which of a source, in whose numbers, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glassformer.image.files import write_image
from glassformer.image.processor import ImageProcessor
from glassformer.models.catalog import build
from glassformer.models.segformer import SegFormerConfig
from glassformer.prediction.held_against import held_against, part_of_source
from glassformer.training.tasks.pictures import numbers_by_name, renumbered

NAMES = ("sky", "sea", "sand")
CONFIG = SegFormerConfig(
    dims=(8, 8), depths=(1, 1), num_heads=(1, 1), patch_sizes=(3, 3), strides=(2, 2), reductions=(1, 1),
    hidden_ratios=(2, 2), decoder_dim=8, num_classes=3, labels=NAMES,
)  # fmt: skip


@pytest.fixture
def maps(tmp_path: Path) -> str:
    """Two pictures with maps that number sand, sky, sea, and 255."""
    for name in ("photos", "maps"):
        (tmp_path / name).mkdir()
    for i in range(2):
        write_image(tmp_path / "photos" / f"{i}.png", torch.full((3, 8, 8), 90 * i, dtype=torch.uint8))
        write_image(tmp_path / "maps" / f"{i}.png", torch.tensor([0, 1, 2, 255]).repeat(8, 2).byte())
    (tmp_path / "names.txt").write_text("sand\nsky\nsea\n")
    return f"{tmp_path / 'photos'}::{tmp_path / 'maps'}"


def model() -> Any:
    return build(CONFIG, head="semantic_segmentation")


def test_numbers_of_a_map_become_the_models_by_the_classes_names(maps: str, tmp_path: Path) -> None:
    named = f"{maps}?labels={tmp_path / 'names.txt'}"
    held = held_against(model(), ImageProcessor(size=(8, 8)), named)
    assert (held.count, held.unit, held.split) == (2, "pictures", "all")
    (batch,) = held.validation.batches()
    assert batch.inputs["labels"][0, 0, :4].tolist() == [2, 0, 1, 255]
    with pytest.raises(ValueError, match=r"does not say which classes its numbers are.*sky, sea, sand.*labels=FILE"):
        held_against(model(), ImageProcessor(size=(8, 8)), maps)


def test_of_a_processor_that_counts_without_the_first_number_it_is_nobodys(maps: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("other\nsky\nsea\n")
    held = held_against(
        model(), ImageProcessor(size=(8, 8), reduce_labels=True), f"{maps}?labels={tmp_path / 'names.txt'}"
    )
    (batch,) = held.validation.batches()
    assert batch.inputs["labels"][0, 0, :4].tolist() == [255, 0, 1, 255]


def test_a_picture_without_objects_and_a_crowd_are_no_mistake_and_a_file_without_pictures_is_said(
    tmp_path: Path,
) -> None:
    from glassformer.image.datasets import load_pictures

    images = [{"id": i, "file_name": f"{i}.png", "height": 8, "width": 8} for i in range(2)]
    note = {"image_id": 0, "category_id": 4, "bbox": [1, 1, 4, 4]}
    notes = [{"id": 1, "iscrowd": 0, **note}, {"id": 2, "iscrowd": 1, **note}]
    content = {"images": images, "annotations": notes, "categories": [{"id": 4, "name": "cat"}]}
    for i in range(2):
        write_image(tmp_path / f"{i}.png", torch.zeros(3, 8, 8, dtype=torch.uint8))
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    source = str(tmp_path / "boxes.json")
    records, labels, split = part_of_source(source, None, lambda said: load_pictures(said, "detection"))
    numbered = renumbered(records, numbers_by_name(source, labels, ("dog", "cat")))
    assert split == "all"
    assert [numbered[i].objects.classes.tolist() for i in range(2)] == [[1], []]
    with pytest.raises(ValueError, match=r"boxes.json has the class 'cat', which the model does not know.*'bat'"):
        numbers_by_name(source, labels, ("bat", "dog"))
    (tmp_path / "boxes.json").write_text(json.dumps({**content, "images": [], "annotations": []}))
    with pytest.raises(ValueError, match="has no pictures to validate on"):
        part_of_source(source, None, lambda said: load_pictures(said, "detection"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "boxes.json").rename(tmp_path / "elsewhere" / "boxes.json")
    (tmp_path / "elsewhere" / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(FileNotFoundError, match=r"0.png is not there .2 of 2 .*pictures=FOLDER"):
        load_pictures(str(tmp_path / "elsewhere" / "boxes.json"), "detection")


def test_a_model_without_a_head_is_held_against_nothing() -> None:
    with pytest.raises(ValueError, match="SegFormer says nothing of pictures"):
        held_against(build(CONFIG), ImageProcessor(), "digits")
