"""Learning where things are: batches, mirror images, baselines and the sheets that are drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassformer.image.datasets import load_pictures
from glassformer.image.files import read_image, write_image
from glassformer.image.objects import boxes_of
from glassformer.image.processor import ImageProcessor
from glassformer.models.outputs import SegmentationOutput, UniversalSegmentationOutput
from glassformer.training import load_recipe, train
from glassformer.training.tasks.mask_segmentation import ShownMasks, masked, regions
from glassformer.training.tasks.pictures import Seen, as_records
from glassformer.training.tasks.segments import coloured, flipped, mirrored, whole
from glassformer.training.tasks.semantic_segmentation import ShownMaps, commonest, everywhere, mapped

PROCESSOR = ImageProcessor(size=(32, 32))
TOML = """
[model]
name = "segformer"
dims = [8, 16]
depths = [1, 1]
num_heads = [1, 2]
patch_sizes = [3, 3]
strides = [2, 2]
reductions = [2, 1]
hidden_ratios = [2, 2]
decoder_dim = 16

[task]
name = "semantic_segmentation"

[data]
source = "{source}"
image_size = 24
batch_size = 4

[optimizer]
name = "adamw"
learning_rate = 5e-3

[training]
steps = {steps}
log_every = 10
device = "cpu"

[schedule]
name = "constant"

