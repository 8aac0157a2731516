"""Clips as files, both ways, and files that are none."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from glassformer.video.files import filmstrip, read_clip, write_clip
from glassformer.video.motions import Motions


@pytest.fixture
def clip() -> Tensor:
    return Motions(size=32, frames=10, seed=3).batch([5])[0][0]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_a_video_comes_back_nearly_as_it_was(tmp_path: Path, clip: Tensor, suffix: str) -> None:
    write_clip(tmp_path / f"a.{suffix}", clip)
    again = read_clip(tmp_path / f"a.{suffix}")
    assert again.shape == clip.shape
    error = (again.float() - clip.float()).abs().mean(dim=(1, 2, 3))
    assert error.max() < 10  # colours are kept at half the resolution
    other = (again.float() - clip.roll(1, dims=0).float()).abs().mean(dim=(1, 2, 3))
    assert (error < other).all()  # in their order


def test_an_animated_gif_comes_back_with_its_colours(tmp_path: Path) -> None:
    clip = torch.zeros(6, 3, 20, 30, dtype=torch.uint8)
    for t in range(6):
        clip[t, :, :, 4 * t : 4 * t + 6] = torch.tensor([200, 40 * t, 17], dtype=torch.uint8)[:, None, None]
    write_clip(tmp_path / "a.gif", clip, rate=10)
    assert torch.equal(read_clip(tmp_path / "a.gif"), clip)
    assert torch.equal(read_clip(tmp_path / "a.gif", frames=3), clip[[1, 3, 5]])


def test_odd_sizes_are_made_even_by_repeating_the_edge(tmp_path: Path, clip: Tensor) -> None:
    write_clip(tmp_path / "a.mp4", clip[:, :, :31, :29])
    again = read_clip(tmp_path / "a.mp4")
    assert again.shape == (10, 3, 32, 30)
    assert (again[:, :, :31, :29].float() - clip[:, :, :31, :29].float()).abs().mean() < 10


def test_some_frames_are_evenly_over_the_whole(tmp_path: Path, clip: Tensor) -> None:
    write_clip(tmp_path / "a.mp4", clip)
    whole = read_clip(tmp_path / "a.mp4")
    assert torch.equal(read_clip(tmp_path / "a.mp4", frames=5), whole[[1, 3, 5, 7, 9]])
    assert len(read_clip(tmp_path / "a.mp4", frames=25)) == 25


def test_a_video_that_says_it_lies_on_its_side_is_turned(tmp_path: Path, clip: Tensor) -> None:
    write_clip(tmp_path / "a.mp4", clip[:, :, :, :24])
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # ISO 14496-12, section 8.3.2: a quarter turn clockwise
    for place, value in enumerate((0, 1 << 16, 0, -(1 << 16), 0)):
        data[matrix + 4 * place : matrix + 4 * place + 4] = value.to_bytes(4, "big", signed=True)
    (tmp_path / "turned.mp4").write_bytes(data)
    assert torch.equal(read_clip(tmp_path / "turned.mp4"), read_clip(tmp_path / "a.mp4").rot90(-1, (2, 3)))


def test_files_that_are_no_clips_are_refused(tmp_path: Path, clip: Tensor) -> None:
    with pytest.raises(FileNotFoundError, match=r"there\.mp4 is not there"):
        read_clip(tmp_path / "there.mp4")
    (tmp_path / "text.mp4").write_text("no clip at all")
    with pytest.raises(ValueError, match=r"text\.mp4 is no clip, or is damaged"):
        read_clip(tmp_path / "text.mp4")
    (tmp_path / "empty.gif").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.gif is no clip, or is damaged"):
        read_clip(tmp_path / "empty.gif")


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_a_clip_that_is_cut_off_is_refused(tmp_path: Path, clip: Tensor, part: float) -> None:
    noise = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
    write_clip(tmp_path / "a.mp4", noise)
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: int(part * len(data))])
    with pytest.raises(ValueError, match=r"cut\.mp4 is .*(damaged|cut off)"):
        read_clip(tmp_path / "cut.mp4")


def test_a_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    with pytest.raises(ValueError, match=r"a\.wav holds no pictures"):
        read_clip(tmp_path / "a.wav")


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path, clip: Tensor) -> None:
    for path, what, rate, sentence in (
        ("a.txt", clip, 8, "no suffix of a clip"), ("a.mp4", clip[0], 8, r"a clip is \(t, 3, y, x\)"),
        ("a.mp4", clip, 0, "rate=0"), ("a.mp4", clip.float(), 8, "float pixels"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            write_clip(tmp_path / path, what, rate=rate)
    assert not list(tmp_path.iterdir())


def test_a_filmstrip_shows_the_frames_in_order(clip: Tensor) -> None:
    strip = filmstrip(clip, columns=4, gap=1)
    assert strip.shape == (3, 3 * 33 - 1, 4 * 33 - 1)
    assert torch.equal(strip[:, 33:65, 66:98], clip[6])
    assert (strip[:, :, 32] == 255).all()
    assert filmstrip(clip).shape == (3, 32, 10 * 34 - 2)
    with pytest.raises(ValueError, match="columns=0"):
        filmstrip(clip, columns=0)
