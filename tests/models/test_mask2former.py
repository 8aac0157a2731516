"""Mask2Former equals transformers' in outputs and losses, learns, and says what it cannot do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from declared_segmentation import SEGMENTATION
from properties import build, close, redraw

import glassformer
from glassformer.models.catalog import create_model
from glassformer.models.mask2former import Mask2Former, Mask2FormerForUniversalSegmentation, seen
from glassformer.models.mask2former_config import Mask2FormerConfig
from glassformer.models.mask_loss import MaskLoss, MaskTargets, at_points
from glassformer.models.swin import SwinConfig

CASE = next(case for case in SEGMENTATION if case.name == "mask2former")
LOSS = dict(class_weight=2.0, mask_weight=5.0, dice_weight=5.0, nothing_weight=0.1, num_points=40,
            oversample_ratio=3.0, importance_ratio=0.75)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "count"),  # theirs, less a norm of the backbone's last grid that nothing reads
    [
        ("mask2former-swin-tiny", 47_423_179 - 2 * 768),
        ("mask2former-swin-small", 68_741_083 - 2 * 768),
        ("mask2former-swin-base", 106_906_249 - 2 * 1024),
        ("mask2former-swin-large", 215_525_061 - 2 * 1536),
    ],
)
def test_with_80_classes_it_has_the_published_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert create_model(name, head="universal_segmentation").num_parameters == count


# Grids of whole windows and not, down to pictures whose last grid is smaller than one window.
@pytest.mark.parametrize("size", [(48, 48), (45, 70), (17, 33)], ids=str)
@pytest.mark.parametrize("headed", [True, False])
def test_pictures_of_any_size_give_what_transformers_gives(headed: bool, size: tuple[int, int], tmp_path: Path) -> None:
    import transformers

    assert CASE.theirs is not None
    theirs = CASE.theirs()
    theirs = theirs if headed else transformers.Mask2FormerModel(theirs.config)
    redraw(theirs, spread=0.5).eval().save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    assert type(ours) is (Mask2FormerForUniversalSegmentation if headed else Mask2Former)
    pictures = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected, out = theirs(pictures), ours(pictures)
    masks = expected.masks_queries_logits if headed else expected.masks_queries_logits[-1]
    close(out.masks_queries_logits, masks, 1e-5, "masks")
    name = "transformer_decoder_last_hidden_state"
    close(out[name], expected[name], 1e-5, name)
    if headed:
        close(out.class_queries_logits, expected.class_queries_logits, 1e-5, "classes")


def test_more_objects_than_queries_give_their_loss(tmp_path: Path) -> None:
    assert CASE.theirs is not None
    theirs = redraw(CASE.theirs(), spread=0.5).eval()
    theirs.save_pretrained(tmp_path)
    ours = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path)
    labels = {"mask_labels": [(torch.rand(9, 32, 32) < 0.5).float()], "class_labels": [torch.arange(9) % 3]}
    losses = []
    for model in (ours, theirs):
        torch.manual_seed(3)
        losses.append(model(pixel_values=torch.ones(1, 3, 32, 32), **labels).loss)
    close(losses[0], losses[1], 1e-5, "loss")


def test_a_query_reads_inside_its_mask_and_everywhere_where_it_has_none() -> None:
    masks = torch.full((1, 2, 8, 8), -1.0)
    masks[0, 0, :4] = 1.0
    visible = seen(masks, (4, 4)).unflatten(2, (4, 4))
    assert visible[0, 0, :2].all()
    assert not visible[0, 0, 2:].any()
    assert visible[0, 1].all()


def test_points_lie_where_a_mask_is_least_certain() -> None:
    """Of a mask that is certain but for its right half, three quarters of the points are looked for in that half."""
    torch.manual_seed(0)
    logits = torch.full((1, 16, 16), 9.0)
    logits[..., 8:] = 0.1
    points = MaskLoss(**LOSS).points(logits)
    assert points.shape == (1, 40, 2)
    assert (points[0, :30, 0] > 0.5).all()
    assert at_points(logits, points).shape == (1, 40)


def test_no_object_at_all_is_learned_from_too() -> None:
    model = build(CASE, torch.float32)
    out = model(torch.randn(1, 3, 32, 32), mask_labels=[torch.zeros(0, 32, 32)], class_labels=[torch.zeros(0).long()])
    nothing = torch.full((7,), 3)
    classes = model(torch.zeros(1, 3, 32, 32)).class_queries_logits  # only its shape
    assert classes.shape == (1, 7, 4)
    last = torch.nn.functional.cross_entropy(out.class_queries_logits[0], nothing)
    assert out.loss > 2 * last
    out.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_right_answer_costs_less_than_masks_elsewhere_or_other_names() -> None:
    torch.manual_seed(0)
    truth = torch.zeros(2, 16, 16)
    truth[0, 2:8, 2:8] = truth[1, 9:15, 4:12] = 1
    targets = MaskTargets(torch.tensor([1, 0]), truth, (2,))
    logits = torch.full((1, 3, 3), -20.0)
    logits[0, 0, 0] = logits[0, 1, 2] = logits[0, 2, 1] = 20.0  # the first names class 0, the third class 1
    masks = torch.stack([truth[1], torch.zeros(16, 16), truth[0]])[None] * 12 - 6
    loss = MaskLoss(**LOSS)
    assert loss.match(logits, masks, targets).tolist() == [[0, 2], [1, 0]]
    right = loss([(logits, masks)], targets)  # not 0: at edges, points lie between pixels
    assert loss([(logits, masks.roll(8, 3))], targets) > 2 * right
    assert loss([(logits.roll(1, 2), masks)], targets) > 2 * right


def test_it_learns_one_picture() -> None:
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(
            backbone=CASE.config.backbone,
            dim=64,
            num_heads=4,
            num_encoder_layers=1,
            encoder_hidden_dim=40,
            hidden_dim=48,
            num_layers=2,
            num_queries=5,
            num_points=60,
            num_classes=3,
            mask_dim=24,
        )
    ).train()
    masks = torch.zeros(2, 32, 32)
    masks[0, 4:20, 4:14] = masks[1, 16:30, 16:30] = 1
    picture = 0.1 * torch.randn(1, 3, 32, 32)
    picture[0, :2] += 2 * masks
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=3e-3), []
    for _ in range(80):
        optimizer.zero_grad()
        losses.append(model(picture, mask_labels=[masks], class_labels=[torch.tensor([2, 0])]).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    out = model.eval()(picture)
    query, which = model.criterion.match(
        out.class_queries_logits, out.masks_queries_logits, MaskTargets(torch.tensor([2, 0]), masks, (2,))
    )
    found = torch.nn.functional.interpolate(out.masks_queries_logits[:, query], size=(32, 32), mode="bilinear")[0] > 0
    there = masks[which] > 0
    assert ((found & there).sum((1, 2)) / (found | there).sum((1, 2))).min() > 0.6
    assert out.class_queries_logits[0, query].argmax(-1).tolist() == torch.tensor([2, 0])[which].tolist()


@pytest.mark.usefixtures("no_shape_checks")
def test_what_it_cannot_do_is_said() -> None:
    model, pictures = build(CASE, torch.float32), torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match="has 1 channels"):
        model(pictures[:, :1])
    with pytest.raises(ValueError, match=r"pixel_mask has shape \(1, 32\); expected \(1, 32, 32\)"):
        model(pictures, torch.ones(1, 32))
    masks, classes = torch.zeros(2, 32, 32), torch.tensor([0, 2])
    for mask_labels, class_labels, error, message in (
        ([masks], None, ValueError, "give both, or neither"),
        ([masks, masks], [classes], ValueError, "of 2 pictures and class_labels of 1; expected 1 of each"),
        ([masks[0]], [classes], ValueError, r"picture 0 has mask_labels \(32, 32\) and class_labels \(2,\)"),
        ([masks], [classes[:1]], ValueError, r"mask_labels \(2, 32, 32\) and class_labels \(1,\)"),
        ([masks], [classes.float()], TypeError, "class_labels of picture 0 have dtype torch.float32"),
        ([masks], [classes + 1], ValueError, r"class_labels holds 3 at \(1,\)"),
        ([masks + 2], [classes], ValueError, "mask_labels hold values from 2 to 2; expected 0 and 1"),
    ):
        with pytest.raises(error, match=message):
            model(pictures, mask_labels=mask_labels, class_labels=class_labels)
    with pytest.raises(ValueError, match=r"mask_labels have the sizes \[\(30, 30\), \(32, 32\)\]"):
        model(pictures.repeat(2, 1, 1, 1), mask_labels=[masks, masks[:, 1:-1, 1:-1]], class_labels=[classes] * 2)


def test_sizes_that_no_model_has_are_refused() -> None:
    def make(**changes: Any) -> Mask2FormerConfig:
        return Mask2FormerConfig(**changes)

    for changes, message in (
        (dict(dim=48), "dim=48 does not fall into 32 groups"),
        (dict(backbone=SwinConfig(depths=(2, 2), num_heads=(1, 2))), "the backbone has 2 stages"),
        (dict(backbone=SwinConfig(num_classes=7)), "the backbone tells no classes apart"),
        (dict(num_queries=0), "num_queries=0, num_layers=9 and num_points=12544 must each be 1 or more"),
        (dict(importance_ratio=1.5), "importance_ratio=1.5 must lie in 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**changes)


def test_a_config_of_theirs_that_means_something_else_is_refused() -> None:
    import transformers

    assert CASE.theirs is not None
    base = transformers.Mask2FormerConfig(**CASE.theirs().config.to_diff_dict()).to_dict()
    table = Mask2FormerForUniversalSegmentation.config_table
    assert table.load(base).backbone.dim == 12
    swin = base["backbone_config"]
    for changes, message in (
        ({"backbone_config": swin | {"model_type": "resnet"}}, "a backbone_config of 'resnet'; only 'swin'"),
        ({"backbone_config": swin | {"out_features": ["stage4"]}}, "out_features=.'stage4'. for its backbone"),
        ({"backbone": "resnet50"}, "backbone='resnet50'; only a backbone_config is read"),
        ({"feature_size": 128}, "feature_size=128 and hidden_dim=64; only one width"),
        ({"decoder_layers": 1}, "decoder_layers=1; expected 2 or more"),
        ({"pre_norm": True}, "pre_norm=True; only False is implemented"),
        ({"num_querys": 3}, "did you mean 'num_queries'"),
    ):
        with pytest.raises(ValueError, match=message):
            table.load(base | changes)
