"""DeiT equals transformers' at any size, learns from labels and from a teacher, and counts what is published."""

from pathlib import Path
from typing import Any

import pytest
import torch
from properties import close, redraw

import glassformer
from glassformer.models.catalog import create_model
from glassformer.models.deit import (
    DeiT,
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
)

SMALL = dict(image_size=24, patch_size=6, dim=32, num_layers=2, num_heads=4, hidden_dim=48, num_classes=5)
THEIRS: Any = dict(image_size=24, patch_size=6, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
              intermediate_size=48, num_labels=5)  # fmt: skip


def taught(**changes: Any) -> DeiTForImageClassificationWithTeacher:
    return redraw(DeiTForImageClassificationWithTeacher(DeiTConfig(**SMALL | changes))).eval()  # type: ignore


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("deit-tiny-distilled-patch16-224", 5_910_800),
        ("deit-small-distilled-patch16-224", 22_436_432),
        ("deit-base-distilled-patch16-224", 87_338_192),
        ("deit-base-distilled-patch16-384", 87_630_032),
    ],
)
def test_with_both_heads_it_has_the_published_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert create_model(name, head="distilled_image_classification").num_parameters == count


@pytest.mark.parametrize("size", [(24, 24), (30, 18), (12, 48)], ids=str)
@pytest.mark.parametrize(
    ("theirs", "kind", "names"),
    [
        ("DeiTModel", DeiT, ("last_hidden_state", "pooler_output")),
        ("DeiTForImageClassification", DeiTForImageClassification, ("logits",)),
        ("DeiTForImageClassificationWithTeacher", DeiTForImageClassificationWithTeacher,
         ("logits", "cls_logits", "distillation_logits")),
    ],
)  # fmt: skip
def test_pictures_of_any_size_give_what_transformers_gives(
    theirs: str, kind: type, names: tuple[str, ...], size: tuple[int, int], tmp_path: Path
) -> None:
    import transformers

    model: Any = redraw(getattr(transformers, theirs)(transformers.DeiTConfig(**THEIRS))).eval()
    model.save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    assert type(ours) is kind
    pictures = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected, out = model(pictures, interpolate_pos_encoding=True), ours(pictures)
    for name in names:
        close(out[name], expected[name], 1e-5, name)


def test_each_head_learns_from_its_own_labels() -> None:
    model, pictures, labels = taught(), torch.randn(2, 3, 24, 24), torch.tensor([0, 3])
    out = model(pictures, labels=labels, teacher_labels=torch.full((2,), -100))
    out.loss.backward()
    assert model.head.weight.grad is not None
    assert model.head.weight.grad.abs().max() > 0
    assert model.distillation_head.weight.grad is not None
    assert (model.distillation_head.weight.grad == 0).all(), "the teacher said nothing"
    alone = model(pictures, labels=labels).loss
    close(alone, model(pictures, labels=labels, teacher_labels=labels).loss, 1e-6, "without a teacher")


def test_a_teacher_s_certainty_is_its_label_and_its_doubts_draw_the_logits_towards_them() -> None:
    model, pictures, labels = taught(), torch.randn(4, 3, 24, 24), torch.tensor([0, 3, 1, 4])
    hard, sure = torch.tensor([2, 3, 0, 1]), torch.nn.functional.one_hot(torch.tensor([2, 3, 0, 1]), 5).float()
    loss = model(pictures, labels=labels, teacher_labels=sure).loss
    close(loss, model(pictures, labels=labels, teacher_labels=hard).loss, 1e-6, "of a sure teacher")
    doubts = torch.randn(4, 5).softmax(-1)
    out = model(pictures, labels=labels, teacher_labels=doubts)
    (pull,) = torch.autograd.grad(out.loss, out.distillation_logits)
    close(pull, (out.distillation_logits.softmax(-1) - doubts) / 8, 1e-5, "half of the mean of p − q")
    model.temperature = 3.0  # 1/τ of the slope of the logits, times τ²
    out = model(pictures, labels=labels, teacher_labels=doubts)
    (pull,) = torch.autograd.grad(out.loss, out.distillation_logits)
    close(pull, 3 * ((out.distillation_logits / 3).softmax(-1) - doubts) / 8, 1e-5, "at a temperature of 3")


@pytest.mark.usefixtures("no_shape_checks")
def test_what_it_cannot_read_is_said() -> None:
    pictures = torch.zeros(2, 3, 24, 24)
    with pytest.raises(ValueError, match="24 × 25 pixels are no whole number of patches of 6 × 6"):
        taught()(torch.zeros(2, 3, 24, 25))
    with pytest.raises(ValueError, match="teacher_labels holds 5 at"):
        taught()(pictures, labels=torch.zeros(2).long(), teacher_labels=torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r"teacher_labels have shape \(2, 4\); expected \(2, 5\), a part for each"):
        taught()(pictures, labels=torch.zeros(2).long(), teacher_labels=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="teacher_labels are given without labels"):
        taught()(pictures, teacher_labels=torch.zeros(2).long())
    with pytest.raises(ValueError, match="patch_size=7 does not divide image_size=24"):
        taught(patch_size=7)
