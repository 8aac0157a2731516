"""Which files of a hub's model are downloaded."""

import pytest

from glassformer.checkpoints.hub import FILES, resolve
from glassformer.foundation import hub
from glassformer.text import ByteTokenizer, load_tokenizer
from glassformer.text.tokenizer import TOKENIZER_FILES


def test_only_weights_config_and_tokenizer_are_downloaded_and_for_a_tokenizer_no_weights(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(hub, "download", lambda name, files: asked.update({name: files}) or tmp_path)
    assert resolve("someone/something") == tmp_path
    ByteTokenizer().save(tmp_path)
    assert load_tokenizer("someone/another").decode([104, 105]) == "hi"
    assert asked == {"someone/something": FILES, "someone/another": ("config.json", *TOKENIZER_FILES)}
    kept = pytest.importorskip("huggingface_hub.utils").filter_repo_objects(
        ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json",
         "tokenizer.json", "spiece.model", "tokenizer.model", "source.spm", "target.spm", "vocab.txt", "vocab.json",
         "merges.txt", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "generation_config.json",
         "pytorch_model.bin", "modeling_x.py", "onnx/model.safetensors", "flax_model.msgpack", "onnx/vocab.txt"],
        allow_patterns=FILES,
    )  # fmt: skip
    assert list(kept) == ["config.json", "model.safetensors", "model-00001-of-00002.safetensors",
                          "model.safetensors.index.json", "tokenizer.json", "spiece.model", "tokenizer.model",
                          "source.spm", "target.spm", "vocab.txt", "vocab.json", "merges.txt", "chat_template.jinja",
                          "special_tokens_map.json", "added_tokens.json", "generation_config.json"]  # fmt: skip
