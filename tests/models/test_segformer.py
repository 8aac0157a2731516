"""SegFormer equals transformers' at any size, in all its forms, and says what it cannot do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from properties import close, redraw

import glassformer
from glassformer.models.catalog import create_model
from glassformer.models.segformer import SegFormer, SegFormerConfig
from glassformer.models.segformer_heads import (
    SegFormerForImageClassification,
    SegFormerForSemanticSegmentation,
    enlarged,
)

SMALL: dict[str, Any] = dict(
    dims=(8, 12), depths=(1, 2), num_heads=(1, 2), patch_sizes=(7, 3), strides=(4, 2), reductions=(4, 1),
    hidden_ratios=(2, 2), decoder_dim=8, num_classes=5,
)  # fmt: skip
THEIRS: dict[str, Any] = dict(
    hidden_sizes=[8, 12], depths=[1, 2], num_attention_heads=[1, 2], patch_sizes=[7, 3], strides=[4, 2],
    sr_ratios=[4, 1], mlp_ratios=[2, 2], num_encoder_blocks=2, decoder_hidden_size=8, num_labels=5,
)  # fmt: skip


def small(**changes: Any) -> SegFormerForSemanticSegmentation:
    return redraw(SegFormerForSemanticSegmentation(SegFormerConfig(**SMALL | changes))).eval()  # type: ignore


@pytest.mark.parametrize(
    ("name", "segmenting", "classifying"),
    [
        ("segformer-b0", 3_752_694, 3_576_392),
        ("segformer-b1", 13_715_798, 13_664_424),
        ("segformer-b2", 27_461_974, 24_709_288),
        ("segformer-b3", 47_337_814, 44_585_128),
        ("segformer-b4", 64_108_374, 61_355_688),
        ("segformer-b5", 84_708_694, 81_956_008),
    ],
)
def test_with_150_classes_to_segment_or_1000_to_name_it_has_the_published_number_of_parameters(
    name: str, segmenting: int, classifying: int
) -> None:
    with torch.device("meta"):
        assert create_model(name, head="semantic_segmentation").num_parameters == segmenting
        assert create_model(name, head="image_classification", num_classes=1000).num_parameters == classifying


# 32 is whole throughout; from the others patches and reductions leave a rest; 16 × 13 has one square to read.
@pytest.mark.parametrize("size", [(32, 32), (31, 50), (47, 33), (16, 13)], ids=str)
@pytest.mark.parametrize("kind", ["Model", "ForImageClassification", "ForSemanticSegmentation"])
def test_pictures_of_any_size_give_what_transformers_gives(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    import transformers

    theirs: Any = getattr(transformers, f"Segformer{kind}")(transformers.SegformerConfig(**THEIRS))
    redraw(theirs).eval().save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    pictures = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected, out = theirs(pictures), ours(pictures)
    if kind == "Model":
        assert type(ours) is SegFormer
        close(out.last_hidden_state, expected.last_hidden_state.flatten(2).mT, 1e-5, "last_hidden_state")
        close(out.pooler_output, expected.last_hidden_state.mean((2, 3)), 1e-5, "pooler_output")
    else:
        close(out.logits, expected.logits, 1e-5, "logits")


def test_a_classifier_s_loss_and_folder_are_theirs(tmp_path: Path) -> None:
    import transformers

    ours: Any = redraw(SegFormerForImageClassification(SegFormerConfig(**SMALL, labels=tuple("abcde")))).eval()
    ours.save_pretrained(tmp_path)
    theirs = transformers.SegformerForImageClassification.from_pretrained(tmp_path).eval()
    inputs = {"pixel_values": torch.randn(3, 3, 32, 40), "labels": torch.tensor([0, 4, 2])}
    close(ours(**inputs).loss, theirs(**inputs).loss, 1e-5, "loss")
    assert theirs.config.id2label[2] == "c"


def test_without_positions_the_edge_tells_where_a_place_is() -> None:
    """Without zeros around the grid, equal pixels would have equal logits."""
    logits = small()(torch.ones(1, 3, 64, 64)).logits[0]
    assert (logits[:, 0, 0] - logits[:, 8, 8]).abs().max() > 1e-3


def test_logits_are_enlarged_to_the_picture() -> None:
    logits = torch.randn(2, 5, 8, 10)
    assert enlarged(logits, (8, 10)) is logits
    assert enlarged(logits, (31, 40)).shape == (2, 5, 31, 40)


def test_labels_may_be_bytes_and_those_of_255_do_not_count() -> None:
    model, pictures = small(), torch.randn(2, 3, 32, 32)
    labels = torch.randint(5, (2, 32, 32))
    labels[:, 10:] = 255
    loss = model(pictures, labels=labels).loss
    assert torch.equal(loss, model(pictures, labels=labels.to(torch.uint8)).loss)
    assert torch.equal(loss, model(pictures, labels=labels.masked_fill(labels == 255, -100)).loss)
    fine = enlarged(model(pictures).logits, (32, 32))[:, :, :10]
    close(loss, torch.nn.functional.cross_entropy(fine, labels[:, :10]), 1e-5, "loss")


@pytest.mark.usefixtures("no_shape_checks")
def test_what_it_cannot_do_is_said() -> None:
    model, pictures = small(), torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match="has 1 channels"):
        model(pictures[:, :1])
    with pytest.raises(ValueError, match="holds nan at"):
        model(torch.full((1, 3, 32, 32), torch.nan))
    with pytest.raises(ValueError, match="12 × 40 pixels are too small: stage 1 has 3 places along the shorter side"):
        model(torch.zeros(1, 3, 12, 40))
    for labels, error, message in (
        (torch.zeros(1, 32), ValueError, r"labels have shape \(1, 32\); expected \(1, height, width\)"),
        (torch.zeros(2, 32, 32), ValueError, r"labels have shape \(2, 32, 32\)"),
        (torch.zeros(1, 32, 32), TypeError, "labels have dtype torch.float32; expected whole numbers"),
        (torch.full((1, 32, 32), 5), ValueError, r"labels holds 5 at \(0, 0, 0\)"),
    ):
        with pytest.raises(error, match=message):
            model(pictures, labels=labels)
    with pytest.raises(ValueError, match=r"dims=\(8,\), depths=\(1, 2\).* must speak of the same stages"):
        small(dims=(8,))
    with pytest.raises(ValueError, match="num_classes=1 leaves nothing to tell apart"):
        small(num_classes=1)
    with pytest.raises(ValueError, match="patch_size=7 and stride=0 must both be 1 or more"):
        small(strides=(0, 2))


def test_a_config_of_theirs_that_means_something_else_is_refused() -> None:
    table = SegFormerForSemanticSegmentation.config_table
    base = {"model_type": "segformer", **{name: value for name, value in THEIRS.items() if name != "num_labels"}}
    assert table.load(base).dims == (8, 12)
    for changes, message in (
        ({"depths": [1, "2"]}, r"depths=\[1, '2'\]; expected a list of whole numbers"),
        ({"num_encoder_blocks": 3}, "num_encoder_blocks=3; its depths speak of 2 stages"),
        ({"reshape_last_stage": False}, "reshape_last_stage=False; only True is implemented"),
        ({"semantic_loss_ignore_index": 0}, "semantic_loss_ignore_index=0; only 255 is implemented"),
        ({"sr_ratio": [1, 1]}, "did you mean 'sr_ratios'"),
    ):
        with pytest.raises(ValueError, match=message):
            table.load(base | changes)
