"""Threads wait asleep where other programs want the processors, and as they did before where none does."""

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from glassformer.ops import threads
from glassformer.ops.threads import patient_threads, waiting

linux_only = pytest.mark.skipif(not threads._gnu_openmp(), reason="PyTorch's threads are not those of GNU's OpenMP")


@pytest.fixture(autouse=True)
def nobody_has_said_how_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The processors that others take: as the test says. Two threads on two processors, looked at all the time."""
    others, start = [0.0], time.perf_counter()

    def seconds(processors: set[int]) -> tuple[float, float, float]:
        now = time.perf_counter() - start
        busy.append(busy[-1] + (now - passed[-1]) * (1 + others[0]))
        passed.append(now)
        return busy[-1], now, now  # this process takes one processor

    busy, passed = [0.0], [0.0]
    monkeypatch.setattr(threads, "_seconds", seconds)
    monkeypatch.setattr(threads, "usable_processors", lambda: {0, 1})
    monkeypatch.setattr(threads, "EVERY", 0.002)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    yield others
    assert not any(thread.name.startswith("glassformer") for thread in threading.enumerate())


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


@linux_only
def test_a_second_team_sleeps_as_long_as_others_take_the_processors(taken: list[float]) -> None:
    with patient_threads() as patience:
        time.sleep(0.05)
        assert not patience.teams
        taken[0] = 1.0
        assert until(lambda: len(patience.teams) == 1)
        (team,) = patience.teams
        time.sleep(0.05)
        assert patience.teams == [team]  # it is kept
        taken[0] = 0.1
        assert until(lambda: not patience.teams)
        assert not team.is_alive()
        taken[0] = 1.0
        assert until(lambda: len(patience.teams) == 1)
    assert not patience.teams


@linux_only
@pytest.mark.parametrize("name", threads.VARIABLES)
def test_who_says_how_threads_wait_is_obeyed(name: str, taken: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "7")
    taken[0] = 1.0
    assert waiting() == f"as {name}=7 says"
    with patient_threads() as patience:
        time.sleep(0.05)
        assert not patience.teams


def test_one_thread_waits_for_nobody(taken: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    taken[0] = 1.0
    with patient_threads() as patience:
        time.sleep(0.05)
        assert not patience.teams


def test_teams_make_more_threads_than_processors() -> None:
    for processors in range(1, 20):
        for own in range(2, 20):
            teams = threads._teams(own, processors)
            assert own + teams * (own - 1) > processors
            assert teams == 0 or own + (teams - 1) * (own - 1) <= processors


@linux_only
def test_a_team_is_made_of_threads_of_openmp_that_end_with_it() -> None:
    """Counted by the system, in a process that has two threads whatever the tests have."""
    program = textwrap.dedent("""
        import os, threading, time
        import torch
        from glassformer.ops.threads import patient_threads

        def threads():
            return len(os.listdir("/proc/self/task"))

        torch.set_num_threads(2)
        torch.zeros(1 << 20).add_(1)
        before, patience = threads(), patient_threads()
        patience._hold(3, 2)
        print(threads() - before, sum(thread.daemon for thread in threading.enumerate()))
        patience._hold(0, 2)
        end = time.monotonic() + 20
        while threads() != before and time.monotonic() < end:
            time.sleep(0.01)
        print(threads() - before, sum(thread.daemon for thread in threading.enumerate()))
    """)
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["6 3", "0 0"]
