"""Detection as a task: boxes follow their pictures, places learn, matches are counted, a run ends in a folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glassformer.image.datasets import Record
from glassformer.image.objects import Objects
from glassformer.image.postprocess import Detections
from glassformer.image.processor import ImageProcessor, load_image_processor
from glassformer.metrics.coco_ap import ap_of_classes
from glassformer.models import from_pretrained
from glassformer.models.conditional_detr import ConditionalDETRConfig, ConditionalDETRForObjectDetection
from glassformer.models.detr import DETRConfig, DETRForObjectDetection
from glassformer.models.resnet import ResNetConfig
from glassformer.models.set_loss import Targets
from glassformer.training import train
from glassformer.training.places import PlaceObjective, box_place_loss, check_places, owners
from glassformer.training.recipe import load_recipe
from glassformer.training.tasks.detection import detected, matches, precision
from glassformer.training.tasks.segments import mirrored

SMALL: Any = dict(
    backbone=ResNetConfig(stem_dim=8, dims=(8, 16), depths=(1, 1), block="basic"), num_queries=6, dim=16,
    num_encoder_layers=1, num_decoder_layers=1, num_heads=2, hidden_dim=16, num_classes=3, dropout=0.0,
)  # fmt: skip


def record(boxes: list[list[float]], size: tuple[int, int] = (20, 40)) -> Record:
    objects = Objects(classes=torch.arange(len(boxes)), boxes=torch.tensor(boxes).view(-1, 4).float())
    return Record(picture=torch.zeros(3, *size, dtype=torch.uint8), place="here", objects=objects)


def label(*boxes: list[float]) -> dict[str, Tensor]:
    return {"class_labels": torch.arange(len(boxes)), "boxes": torch.tensor(list(boxes)).view(-1, 4)}


def test_boxes_are_in_parts_of_their_picture_whatever_its_new_size() -> None:
    batch = detected([record([[10, 5, 20, 15]]), record([])], ImageProcessor(size=(64, 64)))
    assert batch.inputs["pixel_values"].shape == (2, 3, 64, 64)
    torch.testing.assert_close(batch.inputs["labels"][0]["boxes"], torch.tensor([[0.375, 0.5, 0.25, 0.5]]))
    assert batch.inputs["labels"][1]["boxes"].shape == (0, 4)
    assert (batch.units, batch.counted) == (2, 2)


def test_a_mask_of_pixels_is_there_only_where_something_is_padding() -> None:
    unsized = ImageProcessor(size=None, pad=True, family="detr")
    assert "pixel_mask" not in detected([record([]), record([])], unsized).inputs
    mask = detected([record([]), record([], (10, 40))], unsized).inputs["pixel_mask"]
    assert mask[1, 10:].sum() == 0


def test_a_mirror_image_has_mirrored_boxes_and_two_give_the_picture_back() -> None:
    one = record([[10, 5, 20, 15]])
    one.picture[:, 5:15, 10:20] = 255
    turned = mirrored(one)
    assert turned.objects is not None
    assert turned.objects.boxes.tolist() == [[20, 5, 30, 15]]
    assert (turned.picture[:, 5:15, 20:30] == 255).all()
    again = mirrored(turned)
    assert again.objects is not None
    assert again.objects.boxes.tolist() == [[10, 5, 20, 15]]


def test_a_place_belongs_to_the_smallest_object_around_its_centre() -> None:
    labels = [label([0.5, 0.5, 1.0, 1.0], [0.25, 0.25, 0.5, 0.5]), label(), label([0.75, 0.75, 0.1, 0.1])]
    targets = Targets.of(labels, 3, 3, torch.zeros(()))
    centres = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    assert owners(centres, targets).tolist() == [[1, 0, 0, 0], [-1] * 4, [-1, -1, -1, 2]]


def test_places_teach_the_encoder_and_the_heads() -> None:
    torch.manual_seed(0)
    model = ConditionalDETRForObjectDetection(ConditionalDETRConfig(**SMALL)).train()
    inputs: Any = {"pixel_values": torch.randn(2, 3, 48, 64), "labels": [label([0.5, 0.5, 0.5, 0.5]), label()]}
    plain = model(**inputs)
    more = box_place_loss(model, plain, inputs)
    torch.testing.assert_close(PlaceObjective(box_place_loss, 2.0)(model, inputs), plain.loss + 2 * more)
    assert more > 0
    assert not torch.equal(*(torch.autograd.grad(loss, model.body.encoder.project.weight, retain_graph=True)[0]
                             for loss in (plain.loss, plain.loss + more)))  # fmt: skip
    check_places(model)
    with pytest.raises(TypeError, match="places learn in a conditional DETR"):
        check_places(DETRForObjectDetection(DETRConfig(**SMALL)))
    with pytest.raises(ValueError, match="these have a pixel_mask"):
        PlaceObjective(box_place_loss, 2.0)(model, inputs | {"pixel_mask": torch.ones(2, 48, 64)})


def test_places_learn_where_nothing_is_and_where_all_pictures_are_empty() -> None:
    torch.manual_seed(0)
    model = ConditionalDETRForObjectDetection(ConditionalDETRConfig(**SMALL)).train()
    loss = PlaceObjective(box_place_loss, 1.0)(
        model, {"pixel_values": torch.randn(2, 3, 32, 32), "labels": [label(), label()]}
    )
    loss.backward()
    assert loss.isfinite()


def test_matches_name_the_query_of_each_object() -> None:
    model = ConditionalDETRForObjectDetection(ConditionalDETRConfig(**SMALL))
    boxes = 0.1 + 0.3 * torch.rand(2, 6, 4)
    labels = [label(boxes[0, 4].tolist(), boxes[0, 1].tolist()), label(boxes[1, 3].tolist())]
    assert matches(model, torch.zeros(2, 6, 3), boxes, labels).tolist() == [4, 1, 3]


def test_precision_is_1_for_what_is_there_and_of_each_class_that_is_there() -> None:
    there = [Objects(classes=torch.tensor([0, 2]), boxes=torch.tensor([[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]]))]
    found = [Detections(scores=torch.tensor([0.9, 0.8]), classes=there[0].classes, boxes=there[0].boxes)]
    assert precision(found, there) == pytest.approx({"ap": 1.0, "ap50": 1.0, "ap75": 1.0})
    of_classes = ap_of_classes([vars(one) for one in found], [vars(one) for one in there], 3, kind="boxes")
    assert of_classes == pytest.approx({0: 1, 2: 1})


RECIPE = """
[model]
name = "{model}"
num_queries = 6
dim = 16
num_encoder_layers = 1
num_decoder_layers = 1
num_heads = 2
hidden_dim = 16
dropout = 0.0
[model.backbone]
stem_dim = 8
dims = [8, 16]
depths = [1, 1]
block = "basic"
[task]
name = "detection"
learn_norms = true
{places}
[data]
source = "scenes?train=24&validation=12&size=32"
image_size = 32
batch_size = 4
augment.flip = 0.5
[schedule]
name = "constant"
[training]
steps = 4
save_every = 2
[evaluation]
every = 2
batch_size = 6
"""


@pytest.mark.parametrize(("model", "places"), [("conditional_detr", "place_weight = 1.0"), ("detr", "")])
def test_a_run_ends_in_a_folder_that_opens_and_resumes_to_the_bit(model: str, places: str, tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE.format(model=model, places=places))
    recipe = load_recipe(path)
    whole = train(recipe, run_folder=tmp_path / "whole")
    assert whole.result is not None
    assert (tmp_path / "whole/predictions.png").stat().st_size > 1000
    rows = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert any("match_changes" in str(row) for row in rows)
    folder = tmp_path / "whole/model"
    opened = from_pretrained(folder)
    assert load_image_processor(folder).size == (32, 32)
    assert opened.config.labels[:2] == ("circle", "ring")
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(opened(pictures).logits, whole.model.eval()(pictures).logits)
    half = tmp_path / "half"

    def stop(event: Any) -> None:
        if type(event).__name__ == "Saved":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, run_folder=half, on_event=stop)
    resumed = train(recipe, run_folder=half, resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_wrong_recipes_are_said(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    text = RECIPE.format(model="conditional_detr", places="place_weight = 1.0")
    for old, new, message in (
        ("flip = 0.5", "rotate = 5", "can only flip"),
        ("place_weight = 1.0", "place_weight = -1.0", "place_weight=-1.0"),
        ('name = "conditional_detr"', 'name = "vit"', "."),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises((ValueError, TypeError, KeyError), match=message):
            train(load_recipe(path), run_folder=tmp_path / "run")
