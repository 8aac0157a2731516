"""A recipe that trains within a second, and a text for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from glassformer.training import Recipe, load_recipe

TOML = """
[model]
name = "gpt2"
dim = 16
num_layers = 2
num_heads = 2
max_positions = 16
embedding_dropout = 0.1
attention_dropout = 0.1
residual_dropout = 0.1

[data]
corpus = "{corpus}"
context = 8
batch_size = 4

[optimizer]
name = "adamw"
learning_rate = 1e-2

[schedule]
name = "cosine"
warmup_steps = 2

[training]
steps = 12
log_every = 4
save_every = 5
device = "cpu"
linear = "reference"

[evaluation]
every = 6
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Threads that spin would slow these small products, and other tests; caches go to a folder of the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """`tiny.toml` beside the text that it names."""
    words = "the quick brown fox jumps over the lazy dog and then it sleeps"
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(words[i % 17 :] + words[: i % 23] for i in range(60)))
    path = tmp_path / "tiny.toml"
    path.write_text(TOML.format(corpus=corpus))
    return path


@pytest.fixture
def tiny(recipe_file: Path) -> Callable[..., Recipe]:
    """`tiny(training__steps=4)` is the small recipe with that override."""

    def make(**overrides: object) -> Recipe:
        return load_recipe(recipe_file, {key.replace("__", "."): str(value) for key, value in overrides.items()})

    return make
