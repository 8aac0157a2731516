"""TimeSformer, ViViT and VideoMAE: encoders without heads as transformers', what sees what, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from properties import close, redraw

import glassformer
from glassformer.models.catalog import create_model
from glassformer.models.timesformer import TimeSformer, TimeSformerConfig
from glassformer.models.videomae import VideoMAE, VideoMAEEncoder, tubes
from glassformer.models.videomae_config import VideoMAEConfig
from glassformer.models.vivit import ViViT, ViViTConfig

SMALL: Any = dict(image_size=24, patch_size=6, dim=32, num_layers=2, num_heads=4, hidden_dim=48, num_frames=4)
THEIRS: Any = dict(image_size=24, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                   num_frames=4)  # fmt: skip
DRAWER: Any = dict(decoder_dim=16, decoder_num_layers=1, decoder_num_heads=2, decoder_hidden_dim=16)
CLIP = (2, 4, 3, 24, 24)


@pytest.mark.parametrize(("name", "head", "count"), [
    ("timesformer-base", "video_classification", 121_566_352),
    ("vivit-base-patch16x2", "video_classification", 88_954_000),
    ("videomae-base", "video_classification", 86_534_800),
    ("videomae-base", "pretraining", 94_209_408),
    ("videomae-large", "pretraining", 342_994_944),
])  # fmt: skip
def test_with_a_head_it_has_the_number_of_parameters_of_theirs(name: str, head: str, count: int) -> None:
    with torch.device("meta"):
        assert create_model(name, head=head).num_parameters == count


@pytest.mark.parametrize(("theirs", "config", "more", "ours"), [
    ("TimesformerModel", "TimesformerConfig", {"patch_size": 6}, TimeSformer),
    ("VivitModel", "VivitConfig", {"tubelet_size": [2, 6, 6]}, ViViT),
    ("VideoMAEModel", "VideoMAEConfig", {"patch_size": 6}, VideoMAEEncoder),
    ("VideoMAEModel", "VideoMAEConfig", {"patch_size": 6, "use_mean_pooling": False}, VideoMAEEncoder),
])  # fmt: skip
def test_encoders_without_a_head_give_what_theirs_give(
    theirs: str, config: str, more: dict[str, Any], ours: type, tmp_path: Path
) -> None:
    import transformers

    model: Any = redraw(getattr(transformers, theirs)(getattr(transformers, config)(**THEIRS, **more))).eval()
    model.save_pretrained(tmp_path)
    own = glassformer.from_pretrained(tmp_path)
    assert type(own) is ours
    clips = torch.randn(CLIP)
    with torch.no_grad():
        expected, out = model(clips), own(clips)
    close(out.last_hidden_state, expected.last_hidden_state, 1e-5, "last_hidden_state")
    if own.config_table.model_type == "vivit":
        close(out.pooler_output, expected.pooler_output, 1e-5, "pooler_output")


def seen_from(attention: str) -> torch.Tensor:
    """Which patches (t, y, x) the patch in the middle of frame 1 sees, in a model of one block."""
    model = TimeSformer(TimeSformerConfig(**SMALL | {"num_layers": 1}, attention=attention))
    redraw(model).double().eval()
    pixels = torch.randn(1, *CLIP[1:], dtype=torch.float64, requires_grad=True)
    places = model(pixels).last_hidden_state[0, 1:].unflatten(0, (16, 4))
    places[5, 1].sum().backward()
    assert pixels.grad is not None
    return pixels.grad.abs()[0].sum(1).unflatten(1, (4, 6)).unflatten(3, (4, 6)).sum((2, 4)) > 0


def test_divided_attention_sees_all_times_of_all_places_and_joint_attention_too() -> None:
    """In one block: along time first, so that the frame's places bring what they saw at other times."""
    assert seen_from("divided").all()
    assert seen_from("joint").all()


