"""`glassformer xray` looks into any folder, ours and theirs, and says whose model it is."""

import json
from pathlib import Path

import pytest
import torch

from glassformer.cli import main
from glassformer.models import BERT, GPT2, T5, BERTConfig, GPT2Config, T5Config
from glassformer.text import CharacterTokenizer

TEXT = "the cat sat on the mat"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    tokenizer = CharacterTokenizer.train(TEXT, special_tokens=["<pad>", "</s>"])
    size = {"vocab_size": tokenizer.vocab_size, "dim": 16, "num_heads": 2}
    models = {
        "gpt2": GPT2(GPT2Config(**size, num_layers=1, max_positions=32)),
        "bert": BERT(BERTConfig(**size, num_layers=1, hidden_dim=32, max_positions=32)),
        "t5": T5(T5Config(**size, num_encoder_layers=1, hidden_dim=32, head_dim=8)),
    }
    found = {name: tmp_path_factory.mktemp(name) for name in models}
    for name, model in models.items():
        model.save_pretrained(found[name])
        tokenizer.save(found[name])
    return found


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
@pytest.mark.parametrize("backward", [False, True])
def test_a_text_goes_through_every_kind_of_model(
    folders: dict[str, Path], name: str, backward: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["xray", TEXT[:9], "--model", str(folders[name]), *(["--backward"] if backward else [])]) == 0
    out = capsys.readouterr().out
    assert "of glassformer" in out
    assert "attention Attention" in out
    assert ("forward and backward" in out) == backward


def test_a_page_and_json_are_written_and_the_tree_folds(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html, data = tmp_path / "x.html", tmp_path / "x.json"
    command = ["xray", TEXT[:9], "--model", str(folders["gpt2"]), "--depth", "1", "--modules", "--attention"]
    assert main([*command, "--html", str(html), "--json", str(data)]) == 0
    out = capsys.readouterr().out
    assert "blocks.0" in out
    assert "feed_forward" not in out
    assert "addmm" not in out
    assert '"path":"blocks.0.attention"' in html.read_text(encoding="utf-8")
    said = json.loads(data.read_text())
    assert said["tokens"] == list(TEXT[:9])


def test_a_family_that_is_not_here_is_opened_by_transformers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: i for i, word in enumerate(["[UNK]", *sorted(set(TEXT.split()))])}
    bare = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    bare.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="[UNK]").save_pretrained(tmp_path)
    config = transformers.OPTConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=32,
        word_embed_proj_dim=16, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    transformers.OPTForCausalLM(config).save_pretrained(tmp_path)
    html = tmp_path / "x.html"
    assert main(["xray", TEXT, "--model", str(tmp_path), "--backward", "--attention", "--html", str(html)]) == 0
    out = capsys.readouterr().out
    page = html.read_text(encoding="utf-8")
    assert '"tokens":["the","cat"' in page
    assert "decoder.layers.0.self_attn" in page
    assert "OPTForCausalLM of transformers" in out
    assert "forward and backward" in out


def test_mistakes_are_answered_with_a_sentence(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(folders["gpt2"])]
    for arguments, sentence in (
        (["xray", "", *model], "the text is empty"),
        (["xray", TEXT, *model, "--depth", "0"], "--depth is 0"),
        (["xray", TEXT, *model, "--dept", "2"], "did you mean '--depth'"),
        (["xray", TEXT, "--model", str(tmp_path / "nowhere")], "nowhere"),
    ):
        assert main(arguments) == 2
        assert sentence in capsys.readouterr().err


def test_a_model_that_fails_is_shown_up_to_there_and_the_status_is_1(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["xray", TEXT * 2, "--model", str(folders["gpt2"])]) == 1
    assert "44 tokens do not fit into the model's 32 positions" in " ".join(capsys.readouterr().out.split())
