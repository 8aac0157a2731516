"""`glassformer draw`: each picture's numbers are right, and every kind of model gives its pictures."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from glassformer.cli import main
from glassformer.cli.draw import PICTURES, asking_and_seen
from glassformer.models import BERT, GPT2, T5, BERTConfig, GPT2Config, T5Config
from glassformer.models.catalog import CONFIGS, build
from glassformer.parts import ALiBi, Rotary
from glassformer.text import CharacterTokenizer
from glassformer.tracing.complexity import Curves, measured, paper_block, shape_of
from glassformer.tracing.depth import flows, stacks_of, streams
from glassformer.tracing.positions import AddedVectors, ScoreBias, Turns, positions_of, sinusoidal_positions

pytest.importorskip("matplotlib")
TEXT = "the cat sat"
SIZE: dict[str, Any] = {"vocab_size": 60, "dim": 16, "num_heads": 2}
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def gpt2(**changes) -> GPT2:
    torch.manual_seed(0)
    size: dict[str, Any] = SIZE | {"num_layers": 3, "max_positions": 32} | changes
    return GPT2(GPT2Config(**size)).eval()


def t5() -> T5:
    torch.manual_seed(0)
    return T5(T5Config(**SIZE, num_encoder_layers=2, num_decoder_layers=2, hidden_dim=32, head_dim=8)).eval()


# ---------------------------------------------------------------------------------------------- positions


def test_the_dot_product_of_sinusoidal_places_depends_on_their_distance_alone() -> None:
    mean, least, most = sinusoidal_positions(40, 32).dot_products().T
    frequency = 10_000.0 ** (-torch.arange(0, 32, 2).double() / 32)
    torch.testing.assert_close(mean, (torch.arange(40)[:, None] * frequency).cos().mean(-1))
    torch.testing.assert_close(least, most)


def test_the_spectrum_finds_the_frequency_that_a_table_has() -> None:
    wave = (2 * math.pi * torch.arange(64).double() * 5 / 64).sin()
    turns, share = AddedVectors(name="", kind="", vectors=torch.stack([wave, 3 * wave + 7], 1)).spectrum()
    assert turns[share.argmax()] == 5 / 64
    assert float(share.max()) == pytest.approx(1)


def test_rotary_places_are_those_of_the_rotation_itself() -> None:
    model = build(replace(CONFIGS["llama"], vocab_size=50, dim=32, num_layers=2, num_heads=2, num_kv_heads=2))
    (turns,) = positions_of(model, 20)
    assert isinstance(turns, Turns)
    rotary = next(part for part in model.modules() if isinstance(part, Rotary))
    ones = torch.ones(1, 1, 20, rotary.head_dim, dtype=torch.float64)
    turned = rotary(torch.arange(20))(ones)[0, 0]
    torch.testing.assert_close(turns.dot_products(), turned @ turned[0] / rotary.head_dim)
    assert turns.wavelengths()[0] == pytest.approx(2 * math.pi)


def test_score_biases_are_those_that_the_layers_add() -> None:
    (bias,) = positions_of(build(replace(CONFIGS["mpt"], **SIZE, num_layers=1)), 9)
    assert isinstance(bias, ScoreBias)
    places = torch.arange(9)
    torch.testing.assert_close(bias.bias.float(), ALiBi(2)(places, places)[0, :, -1])
    torch.testing.assert_close(bias.share()[:, -1], torch.ones(2).double())
    assert bias.share()[0, 0] == pytest.approx(math.exp(-8 * 2.0**-4))
    model = t5()
    encoder, decoder = positions_of(model, 9)
    assert isinstance(encoder, ScoreBias)
    assert isinstance(decoder, ScoreBias)
    with torch.no_grad():
        before, after = model.encoder.biases[0](9, 9)[0, :, -1], model.encoder.biases[0](9, 9)[0, :, 0]
        torch.testing.assert_close(encoder.bias.float(), torch.cat([before, after[:, 1:]], -1))
        torch.testing.assert_close(decoder.bias.float(), model.decoder.biases[0](9, 9)[0, :, -1])


def test_positions_are_found_in_other_libraries_models() -> None:
    transformers = pytest.importorskip("transformers")
    common = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    found: Any = positions_of
    opt = transformers.OPTModel(transformers.OPTConfig(**common, ffn_dim=32, word_embed_proj_dim=16))
    neox = transformers.GPTNeoXModel(transformers.GPTNeoXConfig(**common, intermediate_size=32))
    bloom = transformers.BloomModel(transformers.BloomConfig(vocab_size=40, hidden_size=16, n_layer=2, n_head=2))
    mt5 = transformers.MT5Model(
        transformers.MT5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    )
    assert [(each.kind, tuple(each.vectors.shape)) for each in found(opt, 10)] == [("learned", (10, 16))]
    (turns,) = found(neox, 10)
    torch.testing.assert_close(turns.frequency.float(), neox.rotary_emb.inv_freq)
    (alibi,), (ours,) = found(bloom, 10), found(build(replace(CONFIGS["mpt"], **SIZE, num_layers=1)), 10)
    torch.testing.assert_close(alibi.bias, ours.bias)
    assert [(each.name.partition(".")[0], each.kind) for each in found(mt5, 10)] == [
        ("encoder", "buckets"), ("decoder", "buckets"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="Linear has no positions"):
        positions_of(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="length is 1"):
        positions_of(opt, 1)


# ---------------------------------------------------------------------------------------------- depth


def test_the_streams_norms_are_those_of_each_blocks_input_and_output() -> None:
    model = gpt2()
    (stream,) = streams(model, {"input_ids": IDS})
    with torch.no_grad():
        x = model.embed(IDS) + model.position(torch.arange(8))
        norms, before = [x.norm(dim=-1)[0]], x
        for block in model.blocks:
            before, x = x, block(x, mask=_causal(), cache=None)
            norms.append(x.norm(dim=-1)[0])
    torch.testing.assert_close(stream.norms.float(), torch.stack(norms))
    torch.testing.assert_close(stream.added[-1].float(), (x - before).norm(dim=-1)[0])
    assert stream.stack == "blocks"


def _causal():
    from glassformer.ops.mask import Mask

    return Mask.causal()


def test_gradients_by_depth_are_those_of_the_loss() -> None:
    model = gpt2()
    targets = torch.cat([IDS[:, 1:], torch.tensor([[-100]])], 1)
    (flow,), objective = flows(model, {"input_ids": IDS}, targets)
    assert objective == "the loss"
    assert all(parameter.grad is None for parameter in model.parameters())
    model(IDS, labels=IDS).loss.backward()
    for i, block in enumerate(model.blocks):
        every = torch.cat([parameter.grad.flatten() for parameter in block.parameters()])  # pyright: ignore
        assert float(flow.gradients[i]) == pytest.approx(float(every.norm()), rel=1e-5)
        whole = torch.cat([parameter.flatten() for parameter in block.parameters()])
        assert float(flow.parameters[i]) == pytest.approx(float(whole.detach().norm()), rel=1e-5)
    # The embedding's rows meet the stream unchanged: with each token once, the gradients are the same.
    ids = torch.arange(8)[None]
    targets = torch.cat([ids[:, 1:], torch.tensor([[-100]])], 1)
    (flow,), _ = flows(model, {"input_ids": ids}, targets)
    model.zero_grad()
    model(ids, labels=ids).loss.backward()
    assert float(flow.stream[0]) == pytest.approx(float(model.position.weight.grad.norm()) / 8**0.5, rel=1e-5)  # pyright: ignore


def test_both_stacks_of_an_encoder_decoder_are_seen_and_a_bare_encoder_has_a_direction_for_a_loss() -> None:
    inputs = {"input_ids": IDS, "decoder_input_ids": IDS}
    assert [stream.stack for stream in streams(t5(), inputs)] == ["encoder.blocks", "decoder.blocks"]
    found, _ = flows(t5(), inputs, IDS)
    assert all((flow.stream > 0).all() for flow in found)
    encoder = BERT(BERTConfig(**SIZE, num_layers=2, hidden_dim=32, max_positions=32)).eval()
    (flow,), objective = flows(encoder, {"input_ids": IDS}, None)
    assert objective == "a random direction of the output"
    assert (flow.gradients > 1e-6).all()  # a plain sum of what a LayerNorm gives would have none
    with pytest.raises(ValueError, match="Linear has no blocks"):
        stacks_of(torch.nn.Linear(2, 2))


# ---------------------------------------------------------------------------------------------- time


def test_the_formulas_are_the_flops_of_a_block_and_meet_at_six_times_the_width() -> None:
    model = gpt2(dim=32, num_layers=1)
    shape = shape_of(model)
    counter = FlopCounterMode(display=False)
    from glassformer.parts import kernels

    with torch.no_grad(), kernels(model, attend="reference", linear="reference"), counter:
        model.blocks[0](torch.randn(1, 24, 32), mask=_causal(), cache=None)
    assert counter.get_total_flops() == shape.attention_flops(24) + shape.product_flops(24)
    assert shape.crossing == paper_block(32, 2).crossing == 6 * 32


def test_of_experts_those_count_that_a_token_meets() -> None:
    changes = {"vocab_size": 50, "dim": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2, "hidden_dim": 48}
    few, many = (shape_of(build(replace(CONFIGS["mixtral"], **changes, num_experts=n))) for n in (2, 6))
    assert many.product_flops(1) - few.product_flops(1) == 2 * 4 * 32  # the router alone has more to say


def test_the_crossing_lies_where_the_times_cross_or_where_the_formulas_meet_at_their_rates() -> None:
    shape = paper_block(64, 4)
    times = {rate: [shape.attention_flops(n) / rate for n in (64, 512, 1024)] for rate in (1e9, 4e9)}
    products = tuple(shape.product_flops(n) / 2e9 for n in (64, 512, 1024))
    slow = Curves(shape=shape, lengths=(64, 512, 1024), attention=tuple(times[1e9]), products=products)
    assert slow.is_measured
    assert slow.crossing == pytest.approx(shape.crossing / 2, rel=1e-9)
    fast = Curves(shape=shape, lengths=(64, 512), attention=tuple(times[4e9][:2]), products=products[:2])
    assert not fast.is_measured
    assert fast.crossing == pytest.approx(2 * shape.crossing, rel=1e-9)


def test_times_are_measured_at_the_lengths_that_are_asked_for() -> None:
    curves = measured(paper_block(16, 2), lengths=[8, 16])
    assert curves.lengths == (8, 16)
    assert min(*curves.attention, *curves.products) > 0
    passed = measured(paper_block(16, 2), seconds=60)
    assert passed.lengths[-1] > 2 * 6 * 16
    with pytest.raises(ValueError, match=r"\[8\]; expected two or more"):
        measured(paper_block(16, 2), lengths=[8])


# ---------------------------------------------------------------------------------------------- the command


def test_tokens_ask_and_are_looked_at_by_the_layers_place() -> None:
    tokens, read = ["a"], ["b"]
    assert asking_and_seen("encoder.blocks.0.attention", tokens, read) == (tokens, tokens)
    assert asking_and_seen("decoder.blocks.0.attention", tokens, read) == (read, read)
    assert asking_and_seen("decoder.blocks.0.cross_attention", tokens, read) == (read, tokens)
    assert asking_and_seen("model.decoder.layers.0.encoder_attn", tokens, read) == (read, tokens)
    assert asking_and_seen("decoder.block.0.layer.1.EncDecAttention", tokens, read) == (read, tokens)


def test_without_a_model_what_needs_none_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "--out", str(tmp_path / "new"), "--seconds", "0.01"]) == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["complexity.png", "positional_encoding.png"]
    assert capsys.readouterr().out.count("written to") == 2


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
def test_a_folder_gives_every_picture(name: str, tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer.train(TEXT, special_tokens=["<pad>", "</s>"])
    size: dict[str, Any] = {"vocab_size": tokenizer.vocab_size}
    encoder = BERT(BERTConfig(**(SIZE | size), num_layers=1, hidden_dim=32, max_positions=32))
    model = {"gpt2": lambda: gpt2(**size), "bert": lambda: encoder, "t5": t5}[name]()
    model.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    layer = "decoder.blocks.1.cross_attention" if name == "t5" else "all"
    options = ["--model", str(tmp_path), "--out", str(tmp_path), "--seconds", "0.01", "--layer", layer]
    target = ["--target", "cat sat"] if name == "t5" else []
    assert main(["draw", TEXT[:7], *options, *target]) == 0
    for file in PICTURES.values():
        assert (tmp_path / file).stat().st_size > 8000


def test_an_untrained_size_and_a_model_of_transformers_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIGS, "gpt2", gpt2().config)
    assert main(["draw", "--model", "gpt2", "--out", str(tmp_path / "ours"), "--seconds", "0.01"]) == 0
    assert len(list((tmp_path / "ours").iterdir())) == 5
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: i for i, word in enumerate(["[UNK]", *sorted(set(TEXT.split()))])}
    bare = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    bare.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = tmp_path / "opt"
    transformers.PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="[UNK]").save_pretrained(folder)
    config = transformers.OPTConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32,
        word_embed_proj_dim=16, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    transformers.OPTForCausalLM(config).save_pretrained(folder)
    assert main(["draw", TEXT, "--model", str(folder), "--out", str(tmp_path / "theirs"), "--seconds", "0.01"]) == 0
    assert len(list((tmp_path / "theirs").iterdir())) == 5


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--only", "atention"], "did you mean 'attention'"),
    (["--only", "attention"], "needs a model; give --model"),
    (["--model", "gpt-2"], "did you mean 'gpt2'"),
    ([""], "the text is empty"),
    (["--model", "gpt2", "--target", "x"], "only encoder-decoders read a --target"),
    (["--model", "gpt2", "--only", "attention", "--layer", "7"], "3 layers attended"),
    (["--model", "gpt2", "--only", "attention", "--layer", "blocks.0.atention"], "did you mean 'blocks.0.attention'"),
    (["--model", "vit-tiny-patch16-224", "--only", "residual"], "reads no text"),
    (["--model", "llama-65b"], "machine has"),
])  # fmt: skip
def test_mistakes_are_answered_with_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(CONFIGS, "gpt2", gpt2().config)
    status = main(["draw", *arguments, "--out", str(tmp_path)])
    assert sentence in capsys.readouterr().err
    assert status == 2
