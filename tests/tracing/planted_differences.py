"""Mistakes to plant in one of two models that agree, each with the module where it is and what it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.models import gpt2, language_model, llama
from glassformer.ops import mask
from glassformer.parts import Linear, Rotary, position

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch, Any], None]


@dataclass(frozen=True)
class Planted:
    """A mistake: the declared model it is planted in, ours or theirs, where, and the key that names it.

    `padded` gives both an attention mask with padding on the left; `without` keeps inputs from the mistaken one.
    """

    name: str
    model: str
    who: str
    place: str
    key: str
    plant: Plant
    padded: bool = False
    without: tuple[str, ...] = ()


PLANTED: list[Planted] = []


def mistake(
    name: str, model: str, who: str, place: str, key: str, *, padded: bool = False, without: tuple[str, ...] = ()
) -> Callable[[Plant], Plant]:
    """Declare the function that plants a mistake in a model."""

    def declare(plant: Plant) -> Plant:
        PLANTED.append(Planted(name, model, who, place, key, plant, padded, without))
        return plant

    return declare


def change(model: nn.Module, name: str, by: Callable[[Tensor], Tensor]) -> None:
    """Change one parameter."""
    parameter = model.get_parameter(name)
    parameter.data = by(parameter.data.clone()).contiguous()


def fresh(weight: Tensor) -> Tensor:
    """As it is drawn before training."""
    return torch.randn(weight.shape, generator=torch.Generator().manual_seed(9)) * 0.02


def exchange(model: nn.Module, left: str, right: str) -> None:
    """Two layers change places."""
    parent = model.get_submodule(left.rpartition(".")[0])
    names = left.rpartition(".")[2], right.rpartition(".")[2]
    one, other = (getattr(parent, name) for name in names)
    setattr(parent, names[0], other)
    setattr(parent, names[1], one)


def wrap_kernel(attention: Any, wrong: Callable[..., Any]) -> None:
    """An attention whose kernel is called by `wrong(kernel, q, k, v, **options)`."""
    kernel = attention.kernel
    attention.kernel = lambda q, k, v, **options: wrong(kernel, q, k, v, **options)


def quick_gelu(x: Tensor) -> Tensor:
    return x * (1.702 * x).sigmoid()


def rms(x: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


# -- parameters, in ours -----------------------------------------------------------------------------------------------


@mistake("weight transposed", "gpt2", "ours", "blocks.1.attention.query", "transposed weight")
def _(_: Patch, model: Any) -> None:
    change(model, "blocks.1.attention.query.weight", lambda w: w.T)


@mistake("bias not loaded", "gpt2", "ours", "blocks.0.feed_forward.up", "missing bias")
def _(_: Patch, model: Any) -> None:
    change(model, "blocks.0.feed_forward.up.bias", torch.zeros_like)


@mistake("weight not loaded", "llama", "ours", "blocks.2.feed_forward.down", "unloaded weight")
def _(_: Patch, model: Any) -> None:
    change(model, "blocks.2.feed_forward.down.weight", fresh)


@mistake("query's and key's weights swapped", "llama", "ours", "blocks.1.attention.query", "swapped weights")
def _(_: Patch, model: Any) -> None:
    exchange(model, "blocks.1.attention.query", "blocks.1.attention.key")


@mistake("weights rounded to bfloat16", "llama", "ours", "blocks.1.feed_forward.gate", "precision")
def _(_: Patch, model: Any) -> None:
    change(model, "blocks.1.feed_forward.gate.weight", lambda w: w.bfloat16().float())


@mistake(
    "rows of another rotation layout", "llama", "ours", "blocks.0.attention.query", "rotation layout of the weights"
)
def _(_: Patch, model: Any) -> None:
    change(model, "blocks.0.attention.query.weight", lambda w: w.view(4, 2, 4, 32).transpose(1, 2).reshape(32, 32))


@mistake("head not tied", "llama-multi-query-tied", "ours", "head", "untied head")
def _(_: Patch, model: Any) -> None:
    model.head = Linear(32, model.config.vocab_size, bias=False)


@mistake("norm's bias not loaded", "gpt2", "ours", "blocks.2.feed_forward_norm", "missing bias")
def _(_: Patch, model: Any) -> None:
    change(model, "blocks.2.feed_forward_norm.bias", torch.zeros_like)


# -- computations, in ours ---------------------------------------------------------------------------------------------


@mistake("bias left out", "gpt2", "ours", "blocks.1.feed_forward.down", "missing bias")
def _(_: Patch, model: Any) -> None:
    layer = model.blocks[1].feed_forward.down
    layer.forward = lambda x: F.linear(x, layer.weight)


@mistake("gate and up swapped", "llama", "ours", "blocks.1.feed_forward", "gate and up swapped")
def _(_: Patch, model: Any) -> None:
    layer = model.blocks[1].feed_forward
    layer.forward = lambda x: layer.down(layer.activation(layer.up(x)) * layer.gate(x))


@mistake("exact GELU for the tanh one", "gpt2", "ours", "blocks.0.feed_forward", "activation")
def _(_: Patch, model: Any) -> None:
    model.blocks[0].feed_forward.activation = F.gelu


@mistake("quick GELU", "gpt2", "ours", "blocks.1.feed_forward", "activation")
def _(_: Patch, model: Any) -> None:
    model.blocks[1].feed_forward.activation = quick_gelu


@mistake("ε of RMSNorm", "llama", "ours", "blocks.1.attention_norm", "eps")
def _(_: Patch, model: Any) -> None:
    model.blocks[1].attention_norm.eps = 1e-3


@mistake("gain 1 + w", "llama", "ours", "blocks.0.feed_forward_norm", "norm gain")
def _(_: Patch, model: Any) -> None:
    norm = model.blocks[0].feed_forward_norm
    norm.forward = lambda x: rms(x, norm.eps) * (1 + norm.weight)


@mistake("variance over n − 1", "gpt2", "ours", "blocks.0.attention_norm", "norm variance")
def _(_: Patch, model: Any) -> None:
    norm = model.blocks[0].attention_norm

    def wrong(x: Tensor) -> Tensor:
        normal = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + norm.eps).sqrt()
        return normal * norm.weight + norm.bias

    norm.forward = wrong


@mistake("RMSNorm subtracts the mean", "llama", "ours", "blocks.1.feed_forward_norm", "norm kind")
def _(_: Patch, model: Any) -> None:
    norm = model.blocks[1].feed_forward_norm
    norm.forward = lambda x: F.layer_norm(x, x.shape[-1:], norm.weight, None, norm.eps)


@mistake("norm after the residual", "gpt2", "ours", "blocks.0", "norm placement")
def _(patch: Patch, model: Any) -> None:
    def wrong(self: Any, x: Tensor, *, mask: Any, cache: Any = None) -> Tensor:
        x = self.attention_norm(x + self.attention(x, mask=mask, cache=cache))
        return self.feed_forward_norm(x + self.feed_forward(x))

    patch.setattr(gpt2.GPT2Block, "forward", wrong)


@mistake("residual forgotten", "llama", "ours", "blocks.0", "residual")
def _(patch: Patch, model: Any) -> None:
    def wrong(self: Any, x: Tensor, *, mask: Any, rotate: Any, cache: Any = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask=mask, rotate=rotate, cache=cache)
        return self.feed_forward(self.feed_forward_norm(x))

    patch.setattr(llama.LlamaBlock, "forward", wrong)


@mistake("last norm forgotten", "llama", "ours", "norm", "missing norm")
def _(_: Patch, model: Any) -> None:
    model.norm = nn.Identity()


@mistake("embedding times √d", "gpt2", "ours", "embed", "embedding scale")
def _(_: Patch, model: Any) -> None:
    embed = model.embed
    embed.forward = lambda ids: F.embedding(ids, embed.weight) * 32**0.5


@mistake("token types ignored", "bert", "ours", "encoder.segment", "token types")
def _(_: Patch, model: Any) -> None:
    segment = model.encoder.segment
    segment.forward = lambda ids: F.embedding(torch.zeros_like(ids), segment.weight)


@mistake("logits capped", "llama", "ours", "head", "soft cap")
def _(_: Patch, model: Any) -> None:
    head = model.head
    head.forward = lambda x: 30 * (F.linear(x, head.weight) / 30).tanh()


@mistake("left in training mode", "gpt2", "ours", "dropout", "dropout")
def _(_: Patch, model: Any) -> None:
    model.train()


# -- attention and positions, in ours ----------------------------------------------------------------------------------


@mistake("scores not scaled", "gpt2", "ours", "blocks.1.attention", "attention scale")
def _(_: Patch, model: Any) -> None:
    model.blocks[1].attention.scale = 1.0


@mistake("scores scaled by the model's width", "llama", "ours", "blocks.1.attention", "attention scale")
def _(_: Patch, model: Any) -> None:
    model.blocks[1].attention.scale = 32**-0.5


@mistake("rotary pairs interleaved", "llama", "ours", "blocks.0.attention", "rotation layout")
def _(patch: Patch, model: Any) -> None:
    def wrong(self: position.Rotation, x: Tensor) -> Tensor:
        cos, sin = (table[..., : x.shape[-1] // 2].to(x.dtype) for table in (self.cos, self.sin))
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)

    patch.setattr(position.Rotation, "__call__", wrong)


@mistake("rotary base", "llama", "ours", "blocks.0.attention", "rotary base")
def _(_: Patch, model: Any) -> None:
    model.rotary = Rotary(8, base=500.0)


@mistake("positions start at 1", "gpt2", "ours", "position", "positions")
def _(_: Patch, model: Any) -> None:
    table = model.position
    table.forward = lambda p: F.embedding(p + 1, table.weight)


@mistake("positions count the left padding", "gpt2", "ours", "", "positions", padded=True)
def _(patch: Patch, model: Any) -> None:
    right = language_model.positions_and_mask
    patch.setattr(gpt2, "positions_and_mask", lambda ids, m, c: (torch.arange(ids.shape[1]), right(ids, m, c)[1]))


@mistake("no causal mask", "gpt", "ours", "blocks.0.attention", "causal mask")
def _(patch: Patch, model: Any) -> None:
    patch.setattr(mask.Mask, "causal", classmethod(lambda cls: cls()))


@mistake("causal mask one too far", "gpt2", "ours", "blocks.0.attention", "causal mask")
def _(patch: Patch, model: Any) -> None:
    patch.setattr(mask.Causal, "allows", lambda self, b, h, q, k: k <= q + 1)
    patch.setattr(mask.Mask, "is_causal", False)


@mistake("padding ignored", "llama", "ours", "blocks.0.attention", "padding mask", padded=True)
def _(patch: Patch, model: Any) -> None:
    patch.setattr(mask.Mask, "padding", classmethod(lambda cls, present: cls()))


@mistake("padding inverted", "gpt2", "ours", "blocks.0.attention", "padding mask", padded=True)
def _(patch: Patch, model: Any) -> None:
    patch.setattr(mask.Padding, "allows", lambda self, b, h, q, k: ~self.present[b, k])


@mistake("window one too wide", "mistral", "ours", "blocks.0.attention", "window")
def _(patch: Patch, model: Any) -> None:
    patch.setattr(mask.Mask, "window", classmethod(lambda cls, size: mask.Mask((mask.Window(size + 1),))))


@mistake("key heads tiled", "llama-grouped-biased", "ours", "blocks.1.attention", "key heads")
def _(_: Patch, model: Any) -> None:
    def tiled(kernel: Any, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Any:
        group = q.shape[1] // k.shape[1]
        return kernel(q, k.repeat(1, group, 1, 1), v.repeat(1, group, 1, 1), **options)

    wrap_kernel(model.blocks[1].attention, tiled)


@mistake("attention in bfloat16", "gpt2", "ours", "blocks.1.attention", "precision")
def _(_: Patch, model: Any) -> None:
    def narrow(kernel: Any, q: Tensor, k: Tensor, v: Tensor, *, scale: float, **options: Any) -> Any:
        q, k, v = (x.bfloat16() for x in (q, k, v))
        scores = (q @ k.mT) * scale
        scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -math.inf)
        return (scores.softmax(-1) @ v).float(), None

    wrap_kernel(model.blocks[1].attention, narrow)


@mistake("queries and keys exchanged", "gpt2", "ours", "blocks.2.attention", "swapped projections")
def _(_: Patch, model: Any) -> None:
    wrap_kernel(model.blocks[2].attention, lambda kernel, q, k, v, **options: kernel(k, q, v, **options))


@mistake("heads laid one behind the other", "gpt2", "ours", "blocks.0.attention", "merging heads")
def _(_: Patch, model: Any) -> None:
    def wrong(kernel: Any, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Any:
        out, weights = kernel(q, k, v, **options)
        b, h, t, width = out.shape
        return out.reshape(b, t, h, width).transpose(1, 2), weights

    wrap_kernel(model.blocks[0].attention, wrong)
