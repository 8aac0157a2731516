"""What models say of pictures: what their numbers mean, at the picture's own size, whatever the batch."""

from typing import Any

import pytest
import torch

from glassformer.image.postprocess import instance_segments, semantic_maps, sigmoid_detections, softmax_detections
from glassformer.image.processor import ImageProcessor, ShortestEdge
from glassformer.models.catalog import build, model_config
from glassformer.models.conditional_detr import ConditionalDETRConfig
from glassformer.models.detr import DETRConfig
from glassformer.models.mask2former_config import Mask2FormerConfig
from glassformer.models.resnet import ResNetConfig
from glassformer.models.segformer import SegFormerConfig
from glassformer.models.swin import SwinConfig
from glassformer.models.vit import ViTConfig
from glassformer.prediction import predict_boxes, predict_class_maps, predict_image_classes, predict_masks
from glassformer.prediction.image_masks import WORKING
from glassformer.prediction.pictures import head_of

NAMES = ("cat", "dog", "owl")
SHAPES = ((20, 30), (24, 24), (33, 17))
BACKBONE = ResNetConfig(stem_dim=8, dims=(8, 16), depths=(1, 1), block="basic")
FINDS: dict[str, Any] = dict(num_queries=9, dim=16, num_encoder_layers=1, num_decoder_layers=1, num_heads=2,
                             hidden_dim=16, backbone=BACKBONE, num_classes=3, labels=NAMES)  # fmt: skip
SIZED = ImageProcessor(size=(32, 32))
PADDED = ImageProcessor(size=ShortestEdge(32, 48), pad=True, family="detr")


def redrawn(config: Any, head: str) -> Any:
    torch.manual_seed(0)
    model = build(config, head=head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


@pytest.fixture
def pictures() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (3, *shape), generator=generator, dtype=torch.uint8) for shape in SHAPES]


def test_classes_are_ranked_with_their_probabilities(pictures: list[torch.Tensor]) -> None:
    config = ViTConfig(image_size=32, patch_size=8, dim=16, num_layers=1, num_heads=2, hidden_dim=16, num_classes=3,
                       labels=NAMES)  # fmt: skip
    model = redrawn(config, "image_classification").train()
    found = predict_image_classes(model, SIZED, pictures, top=None, batch_size=2)
    assert model.training
    with torch.no_grad():
        shares = model.eval()(**SIZED(pictures)).logits.softmax(-1)
    for ranking, row in zip(found, shares, strict=True):
        by_name = dict(zip(ranking.labels, ranking.probabilities, strict=True))
        assert [by_name[name] for name in NAMES] == pytest.approx(row.tolist(), abs=1e-6)
        assert list(ranking.probabilities) == sorted(ranking.probabilities, reverse=True)
    assert [each.labels for each in predict_image_classes(model, SIZED, pictures, top=1)] == [
        each.labels[:1] for each in found
    ]
    with pytest.raises(ValueError, match="top=0"):
        predict_image_classes(model, SIZED, pictures, top=0)


@pytest.mark.parametrize(
    ("config", "detect"),
    [(DETRConfig(**FINDS), softmax_detections), (ConditionalDETRConfig(**FINDS), sigmoid_detections)],
)
@pytest.mark.parametrize("processor", [SIZED, PADDED])
def test_boxes_lie_in_the_pictures_own_pixels(
    config: Any, detect: Any, processor: ImageProcessor, pictures: list[torch.Tensor]
) -> None:
    model = redrawn(config, "object_detection")
    found = predict_boxes(model, processor, pictures, threshold=0.2)
    for prediction, picture in zip(found, pictures, strict=True):
        with torch.no_grad():
            output = model(processor([picture])["pixel_values"])
        (wanted,) = detect(output.logits, output.pred_boxes, [picture.shape[1:]], threshold=0.2)
        assert len(wanted) > 0
        torch.testing.assert_close(prediction.found.boxes, wanted.boxes, atol=1e-3, rtol=1e-4)
        rows = prediction.rows()
        assert [row["score"] for row in rows] == pytest.approx(sorted(wanted.scores.tolist(), reverse=True), abs=1e-6)
        assert {row["class"] for row in rows} == {NAMES[i] for i in wanted.classes.tolist()}
        assert prediction.draw(picture, title="x").shape[0] == 3
    assert [each.rows() for each in predict_boxes(model, processor, pictures, threshold=1.0)] == [[], [], []]


def test_maps_of_classes_are_as_large_as_their_pictures(pictures: list[torch.Tensor]) -> None:
    config = SegFormerConfig(dims=(8, 16), depths=(1, 1), num_heads=(1, 2), patch_sizes=(3, 3), strides=(2, 2),
                             reductions=(2, 1), hidden_ratios=(2, 2), decoder_dim=8, num_classes=3,
                             labels=NAMES)  # fmt: skip
    model = redrawn(config, "semantic_segmentation")
    found = predict_class_maps(model, SIZED, pictures)
    with torch.no_grad():
        wanted = semantic_maps(model(SIZED(pictures)["pixel_values"]).logits, SHAPES)
    for prediction, map, picture in zip(found, wanted, pictures, strict=True):
        assert prediction.classes.equal(map)
        assert sum(row["share"] for row in prediction.rows()) == pytest.approx(1.0)
        assert prediction.draw(picture).shape[0] == 3


def test_masks_are_those_of_the_surest_queries(pictures: list[torch.Tensor]) -> None:
    config = Mask2FormerConfig(
        dim=32, mask_dim=16, num_heads=2, num_encoder_layers=1, encoder_hidden_dim=32, num_layers=1, hidden_dim=32,
        num_queries=6, num_classes=3, labels=NAMES,
        backbone=SwinConfig(image_size=32, patch_size=2, dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2),
                            window_size=4),
    )  # fmt: skip
    model = redrawn(config, "universal_segmentation").double()  # whether a place is inside a mask hangs on a rounding
    found = predict_masks(model, SIZED, pictures, threshold=0.1)
    with torch.no_grad():
        output = model(SIZED(pictures)["pixel_values"])
    logits = output.class_queries_logits.float(), output.masks_queries_logits.float()
    wanted = instance_segments(*logits, SHAPES, threshold=0.1, working_size=WORKING)
    assert any(len(segments) for segments in wanted)
    for prediction, segments, picture in zip(found, wanted, pictures, strict=True):
        scores = [row["score"] for row in prediction.rows()]
        assert scores == pytest.approx(sorted(segments.scores.tolist(), reverse=True), abs=1e-6)
        assert prediction.found.masks.equal(segments.masks)
        assert prediction.draw(picture, title="x").shape[0] == 3


def test_heads_are_known_by_what_they_are_for() -> None:
    assert head_of(redrawn(DETRConfig(**FINDS), "object_detection")) == "object_detection"
    with torch.device("meta"):
        assert head_of(build(model_config("vit-tiny-patch16-224"))) is None
