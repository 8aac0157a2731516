"""Processor seconds add up, and those of some processors are a part of all."""

from pathlib import Path

import pytest

from glassformer.foundation.processors import processor_seconds, usable_processors

STAT = """cpu  300 0 100 500 100 0 0 0 0 0
cpu0 100 0 50 400 50 0 0 0 0 0
cpu1 200 0 50 100 50 0 0 0 0 0
intr 12345
"""


def test_processors_that_are_named_count_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: STAT)
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    assert processor_seconds() == processor_seconds({0, 1}) == (4.0, 10.0)
    assert processor_seconds({1}) == (2.5, 4.0)
    assert processor_seconds({7}) == (0.0, 0.0)


def test_where_the_system_does_not_tell_there_are_no_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert processor_seconds() == processor_seconds({0}) == (0.0, 0.0)
    assert usable_processors()
