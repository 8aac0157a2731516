"""DETR, conditional DETR and ResNet: published sizes, folders, the loss by hand, and a sentence for what is wrong."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from declared_detection import DETECTION_MODELS
from properties import build, close, redraw
from safetensors.torch import load_file, save_file

import glassformer
from glassformer.models.catalog import create_model
from glassformer.models.conditional_detr import ConditionalDETRConfig, ConditionalDETRForObjectDetection
from glassformer.models.detr import DETR, DETRConfig, DETRForObjectDetection
from glassformer.models.resnet import SIZES, ResNet, ResNetConfig, ResNetForImageClassification
from glassformer.models.set_loss import FocalClasses, OneClass, SetLoss, Targets
from glassformer.parts.sine_position import sine_grid, sine_points

BY_NAME = {case.name: case for case in DETECTION_MODELS}


@pytest.mark.parametrize(
    ("name", "head", "count"),
    [
        ("resnet-18", "image_classification", 11_689_512),
        ("resnet-34", "image_classification", 21_797_672),
        ("resnet-50", "image_classification", 25_557_032),
        ("resnet-101", "image_classification", 44_549_160),
        ("resnet-152", "image_classification", 60_192_808),
        ("detr-resnet-50", "object_detection", 41_524_768),
        ("conditional-detr-resnet-50", "object_detection", 43_418_401),
    ],
)
def test_with_its_head_it_has_the_published_number_of_parameters(name: str, head: str, count: int) -> None:
    with torch.device("meta"):
        assert create_model(name, head=head).num_parameters == count


def test_resnet_without_a_head_gives_what_transformers_gives_in_another_shape(tmp_path: Path) -> None:
    import transformers

    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], layer_type="basic")
    theirs: Any = redraw(transformers.ResNetModel(config)).eval()
    theirs.save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    assert type(ours) is ResNet
    pictures = torch.randn(2, 3, 39, 50)
    with torch.no_grad():
        expected, out = theirs(pictures), ours(pictures)
    close(out.last_hidden_state, expected.last_hidden_state.flatten(2).transpose(1, 2), 1e-5, "last_hidden_state")
    close(out.pooler_output, expected.pooler_output.flatten(1), 1e-5, "pooler_output")


def test_in_training_resnets_norms_measure_the_batch_as_transformers_do(tmp_path: Path) -> None:
    import transformers

    shape: Any = dict(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 1], num_labels=3)
    config = transformers.ResNetConfig(**shape)
    theirs: Any = redraw(transformers.ResNetForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    ours = ResNetForImageClassification.from_pretrained(tmp_path).train()
    pictures = torch.randn(4, 3, 40, 40)
    close(ours(pictures).logits, theirs.train()(pictures).logits, 1e-5, "logits")
    theirs.save_pretrained(tmp_path / "after")
    after = ResNetForImageClassification.from_pretrained(tmp_path / "after").state_dict()
    for name, value in ours.state_dict().items():
        close(value.float(), after[name].float(), 1e-5, name)


def test_without_heads_a_detectors_folder_opens_too(tmp_path: Path) -> None:
    import transformers

    make = BY_NAME["detr"].theirs
    assert make is not None
    config = make().config
    theirs: Any = redraw(transformers.DetrModel(config)).eval()
    theirs.save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    assert type(ours) is DETR
    pictures = torch.randn(2, 3, 40, 56)
    with torch.no_grad():
        close(ours(pictures).last_hidden_state, theirs(pictures).last_hidden_state, 1e-5, "last_hidden_state")


def timms(name: str) -> str:
    """What a tensor of the backbone is called in the files of the released detectors."""
    stage = re.compile(r"encoder\.stages\.(\d)\.layers\.(\d)\.")
    name = stage.sub(lambda found: f"layer{int(found[1]) + 1}.{found[2]}.", name).replace(
        "embedder.embedder", "layer.0"
    )
    for i in range(2):
        name = name.replace(f"layer.{i}.convolution", f"conv{i + 1}").replace(f"layer.{i}.normalization", f"bn{i + 1}")
    return name.replace("shortcut.convolution", "downsample.0").replace("shortcut.normalization", "downsample.1")


@pytest.mark.parametrize("family", ["detr", "conditional_detr"])
def test_the_released_folders_whose_backbone_has_timms_names_open_and_are_written_back(
    family: str, tmp_path: Path
) -> None:
    small: Any = dict(num_queries=4, dim=16, num_encoder_layers=1, num_decoder_layers=1, num_heads=2, hidden_dim=16)
    ours: Any = redraw(create_model(family, head="object_detection", backbone=SIZES["resnet-18"], **small)).eval()
    ours.save_pretrained(tmp_path)
    tensors = {timms(name): tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    assert "model.backbone.conv_encoder.model.layer2.0.downsample.1.running_var" in tensors
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"use_timm_backbone": True, "backbone": "resnet18", "backbone_config": None, "max_position_embeddings": 9}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    opened = glassformer.from_pretrained(tmp_path)
    assert opened.config.backbone_names == "timm"
    pictures = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(opened(pictures).logits, ours(pictures).logits)
    opened.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again/model.safetensors").keys() == tensors.keys()
    assert glassformer.from_pretrained(tmp_path / "again").config == opened.config


@pytest.mark.parametrize("kind", ["softmax", "focal"])
def test_the_loss_of_given_predictions_is_transformers_in_value_and_gradient(kind: str) -> None:
    from types import SimpleNamespace

    from transformers.loss.loss_deformable_detr import DeformableDetrForObjectDetectionLoss
    from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

    torch.manual_seed(0)
    layers, n = 3, 4 + (kind == "softmax")
    logits = torch.randn(layers, 3, 7, n, requires_grad=True)
    boxes = (0.2 + 0.3 * torch.rand(layers, 3, 7, 4)).requires_grad_()
    labels = BY_NAME["detr"].inputs()["labels"]
    config: Any = SimpleNamespace(
        class_cost=2, bbox_cost=3, giou_cost=4, num_labels=4, eos_coefficient=0.2, focal_alpha=0.3, auxiliary_loss=True,
        bbox_loss_coefficient=5, giou_loss_coefficient=3, decoder_layers=layers,
    )  # fmt: skip
    theirs = ForObjectDetectionLoss if kind == "softmax" else DeformableDetrForObjectDetectionLoss
    expected: Any = theirs(logits[-1], labels, "cpu", boxes[-1], config, logits, boxes)[0]
    ours = SetLoss(classes=OneClass(0.2) if kind == "softmax" else FocalClasses(0.3), class_cost=2, box_cost=3,
                   giou_cost=4, box_weight=5, giou_weight=3)  # fmt: skip
    loss = ours(list(zip(logits, boxes, strict=True)), Targets.of(labels, 3, 4, boxes))
    close(loss, expected, 1e-6, "loss")
    for mine, their in zip(*(torch.autograd.grad(each, (logits, boxes)) for each in (loss, expected)), strict=True):
        close(mine, their, 1e-5, "gradient")


def test_places_run_from_0_to_1_over_the_picture_alone() -> None:
    whole = sine_grid(torch.ones(1, 3, 4, dtype=torch.bool), 16, torch.float64)
    filled = torch.zeros(1, 5, 7, dtype=torch.bool)
    filled[:, :3, :4] = True
    torch.testing.assert_close(sine_grid(filled, 16, torch.float64)[:, :3, :4], whole)
    last = sine_points(torch.tensor([[1.0, 1.0]]), 8)
    torch.testing.assert_close(whole[0, 2, 3].float(), last[0], atol=1e-5, rtol=0)
    rows, columns = sine_points(torch.tensor([[0.25, 0.75]]), 4)[0].split(4)
    torch.testing.assert_close(rows[:2], torch.tensor([-1.0, 0.0]), atol=1e-6, rtol=0)  # 3/4 of a turn, rows first
    torch.testing.assert_close(columns[:2], torch.tensor([1.0, 0.0]), atol=1e-6, rtol=0)


def labelled(classes: list[int], boxes: list[list[float]]) -> dict[str, torch.Tensor]:
    return {"class_labels": torch.tensor(classes, dtype=torch.long), "boxes": torch.tensor(boxes).view(-1, 4)}


GOOD = [0.5, 0.5, 0.2, 0.2]


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([labelled([0], [GOOD])], ValueError, "labels are 1 pictures'; expected a list of 2 dicts"),
        ({"boxes": 3}, ValueError, "labels are a dict of pictures'; expected a list of 2 dicts"),
        ([3, 4], TypeError, r"labels\[0\] is a int; expected a dict"),
        ([{"boxes": torch.zeros(0, 4)}] * 2, KeyError, "has no tensor 'class_labels'"),
        ([labelled([0, 1], [GOOD])] * 2, ValueError, r'"class_labels" \(2,\) of torch.int64 and "boxes" \(1, 4\)'),
        ([labelled([3], [GOOD])] * 2, ValueError, r"labels\[0\] names class 3; the model knows 0 to 2"),
        ([labelled([-1], [GOOD])] * 2, ValueError, "names class -1"),
        ([labelled([0], [[0.5, 0.5, 0.0, 0.2]])] * 2, ValueError, r"box 0 \(cx cy w h = 0.5 0.5 0 0.2\) has no area"),
        ([labelled([0], [[0.9, 0.5, 0.4, 0.2]])] * 2, ValueError, "reaches beyond its picture, which is 0 to 1"),
        ([labelled([0], [[32.0, 32, 10, 10]])] * 2, ValueError, "reaches beyond its picture"),
        ([labelled([0], [[torch.nan, 0.5, 0.4, 0.2]])] * 2, ValueError, "is no box of finite numbers"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_shape_checks")
def test_wrong_labels_are_said(labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build(BY_NAME["detr"])(torch.zeros(2, 3, 40, 40), labels=labels)


@pytest.mark.usefixtures("no_shape_checks")
def test_wrong_pictures_masks_and_configs_are_said() -> None:
    model = build(BY_NAME["detr"])
    with pytest.raises(ValueError, match=r"pixel_mask has shape \(2, 40\); expected \(2, 40, 40\)"):
        model(torch.zeros(2, 3, 40, 40), pixel_mask=torch.ones(2, 40))
    with pytest.raises(ValueError, match="has 1 channels"):
        model(torch.zeros(2, 1, 40, 40))
    with pytest.raises(ValueError, match="every pixel must be finite"):
        model(torch.full((2, 3, 40, 40), torch.nan))
    for make, message in (
        (lambda: DETRConfig(dim=18), "dim=18 cannot be halved twice"),
        (lambda: ConditionalDETRConfig(num_queries=0), "num_queries=0 predicts nothing"),
        (lambda: ResNetConfig(dims=(4,)), "describe no stages"),
        (lambda: ResNetConfig(block="wide"), "block='wide' is unknown"),
        (lambda: ResNetConfig(dims=(6, 8), depths=(1, 1)), "four times narrower"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(use_timm_backbone=True), "a backbone of the kind 'resnet'; expected"),
        (dict(use_timm_backbone=True, backbone="efficientnet", backbone_config=None), "timm's backbone 'efficientnet'"),
        (dict(backbone_config={"model_type": "swin"}), "a backbone of the kind 'swin'"),
        (dict(backbone_config={"model_type": "resnet", "out_features": ["stage2"]}), "only the last stage, 'stage4'"),
        (dict(backbone_config={"model_type": "resnet", "hidden_act": "gelu"}), "hidden_act='gelu'; only 'relu'"),
        (dict(num_channels=1), "num_channels=1; its backbone 3"),
        (dict(dilation=True), "dilation=True; only False"),
        (dict(position_embedding_type="learned"), "position_embedding_type='learned'; only 'sine'"),
        (dict(decoder_ffn_dim=7), "only equal ones are implemented"),
    ],
)
def test_configs_that_are_not_implemented_are_refused(changes: dict[str, Any], message: str) -> None:
    said = {"model_type": "detr", "use_timm_backbone": False, "backbone_config": {"model_type": "resnet"}}
    said |= {"encoder_ffn_dim": 2048, "id2label": {str(i): f"LABEL_{i}" for i in range(91)}}
    assert DETRForObjectDetection.config_table.load(said) == DETRConfig()
    with pytest.raises(ValueError, match=message):
        DETRForObjectDetection.config_table.load(said | changes)


def test_a_fresh_conditional_detr_looks_everywhere_and_believes_nothing() -> None:
    torch.manual_seed(0)
    model = ConditionalDETRForObjectDetection(ConditionalDETRConfig(
        backbone=ResNetConfig(stem_dim=8, dims=(8, 16), depths=(1, 1), block="basic"), num_queries=50, dim=64,
        num_encoder_layers=1, num_decoder_layers=1, hidden_dim=32, num_classes=3,
    )).eval()  # fmt: skip
    with torch.no_grad():
        out = model(torch.randn(2, 3, 64, 64))
    assert out.logits.sigmoid().max() < 0.1
    spread = out.pred_boxes[0, :, :2]
    assert (spread.amin(0) < 0.4).all()
    assert (spread.amax(0) > 0.6).all()
