"""Clips of every source come with their labels, in parts that share nothing; what is wrong is named first."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from glassformer.video.datasets import load_clips
from glassformer.video.files import write_clip
from glassformer.video.motions import Motions


def sports(root: Path, per_class: int = 5) -> Path:
    for k, name in enumerate(("run", "golf")):
        (root / name).mkdir(parents=True)
        for n in range(per_class):
            write_clip(root / name / f"{n}.gif", torch.full((4 + n, 3, 16, 24), 0.2 + 0.6 * k))
    return root


def test_a_folder_for_each_class_of_clips(tmp_path: Path):
    clips = load_clips(f"{sports(tmp_path)}?validation=0.2", frames=3)
    assert clips.labels == ("golf", "run")
    assert Counter(record.label for record in clips.validation) == {0: 1, 1: 1}
    assert len(clips.train) == 8
    for record in clips.train:
        assert record.clip.shape == (3, 3, 16, 24)
        shade = {"run": 51, "golf": 204}[clips.labels[record.label]]
        assert abs(int(record.clip[0, 0, 0, 0]) - shade) <= 2
        assert clips.labels[record.label] in record.place


def test_parts_in_folders_and_in_tables(tmp_path: Path):
    sports(tmp_path / "train")
    sports(tmp_path / "test", 2)
    clips = load_clips(str(tmp_path), frames=2)
    assert (len(clips.train), len(clips.validation)) == (10, 4)
    for part in ("train", "test"):
        files = sorted((tmp_path / part).rglob("*.gif"))
        rows = "\n".join(f"{path.relative_to(tmp_path)},{path.parent.name}" for path in files)
        (tmp_path / f"{part}.csv").write_text(f"clip,label\n{rows}\n")
    tables = load_clips(f"{tmp_path}/train.csv?validation={tmp_path}/test.csv", frames=2)
    assert tables.labels == clips.labels
    assert [one.label for one in tables.validation] == [one.label for one in clips.validation]
    assert len(load_clips(f"{tmp_path}/train.csv?validation=0.4").train) == 6
    (tmp_path / "test.csv").write_text("clip,label\ntest/run/0.gif,swim\n")
    with pytest.raises(ValueError, match="the class 'swim', which"):
        load_clips(f"{tmp_path}/train.csv?validation={tmp_path}/test.csv")
    (tmp_path / "test.csv").write_text("film,label\ntest/run/0.gif,run\n")
    with pytest.raises(ValueError, match="columns film, label, and no 'clip'"):
        load_clips(f"{tmp_path}/test.csv")


def test_bad_clips_are_named_before_any_is_learned_from(tmp_path: Path):
    sports(tmp_path)
    (tmp_path / "run" / "broken.mp4").write_bytes(b"no clip")
    with pytest.raises(ValueError, match=r"broken\.mp4 is no clip"):
        load_clips(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="did you mean 'motions'"):
        load_clips("motion")
    with pytest.raises(ValueError, match="frames=0"):
        load_clips("motions", frames=0)


def test_motions_are_drawn_when_they_are_asked_for():
    clips = load_clips("motions?size=16&train=20&validation=5&seed=3", frames=6)
    world = Motions(size=16, frames=6, seed=3)
    assert clips.labels == world.labels
    assert (len(clips.train), len(clips.validation)) == (20, 5)
    expected, labels = world.batch([7])
    assert torch.equal(clips.train[7].clip, expected[0])
    assert clips.train[7].label == labels[0]
    longer = load_clips("motions?size=16&train=2000&validation=5&seed=3&frames=6")
    assert torch.equal(longer.validation[4].clip, clips.validation[4].clip)
    learned = {record.clip.numpy().tobytes() for record in clips.train}
    assert not learned & {record.clip.numpy().tobytes() for record in clips.validation}
    with pytest.raises(ValueError, match="size=big; expected a whole number"):
        load_clips("motions?size=big")
    with pytest.raises(ValueError, match="no option 'sizes'"):
        load_clips("motions?sizes=32")
