"""What is exported computes, in ONNX Runtime, what the model computes: any batch, any length, with the cache."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from declared_decoders import DECODERS
from properties import build, redraw
from properties_decoders import ids

from glassformer.cli import main
from glassformer.export import export_onnx, onnx_difference
from glassformer.models.bigram import Bigram, BigramConfig
from glassformer.models.catalog import create_model
from glassformer.models.t5 import T5, T5Config

runtime = pytest.importorskip("onnxruntime")
CASES = {case.name: case for case in DECODERS}
# Exporting takes as long as there are layers: one, where all are alike, but for the first, whose caches have an order.
ALIKE = ("llama-grouped-biased", "mistral", "mpt-six-heads", "mixtral")
CASES |= {name: replace(CASES[name], config=replace(CASES[name].config, num_layers=1)) for name in ALIKE}
EXPORTED = ["gpt2", *ALIKE, "gemma3", "deepseek-yarn-tied"]
Exported = Callable[[str], tuple[Any, Path]]


def session(path: Path) -> Any:
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A declared model and its program, exported once."""

    @cache
    def export(name: str) -> tuple[Any, Path]:
        model = build(CASES[name], torch.float32)
        (path,) = export_onnx(model, tmp_path_factory.mktemp("exported") / "onnx")
        return model, path

    return export


def empty_past(program: Any, batch: int) -> dict[str, np.ndarray]:
    past = [given for given in program.get_inputs() if given.name.startswith("past")]
    return {given.name: np.zeros((batch, given.shape[1], 0, given.shape[3]), np.float32) for given in past}


@pytest.mark.parametrize("name", EXPORTED)
def test_a_decoder_exported_reads_padded_prompts_and_goes_on_from_its_cache(name: str, exported: Exported) -> None:
    (model, path), x = exported(name), ids(CASES[name])
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


def test_greedy_decoding_with_onnx_runtime_writes_what_generate_writes(exported: Exported) -> None:
    model, path = exported("gpt2")
    x, program = ids(CASES["gpt2"], batch=2, length=5), session(path)
    past, tokens, given = empty_past(program, 2), x.numpy(), x.numpy()
    for _ in range(12):
        mask = np.ones_like(tokens)
        logits, *cache = program.run(None, {"input_ids": given, "attention_mask": mask, **past})
        past, given = dict(zip(past, cache, strict=True)), logits[:, -1:].argmax(-1)
        tokens = np.concatenate([tokens, given], 1)
    assert (tokens == model.generate(x, max_new_tokens=12).numpy()).all()


@pytest.mark.parametrize("head", [None, "masked_lm", "token_classification", "question_answering"])
def test_an_encoder_exported_reads_padded_texts_of_any_length(head: str | None, tmp_path: Path) -> None:
    shape = dict(vocab_size=61, dim=32, num_layers=1, num_heads=4, hidden_dim=56, max_positions=48)
    model = redraw(create_model("bert", head=head, **shape)).eval()
    program = session(export_onnx(model, tmp_path)[0])
    x = torch.randint(61, (3, 13), generator=torch.Generator().manual_seed(0))
    present = torch.ones_like(x)
    present[1, 8:], present[2, :5] = 0, 0
    feed = {"input_ids": x, "attention_mask": present, "token_type_ids": (x > 30).long()}
    with torch.no_grad():
        expected = model(**feed)
    names = [given.name for given in program.get_outputs()]
    outputs = program.run(None, {name: value.numpy() for name, value in feed.items()})
    assert names == [name for name, value in vars(expected).items() if value is not None]
    for name, value in zip(names, outputs, strict=True):
        wanted = expected[name].numpy()
        real = present.bool().numpy() if wanted.shape[:2] == (3, 13) else slice(None)
        assert np.abs(value[real] - wanted[real]).max() < 1e-5 * np.abs(wanted).max(), name


@pytest.mark.usefixtures("no_shape_checks")  # the cache of an exported program is another kind
def test_an_encoder_decoder_exported_writes_what_generate_writes(tmp_path: Path) -> None:
    shape = dict(
        vocab_size=61, dim=32, num_encoder_layers=1, num_decoder_layers=2, num_heads=4, head_dim=8, hidden_dim=56
    )
    model = redraw(T5(T5Config(**shape))).eval()
    paths = export_onnx(model, tmp_path)
    assert [path.name for path in paths] == [
        "encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx"
    ]  # fmt: skip
    encoder, first, following = (session(path) for path in paths)
    x = torch.randint(61, (3, 11), generator=torch.Generator().manual_seed(0))
    present = torch.ones_like(x)
    present[1, 6:] = 0
    expected = model.generate(x, present, max_new_tokens=15, eos_token_id=60).numpy()
    mask, start = present.numpy(), np.full((3, 1), model.config.decoder_start_token_id)
    (encoded,) = encoder.run(None, {"input_ids": x.numpy(), "attention_mask": mask})
    feed = {"input_ids": start, "encoder_hidden_states": encoded, "encoder_attention_mask": mask}
    logits, *held = first.run(None, feed)
    names = [given.name.replace("present", "past_key_values") for given in first.get_outputs()[1:]]
    past, tokens = dict(zip(names, held, strict=True)), start
    own = [name for name in names if ".decoder." in name]
    while tokens.shape[1] < expected.shape[1]:
        tokens = np.concatenate([tokens, logits[:, -1:].argmax(-1)], 1)
        feed = {"input_ids": tokens[:, -1:], "encoder_attention_mask": mask, **past}
        logits, *held = following.run(None, feed)
        past |= dict(zip(own, held, strict=True))
    running = np.cumsum(tokens[:, :-1] == 60, 1) == 0  # what follows an end is padding there
    assert (tokens[:, 1:] == expected[:, 1:])[running].all()
    assert len(np.unique(expected[:, 1:])) > 2
    assert onnx_difference(model, tmp_path) < 1e-5


def test_exporting_leaves_the_model_and_the_folder_as_they_were(tmp_path: Path) -> None:
    model = CASES["mistral"].build().train()
    before = [(type(module), getattr(module, "kernel", None)) for module in model.modules()]
    (tmp_path / "notes.txt").write_text("mine")
    export_onnx(model, tmp_path)
    assert model.training
    assert [(type(module), getattr(module, "kernel", None)) for module in model.modules()] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "notes.txt"]


@pytest.mark.usefixtures("no_shape_checks")
def test_the_command_line_exports_beside_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CASES["mistral"].build().save_pretrained(tmp_path / "model")
    assert main(["convert", str(tmp_path / "model"), str(tmp_path / "onnx"), "--onnx"]) == 0
    said = capsys.readouterr().out
    assert "model.onnx: " in said
    assert float(said.split("differ from ours by ")[1].split()[0]) < 1e-5
    assert (tmp_path / "onnx" / "model.safetensors").is_file()


def test_what_cannot_be_exported_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the model is in torch.bfloat16; ONNX Runtime computes in float32"):
        export_onnx(CASES["gpt2"].build().to(torch.bfloat16), tmp_path)
    with pytest.raises(ValueError, match="Bigram has no attention and no cache"):
        export_onnx(Bigram(BigramConfig(vocab_size=7)), tmp_path)
    with pytest.raises(ValueError, match="Linear is not exported; these are: LanguageModel, Encoder, Head, Seq"):
        export_onnx(torch.nn.Linear(2, 2), tmp_path)
