"""MAE hides what the noise says, draws it as transformers' does, and its encoder is a ViT that goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from properties import close, redraw

import glassformer
from glassformer.models.mae import MAE, MAEConfig
from glassformer.models.vit import ViT, ViTConfig, ViTForImageClassification
from glassformer.training.init import take_weights

SMALL: Any = dict(image_size=24, patch_size=6, dim=32, num_layers=2, num_heads=4, hidden_dim=48, decoder_dim=16,
                  decoder_num_layers=1, decoder_num_heads=2, decoder_hidden_dim=24)  # fmt: skip
THEIRS: Any = dict(image_size=24, patch_size=6, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                   intermediate_size=48, decoder_hidden_size=16, decoder_num_hidden_layers=1,
                   decoder_num_attention_heads=2, decoder_intermediate_size=24)  # fmt: skip


def small(**changes: Any) -> MAE:
    return redraw(MAE(MAEConfig(**SMALL | changes))).eval()  # type: ignore


def test_fixed_positions_are_those_of_transformers() -> None:
    from transformers import ViTMAEConfig
    from transformers.models.vit_mae.modeling_vit_mae import ViTMAEDecoder, ViTMAEEmbeddings

    config, ours = ViTMAEConfig(**THEIRS), MAE(MAEConfig(**SMALL))
    embeddings: Any = ViTMAEEmbeddings(config)
    embeddings.initialize_weights()  # which their fresh model skips: it has zeros, published files have the waves
    decoder: Any = ViTMAEDecoder(config, 16)
    for position, expected in (
        (ours.encoder.position, embeddings.position_embeddings),
        (ours.decoder.position, decoder.decoder_pos_embed),
    ):
        assert not position.weight.requires_grad
        close(position.weight, expected, 1e-6, "positions")


def test_published_files_that_name_the_decoder_s_blocks_otherwise_are_read(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = small()
    model.save_pretrained(tmp_path, digests=False)
    state = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("decoder.decoder_layers.0.") for name in state)
    renamed = {name.replace("decoder_layers", "decoder_encoder.layer"): tensor for name, tensor in state.items()}
    save_file(renamed, tmp_path / "model.safetensors")
    again = glassformer.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_only_hidden_patches_count_and_only_the_others_are_read() -> None:
    model, pictures = small().double(), torch.randn(2, 3, 24, 24, dtype=torch.float64, requires_grad=True)
    out = model(pictures, noise=torch.rand(2, 16, dtype=torch.float64))
    assert out.mask.sum(1).tolist() == [12, 12]
    (seen,) = torch.autograd.grad(out.logits.square().sum(), pictures, retain_graph=True)
    read = model.target(seen).abs().sum(-1) > 0  # a patch at a time
    assert torch.equal(read, out.mask == 0)
    (weighs,) = torch.autograd.grad(out.loss, out.logits)
    assert torch.equal(weighs.abs().sum(-1) > 0, out.mask == 1)


def test_without_noise_each_call_hides_others_and_the_seed_says_which() -> None:
    model, pictures = small(), torch.randn(1, 3, 24, 24)
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(model(pictures).mask)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("normalized", [True, False])
def test_what_is_filled_in_is_what_was_drawn(normalized: bool) -> None:
    model, pictures = small(normalized_pixels=normalized), torch.randn(2, 3, 24, 24)
    out = model(pictures)
    exact = model.fill_in(pictures, type(out)(None, model.target(pictures), out.mask, out.ids_restore))
    close(exact, pictures, 1e-5, "the target drawn")
    wrong = model.fill_in(pictures, type(out)(None, model.target(pictures) + 1, out.mask, out.ids_restore))
    changed = model.config.patch_size**2 * 3 * out.mask.sum()
    assert (wrong != pictures).sum() >= 0.99 * changed


def test_its_encoder_is_a_vit_that_is_saved_opened_and_fine_tuned_as_one(tmp_path: Path) -> None:
    model, pictures = small(), torch.randn(2, 3, 18, 30)
    model.encoder.save_pretrained(tmp_path)
    opened = glassformer.from_pretrained(tmp_path)
    assert type(opened) is ViT
    assert torch.equal(opened(pictures).last_hidden_state, model.encoder(pictures).last_hidden_state)
    shape = {name: SMALL[name] for name in ("image_size", "patch_size", "dim", "num_layers", "num_heads", "hidden_dim")}
    classifier = ViTForImageClassification(ViTConfig(**shape, num_classes=5)).eval()
    assert take_weights(classifier, model, "here") == ("head.weight", "head.bias")
    assert torch.equal(classifier.encoder(pictures).last_hidden_state, model.encoder(pictures).last_hidden_state)
    assert classifier.get_parameter("encoder.position.weight").requires_grad


@pytest.mark.usefixtures("no_shape_checks")
def test_what_it_cannot_read_is_said() -> None:
    with pytest.raises(ValueError, match="pictures have 24 × 30 pixels; expected 24 × 24"):
        small()(torch.zeros(1, 3, 24, 30))
    with pytest.raises(ValueError, match="has 1 channels"):
        small()(torch.zeros(1, 1, 24, 24))
    with pytest.raises(ValueError, match=r"noise has shape \(1, 15\); expected \(1, 16\), a number for each patch"):
        small()(torch.zeros(1, 3, 24, 24), noise=torch.zeros(1, 15))
    for changes, message in (
        (dict(mask_ratio=0.99), "mask_ratio=0.99 of 16 patches leaves none to read"),
        (dict(mask_ratio=0.0), "or none to draw"),
        (dict(patch_size=5), "patch_size=5 does not divide image_size=24"),
        (dict(dim=30, num_heads=3), "dim=30 must be a multiple of 4"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**changes)
