import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from glassformer.checkpoints.files import write_tensors
from glassformer.foundation.atomic import temporary
from glassformer.training.checkpoint import Checkpoints, Snapshot, put_weights, read_weights


def snapshot(step: int) -> Snapshot:
    generator = torch.Generator().manual_seed(step)
    return Snapshot(
        model={"weight": torch.randn(3, 4, generator=generator), "bias": torch.zeros(4)},
        optimizer={"weight:exp_avg": torch.randn(3, 4, generator=generator), "weight:step": torch.tensor(float(step))},
        generators={"cpu": generator.get_state()},
        state={"progress": {"step": step, "best_loss": None}, "loader": {"step": step}},
    )


def same(a: Snapshot, b: Snapshot) -> bool:
    pairs = [(a.model, b.model), (a.optimizer, b.optimizer), (a.generators, b.generators)]
    tensors = all(x.keys() == y.keys() and all(x[name].equal(y[name]) for name in x) for x, y in pairs)
    return tensors and a.state == b.state


def flip_a_bit(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.fixture
def three(tmp_path: Path) -> Checkpoints:
    """Checkpoints of the steps 1, 2 and 3."""
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, snapshot(step))
    return checkpoints


def test_what_is_saved_is_loaded_to_the_bit(three: Checkpoints) -> None:
    assert same(three.load(), snapshot(3))
    assert same(three.load(2), snapshot(2))


def test_only_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15, 20):
        checkpoints.save(step, snapshot(step))
    assert checkpoints.steps() == [15, 20]
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step-000015", "step-000020"]


def test_files_are_safetensors_that_others_open(three: Checkpoints) -> None:
    for name in ("model.safetensors", "training.safetensors"):
        assert load_file(three.path(3) / name)


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors"])
@pytest.mark.parametrize("place", ["header", "tensors"])
def test_one_flipped_bit_in_the_newest_is_named_and_the_one_before_offered(
    three: Checkpoints, name: str, place: str
) -> None:
    path = three.path(3) / name
    flip_a_bit(path, 20 if place == "header" else path.stat().st_size - 3)
    with pytest.raises(ValueError, match=r"the checkpoint of step 3 is damaged: .*step-000003.*resume from step 2"):
        three.load()
    assert same(three.load(2), snapshot(2))


def test_flipping_any_bit_of_the_state_is_found(three: Checkpoints) -> None:
    path = three.path(3) / "training.safetensors"
    flip_a_bit(path, path.read_bytes().index(b"progress"))
    with pytest.raises(ValueError, match="metadata is damaged"):
        three.load()


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "empty"])
def test_files_cut_short_or_gone_are_named(three: Checkpoints, name: str, damage: str) -> None:
    path = three.path(3) / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -5 if damage == "truncated" else 0])
    with pytest.raises(ValueError, match=f"step 3 is damaged: .*{name}"):
        three.load()


def test_whole_weights_of_another_step_are_noticed(three: Checkpoints) -> None:
    for name in ("model.safetensors", "training.safetensors"):
        shutil.copytree(three.folder, three.folder.with_name("kept"))
        shutil.copy(three.path(2) / name, three.path(3) / name)
        with pytest.raises(ValueError, match=r"step 3 is damaged: .* holds other weights than those that.*step 2"):
            three.load()
        shutil.rmtree(three.folder)
        three.folder.with_name("kept").rename(three.folder)
    assert same(three.load(), snapshot(3))


def test_the_offer_skips_checkpoints_that_are_damaged_too(three: Checkpoints) -> None:
    for step in (2, 3):
        flip_a_bit(three.path(step) / "model.safetensors", -1)
    with pytest.raises(ValueError, match="resume from step 1"):
        three.load()
    flip_a_bit(three.path(1) / "model.safetensors", -1)
    with pytest.raises(ValueError, match="no whole one is left"):
        three.load()


def test_weights_without_digests_or_not_finite_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "forged.safetensors")
    with pytest.raises(ValueError, match=r"forged\.safetensors has no SHA-256"):
        read_weights(tmp_path / "forged.safetensors")
    write_tensors(tmp_path / "nan.safetensors", {"weight": torch.tensor([1.0, torch.nan])}, digests=True)
    with pytest.raises(ValueError, match=r"nan\.safetensors: tensor 'weight' holds NaN"):
        read_weights(tmp_path / "nan.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": None}, "lacks tensor 'weight'"),
        ({"gain": torch.zeros(1)}, "has a superfluous tensor 'gain'"),
        ({"bias": torch.zeros(3)}, r"tensor 'bias' is \(3,\) of torch.float32; the model's is \(2,\)"),
        ({"bias": torch.zeros(2, dtype=torch.int64)}, "tensor 'bias' is .* of torch.int64"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_any_is_set(change: dict[str, Any], message: str) -> None:
    model = nn.Linear(3, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given = {"weight": torch.ones(2, 3), "bias": torch.ones(2)} | change
    with pytest.raises(ValueError, match=message):
        put_weights(model, {name: tensor for name, tensor in given.items() if tensor is not None}, "here")
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_nothing_to_load_and_unknown_steps_are_named(tmp_path: Path, three: Checkpoints) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        Checkpoints(tmp_path / "elsewhere").load()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7; it has 1, 2, 3"):
        three.load(7)


@pytest.mark.parametrize("after_bytes", [0, 100, 900])
def test_a_full_disk_leaves_the_old_checkpoint_and_no_orphan(
    three: Checkpoints, monkeypatch: pytest.MonkeyPatch, after_bytes: int
) -> None:
    left = after_bytes
    real = os.fsync

    def full(descriptor: int) -> None:
        nonlocal left
        left -= os.fstat(descriptor).st_size
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="the disk is full"):
        three.save(4, snapshot(4))
    with pytest.raises(OSError, match="the disk is full"):
        three.save_best({"weight": torch.zeros(1000)}, {"step": 4})
    assert three.steps() == [1, 2, 3]
    assert sorted(path.name for path in three.folder.iterdir()) == [f"step-00000{step}" for step in (1, 2, 3)]
    assert same(three.load(), snapshot(3))


def test_orphans_of_a_crash_are_swept_and_are_no_checkpoints(three: Checkpoints) -> None:
    orphan = temporary(three.path(4))
    orphan.mkdir()
    (orphan / "model.safetensors").write_bytes(b"half")
    loose = temporary(three.folder.parent / "metrics.jsonl")
    loose.write_bytes(b"half")
    assert three.steps() == [1, 2, 3]
    assert sorted(three.sweep()) == sorted([orphan, loose])
    assert not orphan.exists()
    assert not loose.exists()
    assert same(three.load(), snapshot(3))


def test_a_checkpoint_put_aside_is_none_any_more_but_still_there(three: Checkpoints) -> None:
    three.abandon(3)
    assert three.steps() == [1, 2]
    assert (three.folder / "abandoned-step-000003" / "model.safetensors").is_file()
    three.save(3, snapshot(3))
    three.save(3, snapshot(3))  # over one that is there
    assert three.steps() == [1, 2, 3]


def test_the_best_weights_are_replaced_as_a_whole(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save_best(snapshot(step).model, {"step": step})
    assert read_weights(checkpoints.best)["weight"].equal(snapshot(2).model["weight"])
    assert [path.name for path in checkpoints.best.parent.iterdir()] == ["model.safetensors"]