def test_attention_over_space_alone_sees_no_order_of_frames() -> None:
    model = redraw(TimeSformer(TimeSformerConfig(**SMALL, attention="space"))).double().eval()
    clips = torch.randn(CLIP, dtype=torch.float64)
    shuffled = model(clips[:, [2, 0, 3, 1]]).last_hidden_state
    torch.testing.assert_close(model(clips).last_hidden_state, shuffled, atol=1e-12, rtol=0)


@pytest.mark.parametrize("frames", [2, 8])
def test_other_numbers_of_frames_take_the_nearest_times(frames: int) -> None:
    model = redraw(TimeSformer(TimeSformerConfig(**SMALL))).eval()
    other = redraw(TimeSformer(TimeSformerConfig(**SMALL | {"num_frames": frames}))).eval()
    state = model.state_dict()
    assert model.time is not None
    times = [0, 2] if frames == 2 else [0, 0, 1, 1, 2, 2, 3, 3]
    other.load_state_dict(state | {"time": model.time.detach()[:, times]})
    clips = torch.randn(2, frames, 3, 24, 24)
    torch.testing.assert_close(model(clips).last_hidden_state, other(clips).last_hidden_state)


def test_vivit_reads_frames_of_another_size_by_positions_interpolated_within_each_time() -> None:
    model = redraw(ViViT(ViViTConfig(**SMALL))).eval()
    there = model.position(6, 3)
    assert there.shape == (1, 1 + 2 * 18, 32)
    one = torch.nn.functional.interpolate(
        model.position.weight[:, 17:].unflatten(1, (4, 4)).permute(0, 3, 1, 2), size=(6, 3), mode="bicubic"
    )
    torch.testing.assert_close(there[:, 19:], one.flatten(2).transpose(1, 2))
    assert model(torch.randn(2, 4, 3, 36, 18)).last_hidden_state.shape == (2, 37, 32)


def test_tubes_hide_the_same_places_at_all_times() -> None:
    config = VideoMAEConfig(**SMALL, **DRAWER)
    mask = tubes(config, 50, 0.75, torch.Generator().manual_seed(0))
    assert mask.shape == (50, 32)
    assert torch.equal(mask[:, :16], mask[:, 16:])
    assert (mask.sum(1) == 24).all()
    assert mask[:, :16].float().mean(0).min() > 0.5
    assert mask[:, :16].float().mean(0).max() < 0.95
    with pytest.raises(ValueError, match="hides none of them, or all"):
        tubes(config, 1, 0.99)


@pytest.mark.parametrize("normalized", [True, False])
def test_what_is_drawn_as_it_was_fills_the_clip_as_it_was(normalized: bool) -> None:
    config = VideoMAEConfig(**SMALL, **DRAWER, normalized_pixels=normalized)
    model, clips = VideoMAE(config), torch.randn(CLIP)
    mask = tubes(config, 2, 0.5)
    right = model.target(clips)[mask].unflatten(0, (2, 16))
    torch.testing.assert_close(model.fill_in(clips, mask, right), clips, atol=1e-4, rtol=1e-4)
    other = model.fill_in(clips, mask, torch.zeros_like(right))
    changed = (
        ((other - clips).abs() > 1e-3).any(2).float().unflatten(1, (2, 2)).unflatten(3, (4, 6)).unflatten(5, (4, 6))
    )
    shown = (changed.mean((2, 4, 6)) > 0.5).flatten(1)
    assert torch.equal(shown, mask)