[evaluation]
every = {steps}
"""


def scenes(kind: str) -> Seen:
    return whole(as_records(load_pictures("scenes?size=32&train=12&validation=1", kind).train), PROCESSOR)


def test_a_mirrored_picture_takes_its_map_boxes_and_masks_along() -> None:
    record = scenes("instances").records[3]
    turned = mirrored(record)
    assert record.objects is not None
    assert turned.objects is not None
    assert turned.objects.masks is not None
    assert torch.equal(turned.picture.flip(2), record.picture)
    assert torch.equal(turned.objects.boxes, boxes_of(turned.objects.masks))
    again = mirrored(turned).objects
    assert again is not None
    assert torch.equal(again.boxes, record.objects.boxes)
    mapped_record = scenes("semantic").records[3]
    semantic = mirrored(mapped_record).semantic
    assert semantic is not None
    assert torch.equal(semantic.flip(1), mapped_record.semantic)


def test_a_share_of_the_pictures_is_mirrored_by_the_generator_alone() -> None:
    records = scenes("semantic").some(range(12))
    for chance, expected in ((0.0, 0), (1.0, 12)):
        turned = flipped(records, chance, np.random.default_rng(0))
        assert sum(not torch.equal(a.picture, b.picture) for a, b in zip(records, turned, strict=True)) == expected
    first, second = (flipped(records, 0.5, np.random.default_rng(4)) for _ in range(2))
    assert all(torch.equal(a.picture, b.picture) for a, b in zip(first, second, strict=True))


def test_batches_hold_what_the_models_read() -> None:
    batch = mapped(scenes("semantic").some(range(3)), PROCESSOR)
    assert batch.inputs["pixel_values"].shape == (3, 3, 32, 32)
    assert batch.inputs["labels"].shape == (3, 32, 32)
    assert batch.counted == 3 * 32 * 32
    objects = scenes("instances")
    batch = masked(objects.some(range(3)), PROCESSOR)
    assert [masks.shape[0] for masks in batch.inputs["mask_labels"]] == [
        len(each) for each in batch.inputs["class_labels"]
    ]
    assert batch.counted == batch.units == 3
    assert len(batch.rows(1, 3).inputs["mask_labels"]) == 2


def test_the_right_answer_is_measured_as_perfect_and_drawn() -> None:
    pictures, labels = scenes("semantic"), ("background", *"abcdefgh")
    maps = ShownMaps(pictures, labels, 5)
    kept = []
    for batch in maps.batches():
        logits = torch.nn.functional.one_hot(batch.inputs["labels"], 9).permute(0, 3, 1, 2).float()
        kept.append(maps.keep(batch, SegmentationOutput(None, logits)))
    measured = maps.measure(None, 0.0, kept, final=True)
    assert measured.metrics["mean_iou"] == measured.metrics["pixel_accuracy"] == 1
    assert {name for name in measured.metrics if name.startswith("iou ")} <= {f"iou {label}" for label in labels}
    assert measured.pictures["predictions.png"].shape[0] == 3
    assert not maps.measure(None, 0.0, kept, final=False).pictures


def test_the_right_masks_have_a_precision_of_one() -> None:
    pictures = scenes("instances")
    masks = ShownMasks(pictures, tuple("abcdefgh"), 5)
    kept = []
    for batch in masks.batches():
        classes, there = torch.full((len(batch), 6, 9), -30.0), torch.full((len(batch), 6, 32, 32), -30.0)
        classes[..., -1] = 0
        for i, (numbers, truth) in enumerate(
            zip(batch.inputs["class_labels"], batch.inputs["mask_labels"], strict=True)
        ):
            for query, (number, mask) in enumerate(zip(numbers, truth, strict=True)):
                classes[i, query, number], there[i, query] = 30.0, mask * 60 - 30
        kept.append(masks.keep(batch, UniversalSegmentationOutput(None, classes, there)))
    measured = masks.measure(None, 0.0, kept, final=True)
    assert measured.metrics["mask_ap"] == pytest.approx(1.0)
    assert measured.pictures["predictions.png"].shape[0] == 3


def test_baselines_are_what_they_say() -> None:
    semantic = scenes("semantic")
    assert commonest(semantic, 9) == 0
    found = everywhere(0, semantic, 9)
    there = torch.stack([record.semantic for record in semantic.some(range(12))])  # type: ignore[misc]
    background = float((there == 0).float().mean())
    assert found["pixel_accuracy"] == pytest.approx(background)
    assert found["mean_iou"] == pytest.approx(background / len(there.unique()))
    assert 0 <= regions(scenes("instances"), PROCESSOR)["mask_ap"] < 0.2


def test_a_map_is_drawn_in_the_colours_of_its_classes_and_white_where_there_is_none() -> None:
    drawn = coloured(torch.tensor([[0, 1], [255, 1]]))
    assert drawn.shape == (3, 2, 2)
    assert torch.equal(drawn[:, 0, 1], drawn[:, 1, 1])
    assert not torch.equal(drawn[:, 0, 0], drawn[:, 0, 1])
    assert drawn[:, 1, 0].tolist() == [255, 255, 255]


def two_halves(folder: Path) -> str:
    """Pictures that are bright on the one side, and maps that say where; as two folders of files."""
    random = torch.Generator().manual_seed(0)
    for i in range(20):
        bright = torch.zeros(24, 24, dtype=torch.bool)
        bright[:, : 6 + i % 12] = True
        noise = torch.randint(0, 60, (3, 24, 24), generator=random)
        for name, pixels in (("photos", noise + 150 * bright), ("masks", bright.expand(3, -1, -1))):
            (folder / name).mkdir(exist_ok=True)
            if name == "photos":
                write_image(folder / name / f"{i}.png", pixels.byte())
            else:
                from PIL import Image

                Image.fromarray(pixels[0].byte().numpy()).save(folder / name / f"{i}.png")
    (folder / "labels.txt").write_text("dark\nbright\n")
    return f"{folder / 'photos'}::{folder / 'masks'}?validation=0.3&labels={folder / 'labels.txt'}"


def test_pictures_and_maps_from_files_are_learned_from(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(TOML.format(source=two_halves(tmp_path), steps=60))
    run = train(load_recipe(path), run_folder=tmp_path / "run")
    assert run.result is not None
    assert run.model.config.labels == ("dark", "bright")
    assert run.result["metrics"]["mean_iou"] > 0.9 > run.result["baseline"]["mean_iou"]
    assert read_image(run.folder / "predictions.png").shape[0] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.augment.rotate": "10.0"}, "can only flip pictures that have maps"),
        ({"model.name": "vit"}, "'vit', which has no head for 'semantic_segmentation'"),
        ({"data.source": "digits"}, "not for kind='semantic'"),
    ],
)
def test_what_does_not_go_together_is_said(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    text = TOML.format(source="scenes?size=24&train=8&validation=4", steps=2)
    if "model.name" in changes:
        text = "[model]\nname = 'vit'\nimage_size = 24\npatch_size = 8\n\n" + text[text.index("[task]") :]
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        train(load_recipe(path, {k: v for k, v in changes.items() if k != "model.name"}), run_folder=tmp_path / "run")
