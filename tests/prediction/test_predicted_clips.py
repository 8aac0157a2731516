"""What a model of clips says of a clip, as a function and on the command line."""

import json
from pathlib import Path

import pytest
import torch

from glassformer.cli import main
from glassformer.image.files import read_image, write_image
from glassformer.image.processor import ImageProcessor
from glassformer.models.timesformer import TimeSformerConfig, TimeSformerForVideoClassification
from glassformer.prediction import predict_clip_classes
from glassformer.video.files import read_clip, write_clip
from glassformer.video.motions import MOTIONS, Motions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = TimeSformerConfig(
        image_size=16, patch_size=8, num_frames=4, dim=16, num_layers=1, num_heads=2, hidden_dim=16, num_classes=8,
        labels=MOTIONS,
    )  # fmt: skip
    TimeSformerForVideoClassification(config).save_pretrained(tmp_path / "model")
    ImageProcessor(size=(16, 16), family="videomae").save(tmp_path / "model")
    write_clip(tmp_path / "a.mp4", Motions(size=32, frames=9).batch([3])[0][0])
    return tmp_path


def test_the_classes_of_a_clip_are_those_of_the_model_s_logits(folder: Path) -> None:
    model = TimeSformerForVideoClassification.from_pretrained(folder / "model")
    clip, processor = read_clip(folder / "a.mp4"), ImageProcessor(size=(16, 16), family="videomae")
    (found,) = predict_clip_classes(model, processor, [clip], top=None)
    frames = torch.stack([processor.normalised(processor.resized(clip[i])) for i in (1, 3, 5, 7)])
    shares = model(frames[None]).logits[0].softmax(0)
    assert found.probabilities == pytest.approx(sorted(shares.tolist(), reverse=True), rel=1e-5)
    assert found.labels[0] == MOTIONS[int(shares.argmax())]


def test_the_command_prints_and_draws(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    main(
        [
            "predict",
            str(folder / "a.mp4"),
            "--model",
            str(folder / "model"),
            "--output",
            str(out),
            "--json",
            "--top",
            "2",
        ]
    )
    (rows,) = json.loads(capsys.readouterr().out).values()
    assert [row["class"] in MOTIONS for row in rows] == [True, True]
    assert read_image(out / "a.png").shape[1] > 100


def test_a_picture_is_no_clip(folder: Path) -> None:
    write_image(folder / "a.png", torch.zeros(3, 16, 16, dtype=torch.uint8))
    model = TimeSformerForVideoClassification.from_pretrained(folder / "model")
    with pytest.raises(ValueError, match="reads clips"):
        predict_clip_classes(model, ImageProcessor(size=(16, 16)), [read_image(folder / "a.png")])
    with pytest.raises(ValueError, match="top=0"):
        predict_clip_classes(model, ImageProcessor(size=(16, 16)), [], top=0)
