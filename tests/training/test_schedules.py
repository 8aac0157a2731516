import math
from itertools import pairwise

import pytest

from glassformer.training import WSD, Constant, Cosine, LinearDecay
from glassformer.training.schedules import SCHEDULES, Schedule

STEPS = 100


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_is_a_straight_line_that_ends_at_the_peak(name: str) -> None:
    schedule = SCHEDULES[name](warmup_steps=9)
    assert [schedule(step, STEPS) for step in range(10)] == pytest.approx([(step + 1) / 10 for step in range(10)])


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        (Cosine(warmup_steps=10, final_fraction=0.2), 0.2),
        (LinearDecay(final_fraction=0.3), 0.3),
        (WSD(), 0.0),
        (Constant(), 1.0),
    ],
)
def test_the_last_step_has_the_final_fraction_and_no_step_more_than_the_one_before(
    schedule: Schedule, last: float
) -> None:
    factors = [schedule(step, STEPS) for step in range(schedule.warmup_steps, STEPS)]
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(last)
    assert all(later <= earlier for earlier, later in pairwise(factors))


def test_cosine_equals_its_equation() -> None:
    schedule = Cosine(warmup_steps=10, final_fraction=0.1)
    progress = (40 - 10) / (STEPS - 1 - 10)
    assert schedule(40, STEPS) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def test_linear_equals_torchs_linear_decay() -> None:
    schedule = LinearDecay(final_fraction=0.0)
    assert [schedule(step, 11) for step in range(11)] == pytest.approx([1 - step / 10 for step in range(11)])


def test_wsd_is_a_trapezoid() -> None:
    schedule = WSD(warmup_steps=1, decay_fraction=0.5, final_fraction=0.0)
    factors = [schedule(step, 102) for step in range(102)]
    assert factors[1:52] == [1.0] * 51
    assert factors[76] == pytest.approx(0.5)


def test_the_same_step_has_the_same_factor_in_any_order() -> None:
    schedule = Cosine(warmup_steps=5)
    forwards = [schedule(step, STEPS) for step in range(STEPS)]
    assert [schedule(step, STEPS) for step in reversed(range(STEPS))] == forwards[::-1]


def test_steps_past_the_end_stay_at_the_final_fraction() -> None:
    assert Cosine(final_fraction=0.1)(1000, STEPS) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "schedule",
    [Cosine(warmup_steps=100), Cosine(warmup_steps=-1), LinearDecay(final_fraction=2.0), WSD(decay_fraction=-0.1)],
)
def test_schedules_that_do_not_fit_are_refused(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="="):
        schedule.check(STEPS)
