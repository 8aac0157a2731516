"""A file is looked through once; one that changed is looked through again, whatever its date says."""

import os
from pathlib import Path

import pytest
import torch
from toy import Toy, change_weights, their_folder

from glassformer.checkpoints import looked
from glassformer.checkpoints.files import TensorFile
from glassformer.checkpoints.looked import is_finite


@pytest.fixture
def looks(tmp_path, monkeypatch):
    """A folder, whose file counts as large and as settled, and how many numbers were looked at."""
    monkeypatch.setenv("GLASSFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(looked, "SMALL", 0)
    monkeypatch.setattr(looked, "SETTLED", -1.0)
    seen: list[int] = []
    plain = looked.is_finite
    monkeypatch.setattr(looked, "is_finite", lambda tensor: (seen.append(tensor.numel()), plain(tensor))[1])
    return seen


def overwrite(folder: Path, name: str, value: float) -> None:
    """Another first number of a tensor, in place; the file keeps its name, its size and its date."""
    path = folder / "model.safetensors"
    begin, before = TensorFile(path).entries[name].begin, path.stat()
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(torch.tensor(value).numpy().tobytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_file_is_looked_through_once(tmp_path, looks):
    folder = their_folder(tmp_path / "m")
    first = Toy.from_pretrained(folder)
    assert sum(looks) == sum(p.numel() for p in first.state_dict().values() if p.is_floating_point())
    looks.clear()
    second = Toy.from_pretrained(folder)
    assert not looks
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_file_that_was_changed_is_looked_through_again_though_its_date_is_the_old_one(tmp_path, looks, value):
    folder = their_folder(tmp_path / "m")
    Toy.from_pretrained(folder)
    overwrite(folder, "toy.h.1.proj.bias", value)
    with pytest.raises(ValueError, match=r"'toy\.h\.1\.proj\.bias' holds NaN or infinity"):
        Toy.from_pretrained(folder)
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        Toy.from_pretrained(folder)  # what was refused has no mark


@pytest.mark.parametrize("threads", [1, 3])
def test_every_piece_of_a_large_file_is_looked_at_by_whatever_threads(tmp_path, looks, monkeypatch, threads):
    monkeypatch.setattr(looked, "PIECE", 24)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    folder = their_folder(tmp_path / "m")
    model = Toy.from_pretrained(folder)
    assert max(looks) == 6
    assert sum(looks) == sum(p.numel() for p in model.state_dict().values() if p.is_floating_point())
    file = TensorFile(folder / "model.safetensors")
    for name, entry in file.entries.items():
        if entry.dtype == torch.float32:
            before = file[name].view(-1)[0].item()
            overwrite(folder, name, -torch.inf)
            with pytest.raises(ValueError, match=f"'{name}' holds NaN or infinity"):
                Toy.from_pretrained(folder)
            overwrite(folder, name, before)
    Toy.from_pretrained(folder)


@pytest.mark.parametrize("dtype", looked.INFINITY)
def test_the_largest_numbers_pass_whatever_their_sign_and_the_bits_next_to_them_do_not(dtype):
    infinity, kind = looked.INFINITY[dtype], looked.INTEGERS[dtype.itemsize]
    assert torch.tensor(torch.inf, dtype=dtype).view(kind).item() == infinity
    sign, numbers = torch.iinfo(kind).min, torch.zeros(700_001, dtype=kind)
    for place in (0, 300_001, 700_000):
        for bits in (infinity - 1, infinity, infinity + 1, torch.iinfo(kind).max):
            for signed in (bits, bits + sign):
                numbers[place] = signed
                assert numbers.view(dtype).isfinite().all() == (bits < infinity)
                assert looked.has_finite_bits(numbers.numpy(), infinity) == (bits < infinity)
                assert is_finite(numbers.view(dtype)) == (bits < infinity)
        numbers[place] = 0


def test_what_was_taken_unlooked_has_no_mark(tmp_path, looks):
    folder = their_folder(tmp_path / "m")
    change_weights(folder, toy__h__0__proj__bias=torch.tensor([0, torch.nan, 0, 0]))
    Toy.from_pretrained(folder, allow_nonfinite=True)
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        Toy.from_pretrained(folder)


def test_a_cast_that_may_overflow_is_looked_at_each_time_one_that_cannot_is_not(tmp_path, looks):
    folder = their_folder(tmp_path / "m")
    change_weights(folder, toy__h__0__proj__bias=torch.tensor([0, 1e5, 0, 0]))
    Toy.from_pretrained(folder)
    looks.clear()
    Toy.from_pretrained(folder, dtype=torch.float64)
    assert not looks
    with pytest.raises(ValueError, match=r"'toy\.h\.0\.proj\.bias', as torch\.float16, holds NaN or infinity"):
        Toy.from_pretrained(folder, dtype=torch.float16)


def test_a_mark_says_nothing_of_other_tensors_and_small_or_new_files_have_none(tmp_path, looks, monkeypatch):
    file = TensorFile(their_folder(tmp_path / "m") / "model.safetensors")
    names = list(file)
    assert looked.mark_of(file, names) == looked.mark_of(file, reversed(names))
    assert looked.mark_of(file, names) != looked.mark_of(file, names[1:])
    monkeypatch.setattr(looked, "SMALL", file.stat.st_size + 1)
    assert looked.mark_of(file, names) is None
    monkeypatch.setattr(looked, "SMALL", 0)
    monkeypatch.setattr(looked, "SETTLED", 1e6)
    assert looked.mark_of(file, names) is None


def test_models_are_opened_where_no_mark_can_be_left(tmp_path, looks, monkeypatch):
    folder = their_folder(tmp_path / "m")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GLASSFORMER_CACHE", str(tmp_path / "file" / "below"))
    Toy.from_pretrained(folder)
    looks.clear()
    Toy.from_pretrained(folder)
    assert looks
