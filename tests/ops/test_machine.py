"""This machine is measured once, the record is kept and found again, and a record that does not fit is made anew."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from glassformer.ops import linear_onednn, machine
from glassformer.ops.linear import linear_kernel
from glassformer.ops.machine import Machine, keep_freed_memory


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and nothing in memory."""
    monkeypatch.setenv("GLASSFORMER_CACHE", str(tmp_path))
    monkeypatch.setattr(machine, "_machine", None)
    monkeypatch.setattr(machine, "_pays_from", {})
    monkeypatch.setattr(machine, "processor_seconds", lambda: (0.0, 0.0))  # other tests may be running beside these
    return tmp_path / "machine.json"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Machine]:
    """The records that were made; each is quick and unlike the one before."""
    made: list[Machine] = []

    def measure() -> Machine:
        cases = {case: 1000.0 + len(made) for case in machine.SIZES}
        gflops = {"float32 reference": 100.0, "float32 onednn": 200.0, "bfloat16 onednn": 400.0}
        pays = {"float32": cases, "bfloat16": {**cases, "training": math.inf}}
        made.append(Machine(cpu="a CPU", cores=2, threads=1, flags=("avx2",), torch_version="2.13", gflops=gflops,
                            memory_gb_per_s=10.0, onednn_pays_from=pays, int8_pays=True,
                            notes=(f"made {len(made)}",)))  # fmt: skip
        return made[-1]

    monkeypatch.setattr(machine, "_measure", measure)
    return made


