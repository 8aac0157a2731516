"""What the shipped recipes promise, by training them."""

from pathlib import Path

import pytest

from glassformer.training import load_recipe, train

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"


@pytest.mark.slow
def test_the_fast_shakespeare_recipe_reaches_the_plain_ones_loss_in_a_fifth_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not SHAKESPEARE.is_file():
        pytest.skip(f"{SHAKESPEARE} is not there")
    monkeypatch.setenv("GLASSFORMER_TINYSHAKESPEARE", str(SHAKESPEARE))
    plain, fast = load_recipe("shakespeare_char"), load_recipe("shakespeare_char_fast")
    assert fast.training.steps * 5 <= plain.training.steps
    assert fast.data == plain.data
    run = train(fast, run_folder=tmp_path / "run")
    assert run.validation_loss is not None
    assert run.validation_loss <= 1.88
