"""DINOv2, with registers and without: equal to transformers' at any size, hidden patches too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from properties import close, redraw

import glassformer
from glassformer.models.dinov2 import DINOv2, DINOv2Config, DINOv2ForImageClassification
from glassformer.models.dinov2_registers import (
    DINOv2WithRegisters,
    DINOv2WithRegistersConfig,
    DINOv2WithRegistersForImageClassification,
)

SHAPE: Any = dict(image_size=24, patch_size=6, dim=32, num_layers=2, num_heads=4, num_classes=5)
THEIRS: Any = dict(image_size=24, patch_size=6, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                   num_labels=5)  # fmt: skip
KINDS = {"Dinov2": DINOv2, "Dinov2WithRegisters": DINOv2WithRegisters}


def theirs(name: str, **changes: Any) -> Any:
    import transformers

    config = getattr(transformers, f"{name}Config")(**THEIRS | changes)
    return redraw(getattr(transformers, f"{name}Model")(config)).eval()


# Positions of a coarser grid are averaged with registers, and picked without: 12 × 18 tells them apart.
@pytest.mark.parametrize("size", [(24, 24), (12, 18), (30, 54)], ids=str)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_pictures_of_any_size_with_hidden_patches_give_what_transformers_gives(
    name: str, gated: bool, size: tuple[int, int], tmp_path: Path
) -> None:
    model = theirs(name, use_swiglu_ffn=gated)
    model.save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    assert type(ours) is KINDS[name]
    pictures = torch.randn(2, 3, *size)
    hidden = torch.rand(2, size[0] * size[1] // 36) < 0.4
    with torch.no_grad():
        for masked in (None, hidden):
            expected, out = model(pictures, bool_masked_pos=masked), ours(pictures, bool_masked_pos=masked)
            for part in ("last_hidden_state", "pooler_output"):
                close(out[part], expected[part], 1e-5, part)


def test_hidden_patches_are_not_seen_and_the_mask_token_learns_from_them() -> None:
    model: Any = redraw(DINOv2WithRegisters(DINOv2WithRegistersConfig(**SHAPE))).double()
    pictures, hidden = torch.randn(1, 3, 24, 24, dtype=torch.float64), torch.zeros(1, 16, dtype=torch.bool)
    hidden[0, 5] = True
    changed = pictures.clone()
    changed[:, :, 6:12, 6:12] = 3.0  # patch 5
    out = model(pictures, bool_masked_pos=hidden).pooler_output
    assert torch.equal(out, model(changed, bool_masked_pos=hidden).pooler_output)
    assert not torch.allclose(out, model(pictures).pooler_output)
    out.sum().backward()
    assert model.mask_token.grad is not None
    assert model.mask_token.grad.abs().max() > 0


def test_registers_are_read_by_others_but_not_by_the_head() -> None:
    model: Any = redraw(DINOv2WithRegistersForImageClassification(DINOv2WithRegistersConfig(**SHAPE))).eval()
    encoded = model.encoder(torch.randn(2, 3, 24, 30))
    assert encoded.last_hidden_state.shape == (2, 1 + 4 + 20, 32)
    before = model.features(encoded)
    encoded.last_hidden_state[:, 1:5] = 7.0
    assert torch.equal(model.features(encoded), before)
    pictures, registers = torch.randn(1, 3, 24, 24), model.get_parameter("encoder.registers")
    logits = model(pictures).logits
    with torch.no_grad():
        registers.neg_()
    assert not torch.allclose(model(pictures).logits, logits, atol=1e-3)


def test_the_mask_token_comes_back_though_a_classifier_never_needs_it(tmp_path: Path) -> None:
    for model in (
        DINOv2ForImageClassification(DINOv2Config(**SHAPE)),
        DINOv2WithRegistersForImageClassification(DINOv2WithRegistersConfig(**SHAPE)),
    ):
        redraw(model).save_pretrained(tmp_path)
        again = glassformer.from_pretrained(tmp_path)
        assert torch.equal(again.encoder.mask_token, model.get_parameter("encoder.mask_token"))
        assert not again.encoder.mask_token.requires_grad


@pytest.mark.usefixtures("no_shape_checks")
def test_what_it_cannot_read_is_said() -> None:
    pictures = torch.zeros(1, 3, 24, 24)
    model: Any = DINOv2(DINOv2Config(**SHAPE))
    with pytest.raises(ValueError, match="24 × 25 pixels are no whole number of patches of 6 × 6"):
        model(torch.zeros(1, 3, 24, 25))
    for masked in (torch.zeros(1, 15, dtype=torch.bool), torch.zeros(1, 16)):
        with pytest.raises(ValueError, match=r"expected \(1, 16\), true where a patch is hidden"):
            model(pictures, bool_masked_pos=masked)
    with pytest.raises(ValueError, match="mask_token=False: nothing stands for them"):
        DINOv2(DINOv2Config(**SHAPE, mask_token=False))(pictures, bool_masked_pos=torch.ones(1, 16, dtype=torch.bool))
    with pytest.raises(ValueError, match="num_registers=0; expected 1 or more"):
        DINOv2WithRegistersConfig(**SHAPE, num_registers=0)
    with pytest.raises(ValueError, match="patch_size=7 does not divide image_size=24"):
        DINOv2Config(**SHAPE | {"patch_size": 7})
