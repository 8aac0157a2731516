"""Encoder-decoders: what they refuse, and text in, text out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from declared_encoder_decoders import ENCODER_DECODERS
from properties import build, redraw

from glassformer.checkpoints.files import TensorFile, write_tensors
from glassformer.generation import generate, stream_text
from glassformer.models.t5 import T5
from glassformer.models.t5_config import T5Config
from glassformer.models.transformer import TokenTransformer, TransformerConfig
from glassformer.text import ByteTokenizer

BY_NAME = {case.name: case for case in ENCODER_DECODERS}
IDS, TARGET = torch.tensor([[3, 4, 5]]), torch.tensor([[0, 7]])


def model(name: str = "t5") -> Any:
    return build(BY_NAME[name], torch.float32)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"input_ids": IDS}, ValueError, "neither decoder_input_ids nor labels are given"),
        ({"decoder_input_ids": TARGET}, ValueError, "neither input_ids nor an encoder_output is given"),
        (
            {"input_ids": IDS, "encoder_output": torch.zeros(1, 3, 32), "decoder_input_ids": TARGET},
            ValueError,
            "input_ids and encoder_output are given; give the source as one of the two",
        ),
        ({"input_ids": IDS[0], "labels": TARGET}, ValueError, "input_ids has shape (3,); expected (batch, tokens)"),
        ({"input_ids": IDS.float(), "labels": TARGET}, TypeError, "input_ids has dtype torch.float32"),
        ({"input_ids": IDS + 58, "labels": TARGET}, ValueError, "input_ids holds 61 at (0, 0); the vocabulary has 61"),
        ({"input_ids": IDS, "labels": TARGET - 9}, ValueError, "labels holds -9 at (0, 0)"),
        ({"input_ids": IDS, "decoder_input_ids": TARGET + 60}, ValueError, "decoder_input_ids holds 67 at (0, 1)"),
        (
            {"input_ids": IDS, "decoder_input_ids": TARGET, "labels": TARGET[:, :1]},
            ValueError,
            "labels have shape (1, 1); expected (1, 2)",
        ),
        (
            {"input_ids": IDS, "labels": TARGET, "attention_mask": torch.ones(1, 2)},
            ValueError,
            "attention_mask has shape (1, 2); expected (1, 3), as the source has",
        ),
        (
            {"input_ids": IDS, "labels": TARGET, "decoder_attention_mask": torch.ones(1, 3)},
            ValueError,
            "decoder_attention_mask has shape (1, 3); expected (1, 2): the batch, and 0 cached + 2 given tokens",
        ),
    ],
)
def test_bad_input_raises_a_sentence(inputs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        model()(**inputs)
    assert message in str(raised.value)


def test_a_cache_that_is_full_is_named_before_any_work() -> None:
    ours = model()
    cache = ours.new_cache(1, 1)
    with pytest.raises(ValueError, match="capacity is 1"):
        ours(IDS, decoder_input_ids=TARGET, cache=cache)
    assert cache.length == 0
    with pytest.raises(ValueError, match="T5 has no max_positions; give the cache's capacity"):
        ours.new_cache(1)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ([[1, 2], []], {}, "prompt 1 is empty"),
        ([61], {}, "prompt 0 holds the id 61"),
        (IDS, {"attention_mask": torch.zeros(1, 3)}, "prompt 0 is empty: its attention_mask is all 0"),
        (IDS, {"max_new_tokens": None, "max_length": 1}, "max_length is 1"),
        (IDS, {"eos_token_id": 99}, "eos_token_id is 99"),
    ],
    ids=str,
)
def test_bad_generation_raises_before_the_source_is_read(source: Any, options: dict[str, Any], message: str) -> None:
    ours = model()
    ours.encode = None  # type: ignore[assignment]  # any work would fail in another way
    with pytest.raises(ValueError, match=message):
        generate(ours, source, **{"max_new_tokens": 3} | options)


def test_sources_may_be_padded_anywhere_and_the_encoder_runs_once() -> None:
    ours, calls = model(), []
    ours.encoder.register_forward_hook(lambda *_: calls.append(1))
    plain = ours.generate([[3, 4, 5]], max_new_tokens=8)
    assert len(calls) == 1
    for ids, mask in (([[9, 3, 4, 5]], [[0, 1, 1, 1]]), ([[3, 4, 5, 9]], [[1, 1, 1, 0]])):
        assert torch.equal(ours.generate(torch.tensor(ids), torch.tensor(mask), max_new_tokens=8), plain)


def test_dropout_is_off_in_encoder_and_decoder_while_generating_and_comes_back() -> None:
    ours = model()
    expected = ours.generate([[3, 4, 5]], max_new_tokens=8)
    ours.train()
    assert torch.equal(ours.generate([[3, 4, 5]], max_new_tokens=8), expected)
    assert ours.encoder.training
    assert ours.decoder.blocks[0].dropout.training


def test_what_is_generated_may_be_trained_on() -> None:
    ours = model().train()
    for options in ({}, {"num_beams": 2}, {"do_sample": True, "seed": 0}):
        target = ours.generate([[3, 4, 5], [6, 7]], max_new_tokens=5, **options)
        ours(torch.tensor([[3, 4, 5], [6, 7, 0]]), labels=target).loss.backward()


def test_a_text_is_answered_from_its_ids_and_the_end_token_up_to_the_end_token() -> None:
    tokenizer, end = ByteTokenizer(), ord("?")
    config = T5Config(vocab_size=256, dim=32, head_dim=8, hidden_dim=48, num_encoder_layers=2, num_heads=4,
                      pad_token_id=0, decoder_start_token_id=0, eos_token_id=end)  # fmt: skip
    ours = redraw(T5(config), spread=0.7).eval()

    def ascii_only(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return logits.masked_fill((torch.arange(256) < 32) | (torch.arange(256) > 126), -torch.inf)

    ended = 0
    for seed in range(30):
        options = {"max_new_tokens": 60, "do_sample": True, "seed": seed, "processors": (ascii_only,)}
        said = bytes(ours.generate([[*b"What", end]], **options)[0, 1:].tolist())
        pieces = list(stream_text(ours, tokenizer, "What", **options))
        assert "".join(pieces) == said.split(b"?")[0].decode()
        assert len(pieces) == len(said.split(b"?")[0])
        ended += b"?" in said
    assert 0 < ended < 30


def test_positions_that_a_marian_file_holds_must_be_those_that_are_computed(tmp_path: Path) -> None:
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    ours = TokenTransformer(TransformerConfig(vocab_size=9, dim=16, num_encoder_layers=1, num_decoder_layers=1,
                                              num_heads=2, hidden_dim=8, max_positions=32))  # fmt: skip
    ours.save_pretrained(tmp_path, digests=False)
    theirs = MarianSinusoidalPositionalEmbedding(32, 16)
    theirs.weight = torch.nn.Parameter(theirs.create_weight())
    file, added = tmp_path / "model.safetensors", "model.encoder.embed_positions.weight"
    tensors = {name: tensor.clone() for name, tensor in TensorFile(file).items()}  # the file is replaced below
    write_tensors(file, tensors | {added: theirs.weight.detach()})
    assert TokenTransformer.from_pretrained(tmp_path).config == ours.config
    alternating = ours.position(torch.arange(32))
    for wrong, message in (
        (alternating, rf"tensor '{added}' is computed here, not read, and the file's differs by up to \d"),
        (alternating[0], r"a table of positions has the shape \(16,\)"),
    ):
        write_tensors(file, tensors | {added: wrong.contiguous()})
        with pytest.raises(ValueError, match=message):
            TokenTransformer.from_pretrained(tmp_path)
