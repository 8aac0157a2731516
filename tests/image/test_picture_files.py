"""Every kind of picture file is read as red, green and blue; what is none is refused in a sentence."""

import io
import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer.image.files import picture_size, read_image, read_mask, write_image

GREYS = np.array([[0, 100, 255], [7, 8, 9]], dtype=np.uint8)


def test_colours_are_written_and_read_back_to_the_bit(tmp_path: Path):
    picture = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    write_image(tmp_path / "a.png", picture)
    assert torch.equal(read_image(tmp_path / "a.png"), picture)
    write_image(tmp_path / "b.PNG", picture.float() / 255)
    assert torch.equal(read_image(tmp_path / "b.PNG"), picture)
    write_image(tmp_path / "c.jpg", torch.full((3, 8, 8), 0.5))
    assert (read_image(tmp_path / "c.jpg").int() - 128).abs().max() <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.PNG", "c.jpg"]


def test_greys_are_repeated(tmp_path: Path):
    Image.fromarray(GREYS).save(tmp_path / "grey.png")
    assert torch.equal(read_image(tmp_path / "grey.png"), torch.from_numpy(GREYS).expand(3, 2, 3))
    Image.fromarray(GREYS > 50).save(tmp_path / "bits.png")
    assert read_image(tmp_path / "bits.png")[2].tolist() == [[0, 255, 255], [0, 0, 0]]


def test_a_palette_is_looked_up_and_a_mask_keeps_its_indices(tmp_path: Path):
    indices = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8)).convert("P")
    indices.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indices.save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png")[:, 1, 0].tolist() == [70, 80, 90]
    assert read_mask(tmp_path / "palette.png").tolist() == [[0, 1], [2, 1]]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path):
    wide = np.array([[0, 257, 25700, 65535, 128, 129]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png")[0].tolist() == [[0, 1, 100, 255, 0, 1]]


def test_transparent_parts_lie_over_white(tmp_path: Path):
    pixels = np.array([[[9, 9, 9, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    picture = read_image(tmp_path / "alpha.png")
    assert picture[:, 0, 0].tolist() == [255, 255, 255]
    assert picture[:, 0, 1].tolist() == [10, 20, 30]
    assert abs(int(picture[0, 0, 2]) - 127) <= 1
    clear = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    clear.putpalette([1, 2, 3, 4, 5, 6])
    clear.save(tmp_path / "clear.png", transparency=0)
    assert read_image(tmp_path / "clear.png")[:, 0].T.tolist() == [[255, 255, 255], [4, 5, 6]]
    Image.fromarray(pixels[..., ::3].copy()).save(tmp_path / "grey_alpha.png")
    assert read_image(tmp_path / "grey_alpha.png")[1, 0].tolist()[:2] == [255, 10]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_the_right_way_up(tmp_path: Path, orientation: int):
    upright = torch.arange(6, dtype=torch.uint8).reshape(2, 3) * 40
    back = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]  # 6 and 8 are each other's way back
    stored = _oriented(upright.numpy(), back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "turned.png")[0], upright)
    assert picture_size(tmp_path / "turned.png") == (2, 3)


def _oriented(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What the EXIF standard (2.32, tag 0x0112) asks of a reader, by rows and columns."""
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].T,
        8: np.rot90(pixels),
    }
    return np.ascontiguousarray(turned[orientation])


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp", "tif"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow remarks on broken metadata
def test_a_damaged_file_is_read_or_refused_in_one_sentence_that_names_it(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    write_image(path, torch.randint(0, 256, (3, 24, 24), dtype=torch.uint8))
    whole, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(60):
        bad = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.5 else whole)
        for _ in range(chance.randrange(1, 6)):
            if bad:
                bad[chance.randrange(min(len(bad), 200))] = chance.randrange(256)
        path.write_bytes(bad)
        for read in (read_image, picture_size, read_mask):
            sentence = _refusal(read, path)
            refused += sentence is not None
            assert sentence is None or re.fullmatch(rf"{re.escape(str(path))} (is|has|holds) .+", sentence)
    assert refused > 20


def _refusal(read: Callable[[Path], object], path: Path) -> str | None:
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return None


def test_a_picture_cut_off_says_so(tmp_path: Path):
    held = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(held, "PNG")
    (tmp_path / "cut.png").write_bytes(held.getvalue()[:5000])
    with pytest.raises(ValueError, match=r"cut\.png is damaged or cut off"):
        read_image(tmp_path / "cut.png")
    assert picture_size(tmp_path / "cut.png") == (64, 64)  # the header is whole


def test_what_is_no_picture_is_refused(tmp_path: Path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png is no picture that Pillow can read"):
        read_image(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError, match=r"none\.png is not there"):
        read_image(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match="is no file"):
        read_image(tmp_path)
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif holds 'F' pixels"):
        read_image(tmp_path / "float.tif")


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "bomb.png")
    with warnings.catch_warnings(), pytest.raises(ValueError, match=r"bomb\.png has more pixels than the limit"):
        read_image(tmp_path / "bomb.png")


def test_a_mask_is_numbers_of_classes(tmp_path: Path):
    numbers = torch.tensor([[0, 3], [255, 7]], dtype=torch.uint8)
    write_image(tmp_path / "mask.png", numbers)
    assert torch.equal(read_mask(tmp_path / "mask.png"), numbers)
    write_image(tmp_path / "colours.png", torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match=r"colours\.png holds RGB; a mask has one channel"):
        read_mask(tmp_path / "colours.png")
    Image.fromarray(np.array([[300]], np.uint16)).save(tmp_path / "many.png")
    with pytest.raises(ValueError, match="holds the class 300"):
        read_mask(tmp_path / "many.png")


def test_only_pictures_are_written_and_nothing_is_lost(tmp_path: Path):
    path = tmp_path / "a.png"
    write_image(path, torch.zeros(3, 2, 2))
    before = path.read_bytes()
    wrong = {
        "these have values that are not finite": torch.full((3, 2, 2), float("nan")),
        "from -1 to 0.5": torch.tensor([-1.0, 0.5]).reshape(1, 1, 2).expand(3, 1, 2),
        "3 channels": torch.zeros(4, 2, 2),
        "has no pixels": torch.zeros(3, 0, 2),
        "uint8 in 0 .. 255 or float": torch.zeros(3, 2, 2, dtype=torch.int32),
        "one picture is": torch.zeros(1, 3, 2, 2),
    }
    for sentence, picture in wrong.items():
        with pytest.raises(ValueError, match=sentence):
            write_image(path, picture)
    with pytest.raises(ValueError, match="no suffix of a picture format"):
        write_image(tmp_path / "a.txt", torch.zeros(3, 2, 2))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
