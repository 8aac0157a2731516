"""The demo from end to end, at a size for tests: it trains, compares, writes, checks its twin and leaves a report."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
from rich.console import Console

from glassformer.explorer.demo import main
from glassformer.training import load_recipe

RECIPE = """
[model]
name = "gpt2"
dim = 48
num_layers = 2
num_heads = 2
max_positions = 64
embedding_dropout = 0.0
attention_dropout = 0.0
residual_dropout = 0.0
[data]
context = 32
batch_size = 16
[optimizer]
name = "adamw"
learning_rate = 4e-3
[schedule]
name = "cosine"
warmup_steps = 5
[training]
steps = {steps}
[evaluation]
every = 100
batches = 4
"""


def test_demo_leaves_a_report_and_all_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassformer.explorer.demo.SAMPLE_TOKENS", 30)
    monkeypatch.setattr("glassformer.explorer.demo.bigram_loss", lambda *_: 4.5)  # forty steps do not beat the real one
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(steps=40))
    console = Console(record=True, width=120)
    report = main(tmp_path / "run", recipe=str(recipe), console=console)
    page, said = report.read_text(encoding="utf-8"), console.export_text()
    assert "The NumPy twin has the same" in page
    assert "The NumPy twin has the same" in said
    for name in ("recipe.toml", "metrics.jsonl", "checkpoints", "best", "model/model.safetensors"):
        assert (tmp_path / "run" / name).exists(), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 40


@pytest.mark.slow
def test_a_quarter_of_the_demo_as_shipped_already_beats_the_bigram_clearly(tmp_path: Path) -> None:
    whole = load_recipe("demo").training.steps
    shipped = (files("glassformer") / "recipes" / "demo.toml").read_text(encoding="utf-8")
    recipe = tmp_path / "quarter.toml"
    recipe.write_text(shipped.replace(f"\nsteps = {whole}\n", f"\nsteps = {whole // 4}\n"))
    assert load_recipe(str(recipe)).training.steps == whole // 4
    report = main(tmp_path / "run", recipe=str(recipe), console=Console(quiet=True))  # raises where it does not
    assert report.stat().st_size > 30_000


def test_demo_that_does_not_beat_the_bigram_says_so(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(steps=10))
    with pytest.raises(RuntimeError, match="not clearly below the bigram baseline's"):
        main(tmp_path / "run", recipe=str(recipe), console=Console(quiet=True))
