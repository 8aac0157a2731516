"""What the shipped recipes promise, by training them."""

from pathlib import Path

import pytest
import torch

from glassformer.models.bigram import Bigram, BigramConfig
from glassformer.text import load_corpus
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


@pytest.mark.slow
def test_a_quarter_of_the_demo_already_beats_the_bigram_clearly(tmp_path: Path) -> None:
    run = train(load_recipe("demo", {"training.steps": "450"}), run_folder=tmp_path / "run")
    corpus = load_corpus("python-docs")
    tokens, held_out = (torch.tensor(run.tokenizer.encode(text)) for text in (corpus.train, corpus.validation))
    bigram = Bigram(BigramConfig(vocab_size=run.tokenizer.vocab_size)).fit(tokens)
    baseline = bigram(held_out[None, :-1], targets=held_out[None, 1:]).loss
    assert run.validation_loss is not None
    assert baseline is not None
    assert run.validation_loss < baseline.item() - 0.4
