"""T5's folders: published configs, the old names of its weights, and a head whose tie only the weights tell."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from declared_encoder_decoders import ENCODER_DECODERS
from properties import close, redraw
from safetensors.torch import load_file, save_file

from glassformer.models.catalog import from_pretrained
from glassformer.models.t5 import T5
from glassformer.models.t5_config import CONFIG_TABLE, SIZES, T5Config

BY_NAME = {case.name: case for case in ENCODER_DECODERS}
PUBLISHED = {  # what the folders of these models say
    "t5-small": {
        "architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64, "d_model": 512,
        "decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "initializer_factor": 1.0,
        "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512,
        "num_heads": 8, "num_layers": 6, "output_past": True, "pad_token_id": 0,
        "relative_attention_num_buckets": 32, "vocab_size": 32128,
        "task_specific_params": {"summarization": {"early_stopping": True, "prefix": "summarize: "}},
    },
    "t5-v1.1-small": {
        "architectures": ["T5ForConditionalGeneration"], "d_ff": 1024, "d_kv": 64, "d_model": 512,
        "decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0, "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5",
        "num_decoder_layers": 8, "num_heads": 6, "num_layers": 8, "output_past": True, "pad_token_id": 0,
        "relative_attention_num_buckets": 32, "tie_word_embeddings": False, "vocab_size": 32128,
    },
    "mt5-small": {
        "architectures": ["MT5ForConditionalGeneration"], "d_ff": 1024, "d_kv": 64, "d_model": 512,
        "decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0, "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "mt5",
        "num_decoder_layers": 8, "num_heads": 6, "num_layers": 8, "pad_token_id": 0,
        "relative_attention_num_buckets": 32, "tie_word_embeddings": False, "tokenizer_class": "T5Tokenizer",
        "vocab_size": 250112,
    },
    "umt5-small": {
        "architectures": ["UMT5ForConditionalGeneration"], "classifier_dropout": 0.0, "d_ff": 1024, "d_kv": 64,
        "d_model": 512, "decoder_start_token_id": 0, "dense_act_fn": "gelu_new", "dropout_rate": 0.1,
        "eos_token_id": 1, "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0, "is_encoder_decoder": True,
        "is_gated_act": True, "layer_norm_epsilon": 1e-06, "model_type": "umt5", "num_decoder_layers": 8,
        "num_heads": 6, "num_layers": 8, "output_past": True, "pad_token_id": 0,
        "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32,
        "tie_word_embeddings": False, "torch_dtype": "float32", "vocab_size": 256384,
    },
}  # fmt: skip


def theirs_of(name: str) -> Any:
    case = BY_NAME[name]
    assert case.theirs is not None
    return redraw(case.theirs(), spread=case.spread).eval()


def logits(model: Any) -> torch.Tensor:
    x = torch.arange(1, 31).view(2, 15)
    with torch.no_grad():
        return model(input_ids=x, decoder_input_ids=x[:, :7]).logits


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_the_sizes_of_that_name(name: str) -> None:
    assert CONFIG_TABLE.load(PUBLISHED[name]) == SIZES[name]


def test_only_what_is_implemented_is_read() -> None:
    for attribute, value in (
        ("feed_forward_proj", "gated-tanh"), ("feed_forward_proj", ["relu"]), ("is_encoder_decoder", False),
        ("attention_gate", 1), ("dense_act_fn", "silu"), ("is_gated_act", True),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=attribute):
            CONFIG_TABLE.load(PUBLISHED["t5-small"] | {attribute: value})


def test_as_many_decoder_blocks_as_encoder_blocks_unless_said() -> None:
    assert T5Config(num_encoder_layers=5).num_decoder_layers == 5
    assert CONFIG_TABLE.load(PUBLISHED["t5-small"] | {"num_decoder_layers": 2}).num_decoder_layers == 2


def test_any_of_the_family_is_opened_by_its_folder_and_written_as_what_it_is(tmp_path: Path) -> None:
    for name, model_type in (("t5", "t5"), ("umt5", "umt5")):
        theirs_of(name).save_pretrained(tmp_path / name)
        ours = from_pretrained(tmp_path / name)
        assert type(ours) is T5
        ours.save_pretrained(tmp_path / f"{name}-again")
        written = json.loads((tmp_path / f"{name}-again" / "config.json").read_text())
        assert written["model_type"] == model_type
        assert written["architectures"] == [f"{model_type.upper()}ForConditionalGeneration"]


def test_old_files_hold_the_embedding_several_times_and_a_bias_that_is_never_read(tmp_path: Path) -> None:
    theirs = theirs_of("t5")
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    names = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    tensors |= {name: tensors["shared.weight"].clone() for name in names}
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.randn(8, 4)
    save_file(tensors, path, {"format": "pt"})
    ours = T5.from_pretrained(tmp_path)
    assert ours.config.tied
    close(logits(ours), logits(theirs), 1e-5, "logits")
    del tensors["shared.weight"]  # the encoder's is then the only name there is
    save_file(tensors, path, {"format": "pt"})
    close(logits(T5.from_pretrained(tmp_path)), logits(theirs), 1e-5, "logits")


def test_a_head_of_its_own_is_seen_in_the_weights_where_the_config_says_tied(tmp_path: Path) -> None:
    theirs = theirs_of("t5-v1.1")
    with torch.no_grad():
        theirs.lm_head.weight = torch.nn.Parameter(theirs.shared.weight.flip(0) * 0.5)
    theirs.all_tied_weights_keys.pop("lm_head.weight")
    theirs.save_pretrained(tmp_path / "theirs")
    assert json.loads((tmp_path / "theirs" / "config.json").read_text())["tie_word_embeddings"]
    ours = T5.from_pretrained(tmp_path / "theirs")
    assert not ours.config.tied
    close(logits(ours), logits(theirs), 1e-5, "logits")
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()
    close(logits(again), logits(ours), 1e-5, "logits of theirs, from our folder")
