"""Text needs no torch until a loader is asked for."""

import subprocess
import sys

import pytest

import glassformer.text


def _modules_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_corpora_and_tokenizers_load_neither_torch_nor_numpy_nor_an_extra():
    loaded = _modules_after(
        "from glassformer.text import BPETokenizer, load_corpus, load_tokenizer, train_tokenizer\n"
        "train_tokenizer('bpe', 'some text', vocab_size=300).encode('text')"
    )
    assert not loaded & {"torch", "numpy", "tokenizers", "tiktoken", "regex"}


def test_token_files_load_numpy_but_not_torch():
    loaded = _modules_after("from glassformer.text import TokenFile, cached_tokens")
    assert "numpy" in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize("name", glassformer.text.__all__)
def test_every_public_name_is_there_and_has_a_docstring(name):
    assert getattr(glassformer.text, name).__doc__


def test_a_name_that_is_not_there_raises_as_any_module_does():
    with pytest.raises(AttributeError, match="no attribute 'novelty'"):
        glassformer.text.novelty  # noqa: B018