def test_a_hidden_tubelet_leaks_nothing_to_what_is_drawn() -> None:
    model = redraw(VideoMAE(VideoMAEConfig(**SMALL, **DRAWER))).double().eval()
    mask = tubes(model.config, 2, 0.5)
    clips = torch.randn(CLIP, dtype=torch.float64, requires_grad=True)
    model(clips, mask).logits.sum().backward()
    assert clips.grad is not None
    moved = clips.grad.abs().sum(2).unflatten(1, (2, 2)).unflatten(3, (4, 6)).unflatten(5, (4, 6)).sum((2, 4, 6))
    assert torch.equal(moved.flatten(1) > 0, ~mask)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(("shape", "sentence"), [
    ((2, 3, 24, 24), r"expected \(batch, frames, channels, height, width\)"),
    ((2, 4, 24, 24, 3), "24 channels .* expected 3; channels come before"),
    ((2, 0, 3, 24, 24), "none of them 0"),
    ((2, 4, 3, 25, 24), "25 × 24"),
])  # fmt: skip
@pytest.mark.parametrize("kind", [TimeSformer, ViViT, VideoMAEEncoder], ids=lambda kind: kind.__name__)
def test_clips_of_another_shape_are_refused(kind: Any, shape: tuple[int, ...], sentence: str) -> None:
    config = {TimeSformer: TimeSformerConfig, ViViT: ViViTConfig, VideoMAEEncoder: VideoMAEConfig}[kind]
    with pytest.raises(ValueError, match=sentence):
        kind(config(**SMALL))(torch.randn(shape))


@pytest.mark.usefixtures("no_shape_checks")
def test_clips_that_hold_no_numbers_or_have_another_length_are_refused() -> None:
    clips = torch.randn(CLIP)
    clips[1, 2, 0, 5, 7] = torch.nan
    for kind, config in ((ViViT, ViViTConfig), (VideoMAEEncoder, VideoMAEConfig)):
        model: Any = kind(config(**SMALL))
        with pytest.raises(ValueError, match=r"nan at \(1, 2, 0, 5, 7\)"):
            model(clips)
        with pytest.raises(ValueError, match="clips have 6 frames; expected 4"):
            model(torch.randn(2, 6, 3, 24, 24))
        with pytest.raises(TypeError, match=r"torch\.uint8; expected floats"):
            model(torch.zeros(CLIP, dtype=torch.uint8))


@pytest.mark.usefixtures("no_shape_checks")
def test_masks_that_do_not_fit_are_refused() -> None:
    model, clips = VideoMAE(VideoMAEConfig(**SMALL, **DRAWER)), torch.randn(CLIP)
    mask = tubes(model.config, 2, 0.5)
    uneven = mask.clone()
    uneven[0] = tubes(model.config, 1, 0.25)
    for wrong, sentence in (
        (mask.long(), r"torch\.int64"), (mask[:, :20], r"expected torch\.bool \(2, 32\)"), (uneven, r"hides \[8, 16\]"),
        (torch.zeros_like(mask), "neither none nor all"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            model(clips, wrong)


@pytest.mark.parametrize(("config", "settings", "sentence"), [
    (TimeSformerConfig, {"patch_size": 5}, "patch_size=5 does not divide"),
    (TimeSformerConfig, {"attention": "axial"}, "attention='axial' is unknown"),
    (ViViTConfig, {"tubelet_frames": 3}, "tubelet_frames=3 does not divide num_frames=4"),
    (VideoMAEConfig, {"pooling": "last"}, "pooling='last' is unknown"),
    (VideoMAEConfig, {"channels": 1, "normalized_pixels": False}, "no known mean"),
    (VideoMAEConfig, {"dim": 33}, "must be even"),
])  # fmt: skip
def test_settings_that_make_no_model_are_refused(config: Any, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        config(**SMALL | settings)


def test_a_tubelet_that_is_not_square_is_refused(tmp_path: Path) -> None:
    import transformers

    theirs: Any = transformers.VivitModel(transformers.VivitConfig(**THEIRS, tubelet_size=[2, 6, 4]))
    theirs.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"tubelet_size=\[2, 6, 4\]; expected frames, rows and as many columns"):
        glassformer.from_pretrained(tmp_path)


def test_a_small_model_as_it_is_drawn_already_tells_the_order_of_frames() -> None:
    """With weights of N(0, 0.02²) it does so fifty times less, and not at all where the times begin at 0."""
    torch.manual_seed(0)
    encoder = TimeSformer(TimeSformerConfig(**SMALL)).eval()
    clips = torch.randn(CLIP)
    with torch.no_grad():
        token, turned = (encoder(each).last_hidden_state[:, 0] for each in (clips, clips.flip(1)))
    assert (token - turned).norm() > 0.05 * token.norm()
