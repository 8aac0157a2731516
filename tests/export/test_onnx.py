"""What is exported computes, in ONNX Runtime, what the model computes: any batch, any length, with the cache."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from declaration import Declared
from declared_decoders import DECODERS
from properties import build
from properties_decoders import ids

from glassformer.export import export_onnx
from glassformer.models.bigram import Bigram, BigramConfig

runtime = pytest.importorskip("onnxruntime")
CASES = {case.name: case for case in DECODERS}
EXPORTED = ["gpt2", "llama-grouped-biased", "mistral", "mpt-six-heads", "gemma3", "mixtral", "deepseek-yarn-tied"]


def session(path: Path) -> Any:
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


def empty_past(program: Any, batch: int) -> dict[str, np.ndarray]:
    past = [given for given in program.get_inputs() if given.name.startswith("past")]
    return {given.name: np.zeros((batch, given.shape[1], 0, given.shape[3]), np.float32) for given in past}


@pytest.mark.parametrize("name", EXPORTED)
def test_a_decoder_exported_reads_padded_prompts_and_goes_on_from_its_cache(name: str, tmp_path: Path) -> None:
    case: Declared = CASES[name]
    model, x = build(case, torch.float32), ids(case)
    (path,) = export_onnx(model, tmp_path / "onnx")
    assert path.name == "model.onnx"
    program = session(path)
    present = torch.ones_like(x)
    present[1, :4] = 0
    with torch.no_grad():
        expected = model(x, present).logits.numpy()
    past, got, start = empty_past(program, 3), [], 0
    for t in (9, 1, 4, 1, 1, 1):
        end = start + t
        feed = {"input_ids": x[:, start:end].numpy(), "attention_mask": present[:, :end].numpy(), **past}
        logits, *cache = program.run(None, feed)
        past = dict(zip(past, cache, strict=True))
        got.append(logits)
        start = end
    real = present.bool().numpy()
    error = np.abs(np.concatenate(got, 1)[real] - expected[real]).max() / np.abs(expected).max()
    assert error < 1e-5


def test_greedy_decoding_with_onnx_runtime_writes_what_generate_writes(tmp_path: Path) -> None:
    case = CASES["llama-grouped-biased"]
    model, x = build(case, torch.float32), ids(case, batch=2, length=5)
    program = session(export_onnx(model, tmp_path)[0])
    past, tokens, given = empty_past(program, 2), x.numpy(), x.numpy()
    for _ in range(12):
        mask = np.ones_like(tokens)
        logits, *cache = program.run(None, {"input_ids": given, "attention_mask": mask, **past})
        past, given = dict(zip(past, cache, strict=True)), logits[:, -1:].argmax(-1)
        tokens = np.concatenate([tokens, given], 1)
    assert (tokens == model.generate(x, max_new_tokens=12).numpy()).all()


def test_exporting_leaves_the_model_and_the_folder_as_they_were(tmp_path: Path) -> None:
    model = CASES["gpt2"].build().train()
    before = [(type(module), getattr(module, "kernel", None)) for module in model.modules()]
    (tmp_path / "notes.txt").write_text("mine")
    export_onnx(model, tmp_path)
    assert model.training
    assert [(type(module), getattr(module, "kernel", None)) for module in model.modules()] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "notes.txt"]


def test_what_cannot_be_exported_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the model is in torch.bfloat16; ONNX Runtime computes in float32"):
        export_onnx(CASES["gpt2"].build().to(torch.bfloat16), tmp_path)
    with pytest.raises(ValueError, match="Bigram has no attention and no cache"):
        export_onnx(Bigram(BigramConfig(vocab_size=7)), tmp_path)
    with pytest.raises(ValueError, match="Linear is not exported; these are: LanguageModel"):
        export_onnx(torch.nn.Linear(2, 2), tmp_path)
