"""The sentiment example: an encoder by hand beats counting words on sentences made so that counting says nothing."""

from pathlib import Path

import pytest
from rich.console import Console

from glassformer import cli
from glassformer.by_hand.classification import Options
from glassformer.explorer.sentiment import run, where


def test_it_prints_its_way_and_draws_where_it_looks(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    console = Console(record=True, width=120, quiet=True)
    options = Options(dim=16, layers=1, heads=2, steps=20, evaluate_every=10)
    found = run(options, picture=tmp_path / "seen.png", console=console, source="sentiment?train=200&validation=40")
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
    assert found.baseline == pytest.approx(0.5, abs=0.15)
    assert 0 <= found.accuracy <= 1
    weights = where(found.classifier, "The food was not bad.", "not")
    assert weights.shape == (1, 2)
    assert (weights > 0).all()
    with pytest.raises(ValueError, match="no word 'never'"):
        where(found.classifier, "The food was not bad.", "never")


def test_without_matplotlib_it_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("glassformer.explorer.sentiment.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="--no-picture"):
        run(Options(), picture=tmp_path / "seen.png", console=Console(quiet=True))


@pytest.mark.slow
def test_as_shipped_it_reaches_95_percent_where_counting_words_reaches_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(quiet=True)
    found = run(Options(), picture=None, console=console)
    assert found.accuracy >= 0.95
    assert found.baseline < 0.6
    assert found.classifier.predict(["The food was not bad.", "The food was not good."]) == ["positive", "negative"]


def test_the_command_knows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sentiment", "--step", "3"]) == 2
    assert "did you mean '--steps'" in capsys.readouterr().err
