"""Boxes, maps and segments are those that Hugging Face's processors make of the same numbers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.conditional_detr.image_processing_pil_conditional_detr import ConditionalDetrImageProcessorPil
from transformers.models.deformable_detr.image_processing_pil_deformable_detr import DeformableDetrImageProcessorPil
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from glassformer.image.postprocess import (
    Detections,
    instance_segments,
    panoptic_segments,
    semantic_maps,
    semantic_maps_of_masks,
    sigmoid_detections,
    softmax_detections,
)

SIZES = [(37, 50), (64, 41)]


def same_detections(ours: list[Detections], theirs: list[dict[str, torch.Tensor]]) -> None:
    assert sum(map(len, ours)) > 0
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.scores, other["scores"], rtol=0, atol=0)
        assert mine.classes.tolist() == other["labels"].tolist()
        torch.testing.assert_close(mine.boxes, other["boxes"], rtol=1e-6, atol=1e-5)


def test_softmax_detections_are_detrs():
    logits, boxes = torch.randn(2, 30, 5) * 3, torch.rand(2, 30, 4)
    out = SimpleNamespace(logits=logits, pred_boxes=boxes)
    theirs = DetrImageProcessorPil().post_process_object_detection(out, threshold=0.6, target_sizes=SIZES)
    same_detections(softmax_detections(logits, boxes, SIZES, threshold=0.6), theirs)


@pytest.mark.parametrize("kind", [ConditionalDetrImageProcessorPil, DeformableDetrImageProcessorPil])
@pytest.mark.parametrize("top_k", [7, 1000])
def test_sigmoid_detections_are_theirs(kind: Any, top_k: int):
    logits, boxes = torch.randn(2, 30, 5) * 3, torch.rand(2, 30, 4)
    out = SimpleNamespace(logits=logits, pred_boxes=boxes)
    theirs = kind().post_process_object_detection(out, threshold=0.4, target_sizes=SIZES, top_k=top_k)
    same_detections(sigmoid_detections(logits, boxes, SIZES, threshold=0.4, top_k=top_k), theirs)


def test_semantic_maps_are_segformers():
    logits = torch.randn(2, 6, 9, 11)
    theirs: Any = SegformerImageProcessorPil().post_process_semantic_segmentation(SimpleNamespace(logits=logits), SIZES)
    for mine, other in zip(semantic_maps(logits, SIZES), theirs, strict=True):
        assert torch.equal(mine, other)


def queries(empty: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of 12 queries of 4 classes and no-object, with masks that are blobs rather than noise."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 20), indexing="ij")
    middle = torch.rand(2, 12, 2, 1, 1) * 1.6 - 0.8
    masks = 6 * (0.45 - (rows - middle[:, :, 0]).square() - (columns - middle[:, :, 1]).square())
    logits = torch.randn(2, 12, 5) * 4
    if empty:
        logits[1, :, -1] += 100
    return logits, masks


FAMILIES = [(MaskFormerImageProcessorPil, None), (Mask2FormerImageProcessorPil, (384, 384))]


@pytest.mark.parametrize(("kind", "working_size"), FAMILIES)
def test_semantic_maps_of_masks_are_theirs(kind: Any, working_size: tuple[int, int] | None):
    classes, masks = queries()
    out = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
    theirs = kind().post_process_semantic_segmentation(out, SIZES)
    for mine, other in zip(
        semantic_maps_of_masks(classes, masks, SIZES, working_size=working_size), theirs, strict=True
    ):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(("kind", "working_size"), FAMILIES)
def test_instances_are_theirs(kind: Any, working_size: tuple[int, int] | None, empty: bool):
    classes, masks = queries(empty)
    out = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
    ours = instance_segments(classes, masks, SIZES, threshold=0.3, working_size=working_size)
    covered = kind().post_process_instance_segmentation(out, threshold=0.3, target_sizes=SIZES)
    apart = kind().post_process_instance_segmentation(out, threshold=0.3, target_sizes=SIZES, return_binary_maps=True)
    assert len(ours[0]) > 2
    assert (len(ours[1]) == 0) == empty
    for mine, other, maps in zip(ours, covered, apart, strict=True):
        assert torch.equal(mine.numbers, other["segmentation"].long())
        assert mine.classes.tolist() == [segment["label_id"] for segment in other["segments_info"]]
        assert [round(s, 6) for s in mine.scores.tolist()] == [segment["score"] for segment in other["segments_info"]]
        if len(mine):
            assert torch.equal(mine.masks, maps["segmentation"].bool())


@pytest.mark.parametrize("stuff", [set(), {1, 2}])
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(("kind", "working_size"), FAMILIES)
def test_panoptic_segments_are_theirs(kind: Any, working_size: tuple[int, int] | None, empty: bool, stuff: set[int]):
    classes, masks = queries(empty)
    out = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks.clone())
    options: dict[str, Any] = {"threshold": 0.4, "mask_threshold": 0.4}
    theirs = kind().post_process_panoptic_segmentation(
        out, **options, overlap_mask_area_threshold=0.2, target_sizes=SIZES, label_ids_to_fuse=stuff
    )
    ours = panoptic_segments(
        classes, masks, SIZES, **options, least_visible=0.2, stuff=stuff, working_size=working_size
    )
    assert len(ours[0]) > 1
    assert any(segment["was_fused"] for one in theirs for segment in one["segments_info"]) == bool(stuff)
    for mine, other in zip(ours, theirs, strict=True):
        found = {}
        for segment in other["segments_info"]:  # theirs are told once for each query, fused ones too
            found.setdefault(segment["id"], segment)
        if found:  # their segments count from 1, and 0 is nobody's; where there are none at all, −1 is
            assert torch.equal(mine.numbers, other["segmentation"].long() - 1)
        else:
            assert torch.equal(mine.numbers, other["segmentation"].long())
        assert mine.classes.tolist() == [segment["label_id"] for segment in found.values()]
        assert [round(s, 6) for s in mine.scores.tolist()] == [segment["score"] for segment in found.values()]
        for number, mask in enumerate(mine.masks):
            assert torch.equal(mask, mine.numbers == number)


def test_sizes_are_one_for_each_picture():
    with pytest.raises(ValueError, match="2 sizes for 1 pictures"):
        semantic_maps(torch.zeros(1, 2, 3, 3), SIZES)
    with pytest.raises(ValueError, match="2 sizes for 1 pictures"):
        softmax_detections(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4), SIZES)
