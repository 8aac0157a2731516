"""Hugging Face folders read with NumPy alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glassformer.by_hand import GPT2, Llama, read_safetensors
from glassformer.by_hand.models.rope import load_rope
from glassformer.by_hand.parts.position import LinearScaling

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_are_read_as_safetensors_wrote_them(tmp_path, dtype):
    tensors = {
        "a": (3 * torch.randn(3, 5)).to(dtype),
        "scalar": torch.ones((), dtype=dtype),
        "odd": torch.ones(7).to(dtype),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    read = read_safetensors(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = tensor.float() if dtype == torch.bfloat16 else tensor
        assert read[name].dtype == expected.numpy().dtype
        assert (read[name] == expected.numpy()).all()


def _header(entries: dict, payload: bytes = b"") -> bytes:
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + payload


def _entry(dtype: str, shape: list, start: int, end: int) -> bytes:
    return _header({"w": {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}}, b"12345678")


@pytest.mark.parametrize(("content", "message"), [
    (b"", "cut short: 0 bytes"),
    (b"\x01", "cut short: 1 bytes"),
    (b"\xff" * 40, "cut short: 40 bytes, header of"),
    ((4).to_bytes(8, "little") + b"nope", "header that cannot be understood"),
    (_header({"w": 3}), "header that cannot be understood"),
    (_entry("F8", [8], 0, 8), "header that cannot be understood: 'F8'"),
    (_entry("U8", ["8"], 0, 8), "header that cannot be understood"),
    (_entry("F32", [3], 0, 12), r"w has shape \(3,\) and offsets \(0, 12\); expected 12 bytes within 8"),
    (_entry("F32", [3], 0, 8), "expected 12 bytes"),
    (_entry("U8", [2], -2, 0), r"offsets \(-2, 0\)"),
    (_entry("U8", [-1, -2], 0, 2), r"shape \(-1, -2\)"),
])  # fmt: skip
def test_damaged_files_are_refused_by_name(tmp_path, content, message):
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_safetensors(tmp_path / "bad.safetensors")
    assert "bad.safetensors" in str(caught.value)


def _gpt2(**changes):
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = dict(vocab_size=31, n_positions=24, n_embd=24, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(GPT2Config(**shape | changes))


def _llama(rope=None, **changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = dict(vocab_size=31, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
                 max_position_embeddings=24, bos_token_id=0, eos_token_id=0)  # fmt: skip
    rope_parameters = {"rope_type": "default", "rope_theta": 700.0} | (rope or {})
    return LlamaForCausalLM(LlamaConfig(**shape | {"rope_parameters": rope_parameters} | changes))


LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 12}  # fmt: skip
THEIRS = {
    "gpt2": (GPT2, _gpt2),
    "gpt2, relu, untied": (GPT2, lambda: _gpt2(activation_function="relu", n_inner=40, tie_word_embeddings=False)),
    "llama": (Llama, _llama),
    "llama, grouped, biased": (
        Llama,
        lambda: _llama(num_key_value_heads=2, attention_bias=True, mlp_bias=True, head_dim=8),
    ),
    "llama, attention biased": (Llama, lambda: _llama(attention_bias=True)),
    "llama, feed-forward biased": (Llama, lambda: _llama(mlp_bias=True)),
    "llama, tied": (Llama, lambda: _llama(tie_word_embeddings=True)),
    "llama, linear": (Llama, lambda: _llama({"rope_type": "linear", "factor": 2.0})),
    "llama, dynamic": (Llama, lambda: _llama({"rope_type": "dynamic", "factor": 2.0}, max_position_embeddings=8)),
    "llama, llama3": (Llama, lambda: _llama(LLAMA3)),
    "llama, yarn": (
        Llama,
        lambda: _llama({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 12}),
    ),
}


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("shard", ["5GB", "10KB"])
def test_a_folder_of_hugging_face_gives_their_logits(tmp_path, name, shard):
    kind, make = THEIRS[name]
    theirs = make().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 1.2 / parameter.shape[-1] ** 0.5
        parameter.data = parameter.data.mean().round() + noise
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "10KB")
    ours = kind.from_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(0, 31, (2, 14))
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits.numpy()
    assert abs(ours(ids) - expected).max() < 1e-5 * abs(expected).max()


def _edit(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_what_is_not_implemented_is_refused(tmp_path):
    _gpt2().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is of GPT2LMHeadModel; expected LlamaForCausalLM"):
        Llama.from_pretrained(tmp_path)
    for changes, message in (
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True; only False"),
        ({"activation_function": "tanh"}, "the activation 'tanh'; known: gelu_new"),
        ({"n_layer": 3}, "lacks h.2.attn.c_attn.bias"),
        ({"n_layer": 1}, "holds h.1.attn.c_attn.bias, h.1.attn.c_attn.weight.*does not know"),
        ({"n_positions": 25}, r"position.weight has shape \(24, 24\), expected \(25, 24\)"),
    ):
        kept = (tmp_path / "config.json").read_text()
        _edit(tmp_path, **changes)
        with pytest.raises(ValueError, match=message):
            GPT2.from_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(kept)
    index = tmp_path / "model.safetensors.index.json"
    for content, message in (("[]", "is no index of shards"), ('{"weight_map": {"a": "../x"}}', r"points to \.\./x")):
        index.write_text(content)
        with pytest.raises(ValueError, match=message):
            GPT2.from_pretrained(tmp_path)
    index.unlink()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        GPT2.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        GPT2.from_pretrained(tmp_path / "nowhere")


def test_old_and_wrong_rope_configs():
    old = load_rope({"rope_theta": 5.0, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert old == {"rope_base": 5.0, "rope_scaling": LinearScaling(factor=2.0)}
    assert load_rope({}) == {"rope_base": 10_000.0, "rope_scaling": None}
    for rope, message in (
        ({"rope_type": "longrope"}, "rope_type='longrope', which is not implemented"),
        ({"rope_type": "linear"}, "'linear' rope_parameters lack 'factor'"),
        ({"rope_type": "yarn", "factor": 2.0, "mscale": 0.7}, "have {'mscale': 0.7}, which is not implemented"),
    ):
        with pytest.raises(ValueError, match=message):
            load_rope({"rope_parameters": rope})
    with pytest.raises(ValueError, match=r"rope_scaling=.* beside rope_parameters="):
        load_rope({"rope_parameters": {"rope_theta": 5.0}, "rope_scaling": {"type": "linear", "factor": 2.0}})
