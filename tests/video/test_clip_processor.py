"""Clips are prepared as Hugging Face prepares them, to the last bit."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.vivit.image_processing_vivit import VivitImageProcessor

from glassformer.image.processor import ImageProcessor, ShortestEdge
from glassformer.video.processor import ClipProcessor, evenly, load_clip_processor


def theirs_of(family: str, **options: Any) -> Any:
    if family == "vivit":
        return VivitImageProcessor(**options)
    kind = import_module("transformers.models.videomae.image_processing_pil_videomae")
    return kind.VideoMAEImageProcessorPil(**options)


@pytest.mark.parametrize("family", ["videomae", "vivit"])
@pytest.mark.parametrize("crop", [(24, 24), (23, 31)])
def test_every_bit_of_a_clip_is_as_hugging_face_prepares_it(tmp_path: Path, family: str, crop: tuple[int, int]):
    rows, columns = crop
    theirs = theirs_of(family, size={"shortest_edge": 29}, crop_size={"height": rows, "width": columns})
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_clip_processor(tmp_path / "theirs")
    clips = [torch.randint(0, 256, (4, 3, 37, 50), dtype=torch.uint8), torch.randint(0, 256, (4, 3, 41, 33)).byte()]
    expected = theirs([[frame.numpy() for frame in clip] for clip in clips], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours(clips)["pixel_values"], expected.float(), rtol=0, atol=0)
    ours.save(tmp_path / "ours")
    assert load_clip_processor(tmp_path / "ours") == ours
    again = type(theirs).from_pretrained(tmp_path / "ours")
    expected = again([[frame.numpy() for frame in clip] for clip in clips], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours(clips)["pixel_values"], expected.float(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("VideoMAEVideoProcessor", "videomae"),
        ("TimesformerVideoProcessor", "videomae"),
        ("VivitVideoProcessor", "vivit"),
    ],
)
def test_files_of_video_processors_are_read(tmp_path: Path, kind: str, family: str):
    said = {"video_processor_type": kind, "size": {"shortest_edge": 20}, "image_mean": [0.1, 0.2, 0.3]}
    said |= {"do_sample_frames": False, "fps": None}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(said))
    frames = load_clip_processor(tmp_path).frames
    assert (frames.family, frames.size, frames.mean) == (family, ShortestEdge(20), (0.1, 0.2, 0.3))
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps({**said, "do_sample_frames": True}))
    with pytest.raises(ValueError, match="do_sample_frames=True is not implemented"):
        load_clip_processor(tmp_path)


def test_frames_are_taken_evenly():
    assert evenly(torch.arange(8), 4).tolist() == [1, 3, 5, 7]
    assert evenly(torch.arange(7), 7).tolist() == list(range(7))
    assert evenly(torch.arange(5), 2).tolist() == [1, 3]
    assert evenly(torch.arange(2), 4).tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="0 frames"):
        evenly(torch.arange(2), 0)


def test_clips_that_make_no_batch_are_refused():
    processor = ClipProcessor(ImageProcessor(size=None))
    clip = torch.rand(2, 3, 5, 6)
    wrong: list[tuple[list[torch.Tensor], str]] = [
        ([], "these are none"),
        ([clip[0]], r"clips \(t, 3, y, x\)"),
        ([clip, clip[:1]], "of one length"),
        ([clip, clip[:, :1]], "clip 1: a picture has 3 channels"),
        ([clip, clip * float("nan")], "clip 1: .* not finite"),
        ([clip, clip[..., 1:]], "of the sizes"),
    ]
    for clips, sentence in wrong:
        with pytest.raises(ValueError, match=sentence):
            processor(clips)
    with pytest.raises(ValueError, match="not padded"):
        ClipProcessor(ImageProcessor(pad=True))
