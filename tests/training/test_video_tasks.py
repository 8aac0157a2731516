"""Tasks that learn from clips: batches that are what they say, a run from its recipe to a folder that opens."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassformer.models.videomae import VideoMAE, VideoMAEForVideoClassification
from glassformer.models.videomae_config import VideoMAEConfig
from glassformer.training import load_recipe, train
from glassformer.training.data import Augmentation
from glassformer.training.readers import Readers
from glassformer.training.tasks.augmented import augmented
from glassformer.training.tasks.clips import check_mirror, clips_of, draw_clips
from glassformer.training.tasks.masked_video import hidden
from glassformer.training.tasks.pictures import stacked
from glassformer.training.tasks.video_classification import VideoClassification
from glassformer.video.files import write_clip
from glassformer.video.motions import Motions

MODEL = """
[model]
name = "{name}"
image_size = 16
patch_size = 8
num_frames = 4
dim = 16
num_layers = 1
num_heads = 2
hidden_dim = 16
{more}
[task]
name = "{task}"
{settings}
[data]
source = "{source}"
batch_size = 8
[training]
steps = 3
log_every = 1
save_every = 3
[evaluation]
every = 3
batch_size = 8
"""
MOTIONS = "motions?size=16&train=24&validation=12"
DECODER = "decoder_dim = 8\ndecoder_num_layers = 1\ndecoder_num_heads = 2\ndecoder_hidden_dim = 8"


def recipe(folder: Path, name: str = "timesformer", **changes: str) -> Any:
    said = {"name": name, "task": "video_classification", "source": MOTIONS, "more": "", "settings": ""} | changes
    path = folder / "recipe.toml"
    path.write_text(MODEL.format(**said))
    return load_recipe(path)


def test_a_model_of_clips_is_trained_and_its_folder_opens(tmp_path: Path) -> None:
    import transformers

    run = train(recipe(tmp_path), run_folder=tmp_path / "run")
    assert run.model.config.labels == Motions().labels
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert 0 <= result["metrics"]["accuracy"] <= 1
    assert 0 <= result["baseline"]["accuracy"] <= 1
    assert (tmp_path / "run" / "predictions.png").is_file()
    assert (tmp_path / "run" / "confusion.png").is_file()
    theirs: Any = transformers.TimesformerForVideoClassification.from_pretrained(tmp_path / "run" / "model").eval()
    clips = torch.randn(2, 4, 3, 16, 16)
    torch.testing.assert_close(run.model(clips).logits, theirs(clips).logits, atol=1e-5, rtol=1e-5)


def test_a_run_that_is_resumed_ends_where_one_that_was_not_interrupted_ends(tmp_path: Path) -> None:
    whole = recipe(tmp_path)
    first = train(whole, run_folder=tmp_path / "whole")
    text = (tmp_path / "recipe.toml").read_text().replace("save_every = 3", "save_every = 1")
    (tmp_path / "recipe.toml").write_text(text)
    train(load_recipe(tmp_path / "recipe.toml"), run_folder=tmp_path / "parts")
    again = train(load_recipe(tmp_path / "recipe.toml"), run_folder=tmp_path / "parts", resume=2)
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_pre_training_is_taken_up_by_a_classifier(tmp_path: Path) -> None:
    settings = {"more": DECODER, "task": "masked_video", "settings": "mask_ratio = 0.5"}
    run = train(recipe(tmp_path, "videomae", **settings), run_folder=tmp_path / "before")
    assert isinstance(run.model, VideoMAE)
    result = json.loads((tmp_path / "before" / "result.json").read_text())
    assert result["metrics"]["explained"] < 0.5
    assert (tmp_path / "before" / "predictions.png").is_file()
    text = (tmp_path / "recipe.toml").read_text().replace('"masked_video"\nmask_ratio = 0.5', '"video_classification"')
    (tmp_path / "recipe.toml").write_text(f'{text}[init]\nfrom = "{tmp_path / "before" / "model"}"\n')
    prepared = load_recipe(tmp_path / "recipe.toml")
    tuned = train(prepared, run_folder=tmp_path / "after")
    assert isinstance(tuned.model, VideoMAEForVideoClassification)
    assert tuned.model.config.num_classes == 8


def test_the_same_tubes_are_hidden_of_the_same_draw_and_as_many_of_each_clip() -> None:
    from glassformer.image.processor import ImageProcessor
    from glassformer.video.datasets import load_clips

    clips = stacked(list(load_clips(MOTIONS, frames=4).train)[:5])
    config = VideoMAEConfig(image_size=16, patch_size=4, num_frames=4, dim=8, num_heads=2, decoder_dim=8)
    batches = [hidden(clips, config, 0.75, ImageProcessor(size=(16, 16)), np.random.default_rng(s)) for s in (1, 1, 2)]
    masks = [batch.inputs["bool_masked_pos"] for batch in batches]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert (masks[0].sum(1) == 24).all()  # 12 of 16 places, at both times
    assert torch.equal(masks[0][:, :16], masks[0][:, 16:])
    assert batches[0].inputs["pixel_values"].shape == (5, 4, 3, 16, 16)


def test_single_frames_are_the_middle_ones(tmp_path: Path) -> None:
    text = (recipe(tmp_path), (tmp_path / "recipe.toml").read_text())[1]
    (tmp_path / "recipe.toml").write_text(
        text.replace("num_frames = 4", "num_frames = 1").replace("size=16&", "size=16&frames=8&")
    )
    single = load_recipe(tmp_path / "recipe.toml")
    prepared = VideoClassification().prepare(single, Readers())
    batch = next(iter(prepared.validation.batches()))
    clips = Motions(size=16, frames=8).batch(range(1 << 30, (1 << 30) + 8))[0]
    assert torch.equal(batch.inputs["pixel_values"][:, 0], clips[:, 4].float() / 127.5 - 1)


def test_a_folder_of_clips_is_learned_from(tmp_path: Path) -> None:
    clips, _ = Motions(size=20, frames=6).batch(range(8))
    for number, clip in enumerate(clips):
        folder = tmp_path / "clips" / ("golf", "tennis")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write_clip(folder / f"{number}.mp4", clip)
    source = f"{tmp_path / 'clips'}?validation=0.25"
    run = train(recipe(tmp_path, "vivit", source=source), run_folder=tmp_path / "run")
    assert run.model.config.labels == ("golf", "tennis")


def test_what_is_not_done_to_clips_is_refused(tmp_path: Path) -> None:
    flip = f'{MOTIONS}"\naugment = {{ flip = 0.5 }}\n#"'
    with pytest.raises(ValueError, match=r"clips of 'left' as their mirror images, which are of another class"):
        train(recipe(tmp_path, source=flip), run_folder=tmp_path / "run")
    with pytest.raises(ValueError, match="draws no clips"):
        train(recipe(tmp_path, task="masked_video"), run_folder=tmp_path / "other")
    with pytest.raises(ValueError, match="hides none of them, or all"):
        train(recipe(tmp_path, "videomae", task="masked_video", more=DECODER), run_folder=tmp_path / "third")
    mixed = {"source": f'{MOTIONS}"\naugment = {{ mixup = 0.5 }}\n#"', "more": DECODER, "task": "masked_video"}
    with pytest.raises(ValueError, match="mix classes, of which this task learns nothing"):
        recipe(tmp_path, "videomae", **mixed)


def test_mirror_images_are_refused_by_the_words_of_a_class() -> None:
    check_mirror(0.0, ("turn left",))
    check_mirror(0.5, ("golf", "leftovers"))
    for label in ("turn left", "Right-hand", "orbit counter-clockwise"):
        with pytest.raises(ValueError, match="as their mirror images"):
            check_mirror(0.5, ("golf", label))


def test_the_frames_of_a_clip_change_alike_and_clips_each_otherwise() -> None:
    frame = Motions(size=16, frames=4).batch([3])[0][0, :1]
    still = frame.expand(4, -1, -1, -1).expand(3, -1, -1, -1, -1)
    augment = Augmentation(crop=0.4, shift=0.2, rotate=10, flip=0.5, colour=0.4, erase=0.5, randaugment=9)
    first, again, other = (augmented(still, augment, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first - first[:, :1]).abs().max() < 1e-6
    assert not torch.equal(first[0], first[1])
    assert torch.equal(augmented(still, Augmentation(), np.random.default_rng(0)), still)


def test_a_part_of_the_clips_is_put_aside_to_test_on_or_is_there(tmp_path: Path) -> None:
    aside = clips_of(recipe(tmp_path, source=f'{MOTIONS}"\ntest = 0.25\n#"'))
    assert [len(part) for part in (aside.train, aside.validation, aside.test)] == [18, 12, 6]
    there = clips_of(recipe(tmp_path, source=f"{MOTIONS}&test=5"))
    assert [len(part) for part in (there.train, there.validation, there.test)] == [24, 12, 5]
    with pytest.raises(ValueError, match="puts clips aside, and motions has 5 to test on"):
        clips_of(recipe(tmp_path, source=f'{MOTIONS}&test=5"\ntest = 0.25\n#"'))


def test_frames_are_drawn_beside_their_words() -> None:
    clips = Motions(size=16, frames=4).batch([0, 1])[0]
    sheet = draw_clips([("left", clips[0]), ("swap, not bounce", clips[1])], title="two clips", side=32)
    assert sheet.shape[1] == 36 + 2 * 38
    assert (sheet[:, 36:68] != 255).any()
    assert torch.equal(sheet[:, 36 : 36 + 32 : 2, -8 - 4 * 34 : -8 - 4 * 34 + 32 : 2], clips[0][0])