def again(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The record as another process would find it."""
    monkeypatch.setattr(machine, "_machine", None)
    return machine.machine()


def test_it_is_measured_once_and_then_read_from_the_file(
    measured: list[Machine], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine.machine()
    assert machine.machine() is first
    assert cache.exists()
    assert again(monkeypatch) == first
    assert len(measured) == 1
    assert machine.measure().notes == ("made 1",)  # asked for, it is measured anew, and that is kept
    assert again(monkeypatch).notes == ("made 1",)


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00\xff",
        '{"format": 0, "machines": {}}',
        '{"format": 2}',
        '{"format": 2, "machines": []}',
        '{"format": 2, "machines": {"KEY": {}}}',
        '{"format": 2, "machines": {"KEY": null}}',
        '{"format": 2, "machines": {"KEY": {"cpu": "x", "flags": [], "notes": []}}}',
    ],
)
def test_a_damaged_or_older_file_is_measured_anew_and_replaced(
    damage: str, measured: list[Machine], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text(damage.replace("KEY", machine._key()), encoding="latin-1")
    assert machine.machine() == measured[0]
    assert again(monkeypatch) == measured[0]
    assert len(measured) == 1


@pytest.mark.parametrize("lost", ["onednn_pays_from", "gflops", "threads"])
def test_a_record_with_something_missing_is_measured_anew(
    lost: str, measured: list[Machine], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.machine()
    content = json.loads(cache.read_text())
    del content["machines"][machine._key()][lost]
    cache.write_text(json.dumps(content))
    assert again(monkeypatch).notes == ("made 1",)


@pytest.mark.parametrize("what", ["cpu", "flags", "torch", "threads"])
def test_another_machine_has_its_own_record_beside_this_one(
    what: str, measured: list[Machine], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, (name, flags) = machine.machine(), machine._cpu()
    with monkeypatch.context() as other:
        if what == "cpu":
            other.setattr(machine, "_cpu", lambda: ("another CPU", flags))
        elif what == "flags":
            other.setattr(machine, "_cpu", lambda: (name, (*flags, "amx_tile")))
        elif what == "torch":
            other.setattr(torch, "__version__", "9.9.9")
        else:
            other.setattr(torch, "get_num_threads", lambda: 61)
        assert again(other).notes == ("made 1",)
    assert again(monkeypatch) == first
    assert len(json.loads(cache.read_text())["machines"]) == 2
    assert list(cache.parent.iterdir()) == [cache]  # no temporary file stays


def test_a_folder_that_cannot_be_written_is_noted_and_the_record_serves_this_process(
    measured: list[Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("in the way")
    monkeypatch.setenv("GLASSFORMER_CACHE", str(tmp_path / "a file" / "below"))
    assert "could not be kept in" in machine.machine().notes[-1]
    machine.machine()
    assert len(measured) == 1


def test_the_cache_folder_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine.cache_file() == tmp_path / "machine.json"
    monkeypatch.delenv("GLASSFORMER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert machine.cache_file() == tmp_path / "xdg" / "glassformer" / "machine.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert machine.cache_file() == tmp_path / "home" / ".cache" / "glassformer" / "machine.json"


def test_the_kernels_chosen_follow_from_what_was_measured(measured: list[Machine]) -> None:
    record = machine.machine()
    assert record.kernels["float32"] == dict.fromkeys(("one row", "few rows", "many rows", "training"), "onednn")
    assert record.kernels["bfloat16"]["training"] == "reference"
    assert machine.onednn_pays_from(torch.float32, "one row") == 1000
    assert record.peak_gflops() == 200
    assert record.peak_gflops(torch.bfloat16) == 400
    with pytest.raises(ValueError, match="no matrix product was measured in float64"):
        record.peak_gflops(torch.float64)
    machine.measure()
    assert machine.onednn_pays_from(torch.float32, "one row") == 1001


@pytest.mark.parametrize(
    ("tiny", "large", "expected"),
    [
        ((1e-6, 1e-5), (1.0, 0.5), "between"),  # a dearer call, a faster product: from some size on
        ((1e-5, 1e-6), (1.0, 0.5), "always"),
        ((1e-6, 1e-5), (1.0, 0.99), "never"),  # within the noise
        ((1e-6, 1e-6), (0.5, 1.0), "never"),
    ],
)
def test_where_onednn_pays_is_where_the_two_lines_meet(
    tiny: tuple[float, float], large: tuple[float, float], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [list(tiny), list(large)]
    monkeypatch.setattr(machine, "_calls", lambda dtype, case, size: [])
    monkeypatch.setattr(machine, "_seconds", lambda calls: seconds.pop(0))
    work = 4 * 512 * 1024 - 4 * 16 * 16
    pays = machine._pays(torch.float32, "few rows")
    meeting = (tiny[1] - tiny[0]) * work / ((large[0] - tiny[0]) - (large[1] - tiny[1]))
    assert pays == {"between": pytest.approx(meeting), "always": 0.0, "never": math.inf}[expected]


def test_of_one_row_the_second_point_is_a_product_of_middle_size_in_and_out_of_the_caches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = [[1e-6, 1e-5], [1.0, 0.5], [1e-5, 1.2e-5], [48 * 7e-5, 48 * 3e-5]]  # tiny, large, within, all 48 without
    monkeypatch.setattr(machine, "_calls", lambda dtype, case, size: [])
    monkeypatch.setattr(machine, "_seconds", lambda calls, rounds=9: seconds.pop(0))
    pays = machine._pays(torch.float32, "one row")
    gained = ((1e-5 + 7e-5) / 2 - 1e-6) - ((1.2e-5 + 3e-5) / 2 - 1e-5)
    assert pays == pytest.approx(9e-6 / gained * (512 * 512 - 16 * 16))
    assert seconds == []


def test_a_real_measurement_is_complete_and_touches_no_random_state() -> None:
    state = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        record = machine.machine()
    assert torch.equal(torch.get_rng_state(), state)
    assert set(record.kernels) == {"float32", "bfloat16"}
    assert all(set(cases) == set(machine.SIZES) for cases in record.kernels.values())
    assert record.peak_gflops() > 0.1
    assert record.memory_gb_per_s > 0.1
    assert record.cpu
    assert record.cores >= 1
    assert record.threads == torch.get_num_threads()


def test_without_the_operators_the_record_says_so_and_reference_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_onednn, "_reorder", None)
    linear_onednn.missing.cache_clear()
    try:
        record = machine.machine()
        assert {kernel for cases in record.kernels.values() for kernel in cases.values()} == {"reference"}
        assert "has no torch.ops.mkldnn._linear_pointwise" in record.notes[0]
        assert set(record.gflops) == {"float32 reference", "bfloat16 reference"}
        x, weight = torch.randn(64, 96, requires_grad=True), torch.randn(80, 96)
        assert torch.equal(linear_kernel("measured")(x, weight, None), F.linear(x, weight))
    finally:
        monkeypatch.undo()
        linear_onednn.missing.cache_clear()


def test_a_dtype_that_this_cpu_has_no_product_for_goes_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    gflops = machine._gflops

    def refuses(dtype: torch.dtype) -> dict[str, float]:
        if dtype is torch.bfloat16:
            raise RuntimeError("could not create a primitive\nmore lines")
        return gflops(dtype)

    monkeypatch.setattr(machine, "_gflops", refuses)
    monkeypatch.setattr(machine, "_pays", lambda dtype, case: 0.0)
    record = machine.machine()
    assert record.kernels["bfloat16"] == dict.fromkeys(machine.SIZES, "reference")
    assert record.kernels["float32"] == dict.fromkeys(machine.SIZES, "onednn")
    assert record.notes == ("reference is the linear kernel in bfloat16: could not create a primitive",)


def test_nothing_is_measured_at_import_or_for_what_is_not_on_the_cpu(cache: Path) -> None:
    program = (
        "import torch, glassformer.ops.linear as linear, glassformer.ops.machine as machine\n"
        "kernel = linear.linear_kernel('measured')\n"
        "kernel(torch.empty(64, 96, device='meta'), torch.empty(80, 96, device='meta'), None)\n"
        "kernel(torch.ones(64, 96).double(), torch.ones(80, 96).double(), None)\n"
        "assert machine._machine is None\n"
        "kernel(torch.ones(64, 96), torch.ones(80, 96), None)\n"
        "assert machine._machine is not None\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert cache.exists()


def test_keeping_freed_memory_takes_effect_with_glibc_and_does_nothing_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = "from glassformer.ops import machine; import platform; " \
              "assert machine.keep_freed_memory() == (platform.libc_ver()[0] == 'glibc')"  # fmt: skip
    subprocess.run([sys.executable, "-c", program], check=True)  # in its own process: it cannot be taken back
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("musl", "1.2"))
    assert keep_freed_memory() is False


def test_a_record_made_while_others_were_in_the_way_is_made_again_some_minutes_later(
    measured: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = machine._measure
    monkeypatch.setattr(machine, "_measure", lambda: replace(plain(), others=0.5, measured_at=1000.0))
    monkeypatch.setattr(machine.time, "time", lambda: 1000.0 + machine.CROWDED_FOR - 1)
    first = machine.machine()
    assert again(monkeypatch) == first
    monkeypatch.setattr(machine.time, "time", lambda: 1000.0 + machine.CROWDED_FOR + 1)
    assert again(monkeypatch).notes == ("made 1",)
    monkeypatch.setattr(machine, "_measure", lambda: replace(plain(), others=0.01, measured_at=0.0))
    calm = machine.measure()
    assert again(monkeypatch) == calm


def test_a_measurement_says_how_much_of_the_machine_others_took(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([(100.0, 1000.0)] + [(160.0, 1100.0)] * 2)
    monkeypatch.setattr(machine, "processor_seconds", lambda: next(seconds))
    monkeypatch.setattr(machine, "_pays", lambda dtype, case: 0.0)
    monkeypatch.setattr(machine, "_gflops", lambda dtype: {})
    record = machine.machine()
    assert 0.5 < record.others <= 0.6
    assert "of the machine while it was measured" in record.notes[-1]
