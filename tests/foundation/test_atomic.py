"""Whole or not at all: whatever happens while a file is written."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glassformer.checkpoints.files import read_tensors, write_tensors
from glassformer.foundation import atomic
from glassformer.foundation.atomic import atomic_file, atomic_folder, atomic_update, sweep


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def refuse_after(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """The disk is full after so many bytes of each file."""

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    plain = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r": Full(self, mode) if "w" in mode else plain(self, mode))


@pytest.mark.parametrize("left", [0, 20, 300])
def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path, monkeypatch, left):
    write_tensors(tmp_path / "x", {"a": torch.ones(3)})
    refuse_after(monkeypatch, left)
    with pytest.raises(OSError, match=r"the disk is full: .*/x was not written") as caught:
        write_tensors(tmp_path / "x", {"a": torch.zeros(300)})
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == {"x"}
    assert torch.equal(read_tensors(tmp_path / "x")["a"], torch.ones(3))


LIMITED = """
import resource, sys, torch
from pathlib import Path
from glassformer.checkpoints.files import write_tensors
from glassformer.foundation.atomic import atomic_folder

folder = Path(sys.argv[1])
write_tensors(folder / "x", {"a": torch.ones(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_tensors(folder / "x", {"a": torch.zeros(10_000)})
except OSError as error:
    print(error)
try:
    with atomic_folder(folder / "y") as beside:
        write_tensors(beside / "x", {"a": torch.zeros(10_000)})
except OSError as error:
    print(error)
"""


def test_a_file_that_may_not_be_so_large_is_named_whoever_wrote_it(tmp_path):
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    said = "File too large: {} was not written, what was there is unchanged"
    assert done.stdout.splitlines() == [said.format(tmp_path / "x"), said.format(tmp_path / "y")]
    assert names(tmp_path) == {"x"}


SMALL_DISK = """
import os, sys, torch
from glassformer.checkpoints.files import read_tensors, write_tensors

path = sys.argv[1] + "/x"
write_tensors(path, {"a": torch.ones(10_000)})
try:
    write_tensors(path, {"a": torch.zeros(1_000_000)})
except OSError as error:
    assert "the disk is full" in str(error), error
assert os.listdir(sys.argv[1]) == ["x"]
assert torch.equal(read_tensors(path)["a"], torch.ones(10_000))
print("kept")
"""


def test_a_disk_that_is_really_full_leaves_the_old_file(tmp_path):
    mount = f"mount -t tmpfs -o size=1m none {tmp_path}"
    own_disks = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*own_disks, mount], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    command = f"{mount} && {sys.executable} -c '{SMALL_DISK}' {tmp_path}"
    done = subprocess.run([*own_disks, command], capture_output=True, text=True)
    assert done.stdout == "kept\n", done.stderr


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    (tmp_path / "x").write_bytes(b"old")

    def interrupted() -> None:
        with atomic_file(tmp_path / "x") as file:
            file.write(b"half of the ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == {"x"}
    assert (tmp_path / "x").read_bytes() == b"old"
    with atomic_file(tmp_path / "x") as file:
        file.write(b"new")
        assert (tmp_path / "x").read_bytes() == b"old", "not before it is whole"
    assert (tmp_path / "x").read_bytes() == b"new"


def test_the_data_reach_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: events.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    monkeypatch.setattr(Path, "replace", lambda self, to: events.append("rename") or replace(self, to))
    with atomic_file(tmp_path / "x") as file:
        file.write(b"data")
    assert events[0].endswith(".tmp")
    assert events[1:] == ["rename", str(tmp_path)]


def test_a_folder_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(atomic, "sync_folder", lambda folder: synced.append((folder, (tmp_path / "new").exists())))
    with atomic_folder(tmp_path / "new") as beside:
        pass
    assert synced == [(beside, False), (tmp_path, True)]


KILLED = """
import sys, time, torch
from pathlib import Path
from glassformer.checkpoints.files import write_tensors

class Slow(dict):
    def __getitem__(self, name):
        if name == "b":
            print("half", flush=True)
            time.sleep(60)
        return super().__getitem__(name)

state = Slow(a=torch.zeros(50_000), b=torch.zeros(50_000))
write_tensors(sys.argv[1], state, like={n: torch.empty(50_000) for n in "ab"}, digests=True)
"""


def test_a_kill_in_the_middle_leaves_the_old_file_and_an_orphan_that_sweep_removes(tmp_path):
    write_tensors(tmp_path / "x", {"a": torch.ones(3)}, digests=True)
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "x")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert torch.equal(read_tensors(tmp_path / "x", require_digests=True)["a"], torch.ones(3))
    assert len(names(tmp_path)) == 2
    (swept,) = sweep(tmp_path)
    assert swept.name.startswith(".x")
    assert names(tmp_path) == {"x"}


def test_sweep_takes_only_what_interrupted_writes_left(tmp_path):
    for name in ("x", ".hidden", "y.tmp", ".z.tmp"):
        (tmp_path / name).write_bytes(b"mine")
    orphan_file, orphan_folder = atomic.temporary(tmp_path / "x"), atomic.temporary(tmp_path / "step")
    orphan_file.write_bytes(b"half")
    orphan_folder.mkdir()
    (orphan_folder / "inside").write_bytes(b"half")
    assert set(sweep(tmp_path)) == {orphan_file, orphan_folder}
    assert names(tmp_path) == {"x", ".hidden", "y.tmp", ".z.tmp"}
    assert sweep(tmp_path) == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path):

    def interrupted() -> None:
        with atomic_folder(tmp_path / "deep" / "step") as beside:
            (beside / "x").write_bytes(b"1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert names(tmp_path / "deep") == set()
    with atomic_folder(tmp_path / "deep" / "step") as beside:
        (beside / "x").write_bytes(b"1")
        assert not (tmp_path / "deep" / "step").exists()
    assert names(tmp_path / "deep") == {"step"}
    with pytest.raises(FileExistsError, match="already there"), atomic_folder(tmp_path / "deep" / "step"):
        pass


def test_an_update_replaces_its_files_and_keeps_the_others(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("weights-1", "weights-2", "config", "tokenizer"):
        (folder / name).write_bytes(b"old")

    def interrupted() -> None:
        with atomic_update(folder, last="config", stale=["weights-1", "weights-2"]) as beside:
            (beside / "weights").write_bytes(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert names(folder) == {"weights-1", "weights-2", "config", "tokenizer"}
    with atomic_update(folder, last="config", stale=["weights-1", "weights-2"]) as beside:
        (beside / "weights-1").write_bytes(b"new")
        (beside / "config").write_bytes(b"new")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "weights-1": b"new", "config": b"new", "tokenizer": b"old"
    }  # fmt: skip
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="is a file"), atomic_update(tmp_path / "file", last="config"):
        pass


def test_an_update_cut_between_its_renames_leaves_a_folder_that_is_refused(tmp_path, monkeypatch):
    """Never new weights under an old config: the config goes first and comes last."""
    folder = tmp_path / "model"
    replace = Path.replace

    def update() -> None:
        with atomic_update(folder, last="config") as beside:
            for name in ("a", "b", "config"):
                (beside / name).write_bytes(b"new")

    for stop in range(3):
        folder.mkdir(exist_ok=True)
        for name in ("a", "b", "config"):
            (folder / name).write_bytes(b"old")
        done: list[Path] = []

        def stopping(self, to, done=done, stop=stop):
            if len(done) == stop:
                raise InterruptedError
            done.append(to)
            return replace(self, to)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", stopping)
            with pytest.raises(InterruptedError):
                update()
        assert "config" not in names(folder)
