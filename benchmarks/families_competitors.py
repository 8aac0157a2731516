"""The competitors of `families.py`: each function prepares one and returns the sample."""

from pathlib import Path
from typing import Any

from benchmarks.competitors import Sample, _threads, _tokens, _training


def _dtype(bf16: bool) -> Any:
    import torch

    return torch.bfloat16 if bf16 else torch.float32


def _texts(lengths: list[int], vocab_size: int) -> tuple[Any, Any]:
    """Token ids padded on the right, and which of them are real."""
    import torch

    ids = _tokens(len(lengths), max(lengths), vocab_size)
    present = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids * present, present


def _encoding(model: Any, lengths: list[int], vocab_size: int) -> Sample:
    """Samples of one forward pass; gives the sum of squares at real tokens, for comparison."""
    import torch

    x, present = _texts(lengths, vocab_size)

    @torch.inference_mode()
    def sample() -> float:
        hidden = model(input_ids=x, attention_mask=present).last_hidden_state.float()
        return hidden[present.bool()].square().sum().item()

    return sample


def encode_glassformer(folder: str, lengths: list[int], bf16: bool) -> Sample:
    """Ours, as it opens."""
    _threads()
    from glassformer import from_pretrained

    return _encoding(from_pretrained(folder, dtype=_dtype(bf16)), lengths, 30_522)


def encode_transformers(folder: str, lengths: list[int], bf16: bool) -> Sample:
    """Theirs, its default attention (SDPA)."""
    _threads()
    from transformers import AutoModel

    return _encoding(AutoModel.from_pretrained(folder, dtype=_dtype(bf16)).eval(), lengths, 30_522)


def encode_torch(lengths: list[int], bf16: bool) -> Sample:
    """torch.nn.TransformerEncoder's fast path, on vectors: no embeddings, random weights; nested where padded."""
    _threads()
    import torch
    from torch import nn

    dtype = _dtype(bf16)
    layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True)
    model = nn.TransformerEncoder(layer, 12, enable_nested_tensor=True).to(dtype).eval()
    _, present = _texts(lengths, 30_522)
    x = torch.randn(*present.shape, 768, dtype=dtype)
    hidden = None if bool(present.all()) else present == 0

    @torch.inference_mode()
    def sample() -> float:
        return model(x, src_key_padding_mask=hidden).sum().item()

    return sample


def translate_glassformer(folder: str, source: int, new: int, beams: int, bf16: bool) -> Sample:
    """Ours: greedy or beam search, no end token, so that all write as much."""
    _threads()
    from glassformer import from_pretrained

    model = from_pretrained(folder, dtype=_dtype(bf16))
    x = _tokens(1, source, model.config.vocab_size)
    return lambda: model.generate(x, max_new_tokens=new, num_beams=beams)[0].tolist()


def translate_transformers(folder: str, source: int, new: int, beams: int, bf16: bool) -> Sample:
    """Theirs: `generate` with its default cache."""
    _threads()
    import torch
    from transformers import T5ForConditionalGeneration

    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=_dtype(bf16)).eval()
    model.generation_config.eos_token_id = None
    x = _tokens(1, source, model.config.vocab_size)
    options = dict(max_new_tokens=new, do_sample=False, num_beams=beams, attention_mask=torch.ones_like(x))
    return lambda: model.generate(x, **options)[0].tolist()


def experts_glassformer(shape: dict[str, int], batch_size: int, steps: int, bf16: bool) -> Sample:
    """Our Mixtral, tokens sent to their experts."""
    _threads()
    from glassformer import create_model
    from glassformer.ops.machine import keep_freed_memory

    keep_freed_memory()
    head_dim = shape["dim"] // shape["num_heads"]  # their default; ours is that of the published model, 128
    model = create_model("mixtral", **shape, head_dim=head_dim, num_experts=8, num_chosen=2, window_size=None)
    x = _tokens(batch_size, shape["max_positions"], shape["vocab_size"])
    return _training(model, lambda: model(x, labels=x).loss, bf16, steps)


def experts_transformers(shape: dict[str, int], batch_size: int, steps: int, bf16: bool) -> Sample:
    """Theirs, as it comes."""
    _threads()
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=shape["vocab_size"], hidden_size=shape["dim"], intermediate_size=shape["hidden_dim"],
        num_hidden_layers=shape["num_layers"], num_attention_heads=shape["num_heads"],
        num_key_value_heads=shape["num_kv_heads"], max_position_embeddings=shape["max_positions"],
        num_local_experts=8, num_experts_per_tok=2, sliding_window=None, use_cache=False,
    )  # fmt: skip
    model = MixtralForCausalLM(config)
    x = _tokens(batch_size, shape["max_positions"], shape["vocab_size"])
    return _training(model, lambda: model(input_ids=x, labels=x).loss, bf16, steps)


def write_llama(folder: str, **shape: int) -> Sample:
    """No competitor: writes the folder that both load, with an untied head (0.54 GB)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape["vocab_size"], hidden_size=shape["dim"], intermediate_size=shape["hidden_dim"],
        num_hidden_layers=shape["num_layers"], num_attention_heads=shape["num_heads"],
        max_position_embeddings=shape["max_positions"],
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return lambda: None


def _loading(load: Any, folder: str, new: bool, forward: bool) -> Sample:
    """Samples of opening the folder (`new`: its file just written), and of reading a token, which takes all weights."""
    import torch

    x, path = torch.zeros(1, 1, dtype=torch.int64), Path(folder) / "model.safetensors"

    @torch.inference_mode()
    def sample() -> float:
        if new:
            path.touch()
        model = load()
        return model(x).logits.abs().sum().item() if forward else 0.0

    return sample


def load_glassformer(folder: str, new: bool, forward: bool, bf16: bool) -> Sample:
    """Ours: of a new file every value is looked at, NaN and infinity refused."""
    _threads()
    from glassformer import from_pretrained

    return _loading(lambda: from_pretrained(folder, dtype=_dtype(bf16)), folder, new, forward)


def load_transformers(folder: str, new: bool, forward: bool, bf16: bool) -> Sample:
    """Theirs."""
    _threads()
    from transformers import AutoModelForCausalLM

    return _loading(lambda: AutoModelForCausalLM.from_pretrained(folder, dtype=_dtype(bf16)), folder, new, forward)
