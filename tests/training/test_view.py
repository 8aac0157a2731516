from pathlib import Path
from typing import Any

import pytest

from glassformer.training import load_recipe
from glassformer.training.events import Progressed, Started
from glassformer.training.view import RECENT, History, clock, curve


def started(step: int) -> Started:
    recipe = load_recipe("demo", {"training.steps": "1000"})
    return Started(
        step=step, recipe=recipe, folder=Path("here"), parameters=1, data="a text",
        flops_per_unit=1.0, machine_flops=None, device="cpu",
    )  # fmt: skip


def progressed(step: int, seconds: float) -> Progressed:
    rest: dict[str, Any] = dict.fromkeys(
        ("loss", "learning_rate", "gradient_norm", "cpu_seconds", "units_per_second"), 1.0
    )
    return Progressed(step=step, seconds=seconds, units=step, matrix_share=None, **rest)


def test_time_left_follows_the_latest_speed() -> None:
    seen = History()
    seen.take(started(0))
    assert seen.seconds_left() is None
    seen.take(progressed(10, 100.0))  # ten seconds a step at first: loading, other programs
    assert seen.seconds_left() == pytest.approx(990 * 10.0)
    for i in range(1, RECENT + 1):
        seen.take(progressed(10 + 10 * i, 100.0 + i))  # then ten steps a second
    assert seen.seconds_left() == pytest.approx((1000 - 10 - 10 * RECENT) / 10)


def test_time_left_of_a_resumed_run_waits_for_a_second_word() -> None:
    seen = History()
    seen.take(started(500))
    seen.take(progressed(510, 7000.0))
    assert seen.seconds_left() is None
    seen.take(progressed(520, 7005.0))
    assert seen.seconds_left() == pytest.approx(480 * 0.5)


def test_times_and_curves_are_drawn() -> None:
    assert clock(None) == "–"
    assert clock(3725.4) == "1:02:05"
    assert curve([3.0, 2.0, 1.0]) == "█▅▁"
    assert curve([1.0, 1.0]) == "▁▁"
    assert len(curve([float(i) for i in range(1000)])) == 60
