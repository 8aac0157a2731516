"""The competitors: each function prepares one and returns the sample, a function that does the work once.

They run in processes of their own (`worker.py`); imports stand inside so that each loads only what it uses.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

Sample = Callable[[], Any]


def _threads() -> None:
    import os

    import torch

    torch.set_num_threads(int(os.environ["GLASSFORMER_BENCH"]))
    torch.manual_seed(0)


def _tokens(batch_size: int, length: int, vocab_size: int) -> Any:
    import torch

    return torch.randint(vocab_size, (batch_size, length), generator=torch.Generator().manual_seed(0))


def _training(model: Any, loss: Callable[[], Any], bf16: bool, steps: int) -> Sample:
    """Samples of `steps` steps of clipped AdamW, in autocast where asked."""
    import torch

    model.train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def sample() -> float:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                value = loss()
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        return value.item()

    return sample


# -- a training step -------------------------------------------------------------------------------------------------


def train_glassformer(shape: dict[str, int], batch_size: int, steps: int, bf16: bool = False) -> Sample:
    """Our GPT-2, as `glassformer train` sets it up."""
    _threads()
    from glassformer import GPT2, GPT2Config
    from glassformer.ops.machine import keep_freed_memory

    keep_freed_memory()
    dropout = dict(embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0)
    model = GPT2(GPT2Config(**shape, **dropout))
    x = _tokens(batch_size, shape["max_positions"], shape["vocab_size"])
    return _training(model, lambda: model(x, labels=x).loss, bf16, steps)


def train_transformers(shape: dict[str, int], batch_size: int, steps: int, bf16: bool = False) -> Sample:
    """Hugging Face's GPT-2, its default attention (SDPA)."""
    _threads()
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape["vocab_size"], n_positions=shape["max_positions"], n_embd=shape["dim"],
        n_layer=shape["num_layers"], n_head=shape["num_heads"], embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
        use_cache=False, bos_token_id=0, eos_token_id=0, loss_type="ForCausalLM",
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    x = _tokens(batch_size, shape["max_positions"], shape["vocab_size"])
    return _training(model, lambda: model(input_ids=x, labels=x).loss, bf16, steps)


def train_x_transformers(shape: dict[str, int], batch_size: int, steps: int, bf16: bool = False) -> Sample:
    """x-transformers' decoder of the same shape, flash attention on."""
    _threads()
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    layers = Decoder(
        dim=shape["dim"], depth=shape["num_layers"], heads=shape["num_heads"],
        attn_dim_head=shape["dim"] // shape["num_heads"], attn_flash=True,
    )  # fmt: skip
    network = TransformerWrapper(
        num_tokens=shape["vocab_size"], max_seq_len=shape["max_positions"], attn_layers=layers, tie_embedding=True
    )
    model = AutoregressiveWrapper(network)
    x = _tokens(batch_size, shape["max_positions"], shape["vocab_size"])
    return _training(model, lambda: model(x), bf16, steps)


def train_by_hand(shape: dict[str, int], batch_size: int, steps: int) -> Sample:
    """The NumPy mirror: its own forward, backward and AdamW."""
    from glassformer.by_hand.machine import prepare

    prepare(threads=1)
    import numpy as np

    from glassformer.by_hand import GPT2, AdamW, GPT2Config, clip_gradients, cross_entropy

    dropout = dict(embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0)
    model = GPT2(GPT2Config(**shape, **dropout))
    optimizer = AdamW(model.parameters(), learning_rate=1e-4)
    x = _tokens(batch_size, shape["max_positions"], shape["vocab_size"]).numpy()
    targets = np.concatenate([x[:, 1:], np.full((batch_size, 1), -100)], axis=1)

    def sample() -> float:
        for _ in range(steps):
            loss, d_logits = cross_entropy(model(x), targets)
            model.zero_grad()
            model.backward(d_logits)
            clip_gradients(model.parameters(), 1.0)
            optimizer.step()
        return float(loss)

    return sample


# -- greedy decoding -------------------------------------------------------------------------------------------------


def decode_glassformer(folder: str, prompt: int, new: int, linear: str = "measured", dtype: str = "float32") -> Sample:
    """Ours, with the named kernel in every linear layer."""
    _threads()
    import torch

    from glassformer import from_pretrained
    from glassformer.parts import use_kernels

    model = use_kernels(from_pretrained(folder, dtype=getattr(torch, dtype)), linear=linear)
    x = _tokens(1, prompt, model.config.vocab_size)
    return lambda: model.generate(x, max_new_tokens=new)[0].tolist()


def decode_transformers(folder: str, prompt: int, new: int, dtype: str = "float32") -> Sample:
    """Theirs: `generate` with its default cache."""
    _threads()
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    x = _tokens(1, prompt, model.config.vocab_size)
    options = dict(max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0)
    return lambda: model.generate(x, attention_mask=torch.ones_like(x), **options)[0].tolist()


def decode_by_hand(folder: str, prompt: int, new: int) -> Sample:
    """The NumPy mirror, from the same folder."""
    from glassformer.by_hand.machine import prepare

    prepare(threads=1)
    from glassformer.by_hand import GPT2

    model = GPT2.from_pretrained(folder)
    x = _tokens(1, prompt, model.config.vocab_size).numpy()
    return lambda: model.generate(x, max_new_tokens=new)[0].tolist()


def read_memory(num_bytes: int) -> Sample:
    """The limit of decoding: one pass over as many bytes as the weights have, added up so that none is skipped."""
    _threads()
    import torch

    data = torch.ones(num_bytes // 8, dtype=torch.float64)
    return lambda: data.sum().item()


def multiply(size: int, dtype: str) -> Sample:
    """The limit of training: one product of square matrices by the machine's best kernel."""
    _threads()
    import torch

    from glassformer.ops.linear import linear_kernel

    kernel = linear_kernel("measured")
    x, weight = (torch.randn(size, size, dtype=getattr(torch, dtype)) for _ in range(2))

    @torch.inference_mode()
    def sample() -> float:
        return kernel(x, weight, None)[0, 0].item()

    return sample


# -- memory ----------------------------------------------------------------------------------------------------------


def loss_memory(kernel: str, batch_size: int, length: int) -> Sample:
    """A training step of a small GPT-2 with the whole vocabulary of 50,257."""
    _threads()
    from glassformer import GPT2, GPT2Config
    from glassformer.parts import use_kernels

    dropout = dict(embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0)
    config = GPT2Config(max_positions=length, dim=256, num_layers=2, num_heads=4, **dropout)
    model = use_kernels(GPT2(config), cross_entropy=kernel)
    x = _tokens(batch_size, length, config.vocab_size)
    return _training(model, lambda: model(x, labels=x).loss, False, 1)


# -- a whole training run --------------------------------------------------------------------------------------------


def train_recipe(recipe: str, corpus: str) -> Sample:
    """A recipe from its first step to its last; gives the validation loss it ends with."""
    _threads()
    import tempfile

    from glassformer.training import load_recipe, train

    ready = load_recipe(recipe, {"data.corpus": corpus})

    def sample() -> float | None:
        with tempfile.TemporaryDirectory() as folder:
            return train(ready, run_folder=f"{folder}/run").validation_loss

    return sample
