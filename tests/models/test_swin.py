"""Swin equals transformers' at any size; its windows shift, and nothing is seen over the wrapped edge."""

from pathlib import Path
from typing import Any

import pytest
import torch
from properties import close, redraw

import glassformer
from glassformer.models.catalog import create_model
from glassformer.models.swin import Swin, SwinConfig, SwinForImageClassification, SwinStage
from glassformer.parts import Windows

SMALL = dict(image_size=32, patch_size=2, dim=8, depths=(2, 3), num_heads=(2, 4), num_classes=5)
THEIRS = dict(image_size=32, patch_size=2, embed_dim=8, depths=[2, 3], num_heads=[2, 4], num_labels=5)


def small(**changes: Any) -> SwinForImageClassification:
    return redraw(SwinForImageClassification(SwinConfig(**SMALL | {"window_size": 3} | changes))).eval()  # type: ignore


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("swin-tiny-patch4-window7-224", 28_288_354),
        ("swin-small-patch4-window7-224", 49_606_258),
        ("swin-base-patch4-window7-224", 87_768_224),
        ("swin-large-patch4-window7-224", 196_532_476),
    ],
)
def test_with_a_thousand_classes_it_has_the_published_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert create_model(name, head="image_classification").num_parameters == count


# 12 and 24 are whole windows throughout; 32 leaves a rest; odd sizes are filled up at patches, windows and merging.
@pytest.mark.parametrize("size", [(24, 24), (32, 32), (36, 20), (31, 47), (17, 58)], ids=str)
@pytest.mark.parametrize("window_size", [3, 4])
@pytest.mark.parametrize("headed", [True, False])
def test_pictures_of_any_size_give_what_transformers_gives(
    headed: bool, window_size: int, size: tuple[int, int], tmp_path: Path
) -> None:
    import transformers

    make = transformers.SwinForImageClassification if headed else transformers.SwinModel
    theirs: Any = redraw(make(transformers.SwinConfig(**THEIRS, window_size=window_size))).eval()
    theirs.save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    assert type(ours) is (SwinForImageClassification if headed else Swin)
    pictures = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected, out = theirs(pictures), ours(pictures)
    for name in ("logits",) if headed else ("last_hidden_state", "pooler_output"):
        close(out[name], expected[name], 1e-5, name)


def test_a_size_seen_before_changes_nothing_for_the_next() -> None:
    model, large, tiny = small(), torch.randn(2, 3, 32, 40), torch.randn(1, 3, 8, 8)
    before = model(large).logits
    for _ in range(2):
        model(tiny)
        assert torch.equal(model(large).logits, before)
        assert torch.equal(model(large[:1]).logits, model(large[:1]).logits)


def test_masks_that_inference_left_behind_do_not_stop_training() -> None:
    model, pictures = small(), torch.randn(2, 3, 32, 40)
    with torch.inference_mode():
        before = model(pictures).logits
    after = model(pictures, labels=torch.tensor([0, 1]))
    close(after.logits, before, 1e-6, "logits")
    after.loss.backward()


def seen_by(stage: SwinStage, x: torch.Tensor, i: int, place: tuple[int, int]) -> set[tuple[int, int]]:
    """The places of the grid that block `i` reads for this one."""
    block, x = stage.blocks[i], x.clone().requires_grad_()
    windows = Windows.fit(x.shape[1], x.shape[2], stage.window_size, stage.window_size // 2 if i % 2 else 0)
    out = block(x, windows=windows, mask=windows.mask(1, x.device))
    (gradient,) = torch.autograd.grad(out[0, place[0], place[1]].sum(), x)
    return {(int(row), int(column)) for row, column in gradient[0].abs().sum(-1).nonzero()}


def test_pictures_smaller_than_a_window_are_one_window() -> None:
    model = small(window_size=9).double()
    assert model(torch.randn(2, 3, 8, 8).double()).logits.isfinite().all()  # grids of 4 × 4 and 2 × 2
    everywhere = {(row, column) for row in range(4) for column in range(4)}
    for i in (0, 1):
        assert seen_by(model.encoder.stages[0], torch.randn(1, 4, 4, 8).double(), i, (0, 3)) == everywhere


def test_a_window_sees_itself_and_nothing_over_the_wrapped_edge() -> None:
    stage, x = small(window_size=4).encoder.stages[0].double(), torch.randn(1, 8, 8, 8).double()

    def square(rows: range, columns: range) -> set[tuple[int, int]]:
        return {(row, column) for row in rows for column in columns}

    first, middle, last = range(2), range(2, 6), range(6, 8)
    for place in ((0, 0), (3, 3)):
        assert seen_by(stage, x, 0, place) == square(range(4), range(4))
    for place, there in (((0, 0), (first, first)), ((3, 4), (middle, middle)), ((0, 7), (first, last)),
                         ((7, 7), (last, last)), ((4, 1), (middle, first))):  # fmt: skip
        assert seen_by(stage, x, 1, place) == square(*there), f"shifted, at {place}"


@pytest.mark.usefixtures("no_shape_checks")
def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(ValueError, match="has 1 channels"):
        small()(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="holds nan at"):
        small()(torch.full((1, 3, 32, 32), torch.nan))
    with pytest.raises(ValueError, match=r"depths=\(2, 3\) and num_heads=\(2,\) must speak of the same stages"):
        small(num_heads=(2,))
    with pytest.raises(ValueError, match="window_size=1 leaves nothing to attend to"):
        small(window_size=1)
    base = {"model_type": "swin", **THEIRS}
    for changes, message in (
        ({"depths": [2, "3"]}, r"depths=\[2, '3'\]; expected whole numbers"),
        ({"num_layers": 3}, "num_layers=3; by embed_dim and depths it is 2"),
        ({"use_absolute_embeddings": True}, "use_absolute_embeddings=True; only False is implemented"),
    ):
        with pytest.raises(ValueError, match=message):
            Swin.config_table.load(base | changes)
