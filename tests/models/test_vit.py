"""ViT equals transformers' at any size, with a head and without; what it cannot read, it says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from properties import close, redraw

import glassformer
from glassformer.models.catalog import create_model
from glassformer.models.vit import ViT, ViTConfig, ViTForImageClassification

SMALL = dict(image_size=24, patch_size=6, dim=32, num_layers=2, num_heads=4, hidden_dim=48)
THEIRS = dict(image_size=24, patch_size=6, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
              intermediate_size=48, num_labels=5)  # fmt: skip


def small(**changes: Any) -> ViTForImageClassification:
    return redraw(ViTForImageClassification(ViTConfig(**SMALL | {"num_classes": 5} | changes))).eval()  # type: ignore


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit-tiny-patch16-224", 5_717_416),
        ("vit-small-patch16-224", 22_050_664),
        ("vit-base-patch16-224", 86_567_656),
        ("vit-base-patch32-224", 88_224_232),
        ("vit-large-patch16-224", 304_326_632),
        ("vit-huge-patch14-224", 632_045_800),
    ],
)
def test_with_a_thousand_classes_it_has_the_published_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert create_model(name, head="image_classification").num_parameters == count


@pytest.mark.parametrize("size", [(24, 24), (30, 30), (12, 24), (24, 12), (6, 48), (54, 36)], ids=str)
@pytest.mark.parametrize("headed", [True, False])
def test_pictures_of_any_size_give_what_transformers_gives(headed: bool, size: tuple[int, int], tmp_path: Path) -> None:
    import transformers

    make = transformers.ViTForImageClassification if headed else transformers.ViTModel
    theirs: Any = redraw(make(transformers.ViTConfig(**THEIRS))).eval()
    theirs.save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    assert type(ours) is (ViTForImageClassification if headed else ViT)
    pictures = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = theirs(pictures, interpolate_pos_encoding=True)
        out = ours(pictures)
    for name in ("logits",) if headed else ("last_hidden_state", "pooler_output"):
        close(out[name], expected[name], 1e-5, name)


def test_names_of_classes_and_the_published_defaults_come_back(tmp_path: Path) -> None:
    labels = ("cat", "dog", "newt")
    small(num_classes=3, labels=labels).save_pretrained(tmp_path)
    assert glassformer.from_pretrained(tmp_path).config.labels == labels
    assert ViTForImageClassification.config_table.load({"model_type": "vit"}) == ViTConfig(num_classes=2)


def test_mean_pooling_reads_the_mean_of_the_patches_without_a_class_token(tmp_path: Path) -> None:
    model, pictures = small(pooling="mean"), torch.randn(2, 3, 24, 12)
    encoded = model.encoder(pictures)
    assert encoded.last_hidden_state.shape == (2, 8, 32)
    close(model(pictures).logits, model.head(encoded.last_hidden_state.mean(1)), 1e-6, "logits")
    with pytest.raises(ValueError, match="pooling='mean' cannot be said in a 'vit' config"):
        model.save_pretrained(tmp_path)


def test_a_patch_s_place_matters_and_its_neighbours_do_not_reach_its_embedding() -> None:
    model, pictures = small(), torch.randn(1, 3, 24, 24)
    moved = pictures.roll(6, dims=3)
    assert not torch.allclose(model(moved).logits, model(pictures).logits, atol=1e-3)
    close(model.encoder.patches(moved)[:, :, 1:], model.encoder.patches(pictures)[:, :, :-1], 1e-6, "embeddings")


def test_floats_of_another_width_are_cast() -> None:
    model, pictures = small().double(), torch.randn(1, 3, 24, 24)
    assert torch.equal(model(pictures).logits, model(pictures.double()).logits)


@pytest.mark.parametrize(
    ("pictures", "error", "message"),
    [
        (torch.zeros(2, 1, 24, 24), ValueError, r"has 1 channels in shape \(2, 1, 24, 24\); expected 3$"),
        (torch.zeros(2, 24, 24, 3), ValueError, r"has 24 channels .* expected 3; channels come before height"),
        (torch.zeros(3, 24, 24), ValueError, r"has shape \(3, 24, 24\); expected \(batch, channels, height, width\)"),
        (torch.zeros(0, 3, 24, 24), ValueError, "none of them 0"),
        (torch.zeros(2, 3, 24, 25), ValueError, "24 × 25 pixels are no whole number of patches of 6 × 6"),
        (torch.zeros(2, 3, 24, 24).byte(), TypeError, "has dtype torch.uint8; expected floats"),
        (
            torch.full((2, 3, 24, 24), torch.nan),
            ValueError,
            r"holds nan at \(0, 0, 0, 0\); every pixel must be finite",
        ),
        (torch.full((2, 3, 24, 24), torch.inf), ValueError, "holds inf at"),
    ],
    ids=lambda value: str(tuple(value.shape)) if isinstance(value, torch.Tensor) else "",
)
@pytest.mark.usefixtures("no_shape_checks")
def test_what_it_cannot_read_is_said(pictures: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        small()(pictures)


@pytest.mark.usefixtures("no_shape_checks")
def test_wrong_labels_and_configs_are_said() -> None:
    pictures = torch.zeros(2, 3, 24, 24)
    with pytest.raises(ValueError, match=r"labels have shape \(3,\); expected \(2,\)"):
        small()(pictures, labels=torch.zeros(3).long())
    with pytest.raises(ValueError, match=r"labels holds 5 at \(1,\)"):
        small()(pictures, labels=torch.tensor([0, 5]))
    for changes, message in (
        (dict(patch_size=7), "patch_size=7 does not divide image_size=24"),
        (dict(pooling="max"), "pooling='max' is unknown"),
        (dict(num_classes=0), "num_classes=0 leaves nothing to tell apart"),
        (dict(labels=("a", "b")), "2 labels name 5 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**changes)
    with pytest.raises(ValueError, match="pooler_output_size=7; expected hidden_size=32"):
        ViT.config_table.load({"model_type": "vit", "hidden_size": 32, "pooler_output_size": 7})
