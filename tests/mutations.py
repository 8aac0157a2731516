"""The classic mistakes of people who write transformers, each planted by replacing one piece of the library."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.models import gpt2, language_model, llama
from glassformer.ops import attend, cross_entropy, mask
from glassformer.parts import activation, attention, cache, dropout, embedding, feed_forward, linear, norm, position

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutation:
    """A mistake: its name, how to plant it, the declared model to look at, and the property that is asked first."""

    name: str
    plant: Callable[[Patch], None]
    model: str
    by: str | None = None


MUTATIONS: list[Mutation] = []


def mistake(
    name: str, model: str, by: str | None = None
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Declare the function that plants a mistake.

    `by` names the property that notices it, where others of the model would be asked for seconds before that one.
    """

    def declare(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTATIONS.append(Mutation(name, plant, model, by))
        return plant

    return declare


# -- masks -------------------------------------------------------------------------------------------------------------


@mistake("causal mask one too far: a token sees the next one", "gpt2")
def _(patch: Patch) -> None:
    patch.setattr(mask.Causal, "allows", lambda self, b, h, q, k: k <= q + 1)
    patch.setattr(mask.Mask, "is_causal", False)


@mistake("causal mask one too short: a token does not see itself", "llama")
def _(patch: Patch) -> None:
    patch.setattr(mask.Causal, "allows", lambda self, b, h, q, k: k < q)
    patch.setattr(mask.Mask, "is_causal", False)


@mistake("no causal mask", "gpt")
def _(patch: Patch) -> None:
    patch.setattr(mask.Mask, "causal", classmethod(lambda cls: cls()))


@mistake("causal mask aligned to the first key, not the last, after a cache", "llama")
def _(patch: Patch) -> None:
    patch.setattr(mask.Term, "dense", lambda self, t, s, device: torch.ones(1, 1, t, s, dtype=torch.bool).tril())


@mistake("padding mask inverted", "gpt2")
def _(patch: Patch) -> None:
    patch.setattr(mask.Padding, "allows", lambda self, b, h, q, k: ~self.present[b, k])


@mistake("padding mask ignored", "llama")
def _(patch: Patch) -> None:
    patch.setattr(mask.Mask, "padding", classmethod(lambda cls, present: cls()))


@mistake("padding hides queries, not keys", "gpt2")
def _(patch: Patch) -> None:
    patch.setattr(mask.Padding, "allows", lambda self, b, h, q, k: self.present[b, q])


# -- positions ---------------------------------------------------------------------------------------------------------


@mistake("position ids count the left padding", "gpt2")
def _(patch: Patch) -> None:
    right = language_model.positions_and_mask

    def wrong(ids: Tensor, attention_mask: Tensor | None, cache: Any) -> Any:
        start = 0 if cache is None else cache.length
        return torch.arange(start, start + ids.shape[1]), right(ids, attention_mask, cache)[1]

    patch.setattr(gpt2, "positions_and_mask", wrong)


@mistake("positions start again at 0 after the cache", "llama", by="cache_equals_no_cache")
def _(patch: Patch) -> None:
    right = language_model.positions_and_mask
    patch.setattr(
        llama, "positions_and_mask", lambda ids, m, cache: (torch.arange(ids.shape[1]), right(ids, m, cache)[1])
    )


@mistake("positions start at 1", "gpt2")
def _(patch: Patch) -> None:
    right = position.LearnedPosition.forward
    patch.setattr(position.LearnedPosition, "forward", lambda self, p: right(self, p + 1))


@mistake("rotary pairs interleaved, not halves", "llama")
def _(patch: Patch) -> None:
    def wrong(self: position.Rotation, x: Tensor) -> Tensor:
        cos, sin = (table[..., : x.shape[-1] // 2].to(x.dtype) for table in (self.cos, self.sin))
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)

    patch.setattr(position.Rotation, "__call__", wrong)


@mistake("rotary angle turned the other way", "llama")
def _(patch: Patch) -> None:
    right = position.Rotation.__init__
    patch.setattr(position.Rotation, "__init__", lambda self, cos, sin: right(self, cos, -sin * (1 + 0.1 * cos)))


@mistake("rotary base forgotten in the config", "llama-grouped-biased")
def _(patch: Patch) -> None:
    right = position.rotary_frequency
    patch.setattr(position, "rotary_frequency", lambda head_dim, base: right(head_dim, 10_000.0))


@mistake("rotary on queries only", "llama")
def _(patch: Patch) -> None:
    right, calls = position.Rotation.__call__, []

    def wrong(self: position.Rotation, x: Tensor) -> Tensor:
        calls.append(1)
        return right(self, x) if len(calls) % 2 else x

    patch.setattr(position.Rotation, "__call__", wrong)


@mistake("rotary frequencies over the whole width instead of the head's", "llama-grouped-biased")
def _(patch: Patch) -> None:
    right = position.rotary_frequency
    patch.setattr(position, "rotary_frequency", lambda head_dim, base: right(2 * head_dim, base)[: head_dim // 2])


@mistake("linear scaling multiplies instead of divides", "llama-linear")
def _(patch: Patch) -> None:
    patch.setattr(
        position.LinearScaling, "frequency",
        lambda self, head_dim, base, length: position.rotary_frequency(head_dim, base) * self.factor,
    )  # fmt: skip


@mistake("Llama 3 scaling's ramp upside down", "llama-llama3")
def _(patch: Patch) -> None:
    right = position.Llama3Scaling.frequency

    def wrong(self: position.Llama3Scaling, head_dim: int, base: float, length: int) -> Tensor:
        plain = position.rotary_frequency(head_dim, base)
        return plain + plain / self.factor - right(self, head_dim, base, length)

    patch.setattr(position.Llama3Scaling, "frequency", wrong)


@mistake("YaRN without its temperature", "llama-yarn")
def _(patch: Patch) -> None:
    patch.setattr(position.YarnScaling, "magnitude", 1.0)


# -- attention ---------------------------------------------------------------------------------------------------------


def _wrap_kernels(patch: Patch, change: Callable[..., dict[str, Any]]) -> None:
    for name, right in list(attend.ATTEND.items()):

        def wrong(q: Tensor, k: Tensor, v: Tensor, right: Any = right, **options: Any) -> Any:
            changed = change(q=q, k=k, v=v, **options)
            return right(changed.pop("q"), changed.pop("k"), changed.pop("v"), **changed)

        patch.setitem(attend.ATTEND, name, wrong)
    build = attention.Attention.__init__

    def build_wrong(self: attention.Attention, *sizes: int, **options: Any) -> None:
        build(self, *sizes, **options)
        self.kernel = attend.ATTEND["sdpa"]

    patch.setattr(attention.Attention, "__init__", build_wrong)


@mistake("scores not scaled", "gpt2")
def _(patch: Patch) -> None:
    _wrap_kernels(patch, lambda **o: o | {"scale": 1.0})


@mistake("scores scaled by the model's width, not the head's", "llama")
def _(patch: Patch) -> None:
    _wrap_kernels(patch, lambda **o: o | {"scale": (o["q"].shape[-1] * o["q"].shape[1]) ** -0.5})


@mistake("queries and keys swapped", "gpt")
def _(patch: Patch) -> None:
    _wrap_kernels(patch, lambda **o: o | {"q": o["k"], "k": o["q"]})


@mistake("values read where keys belong", "gpt2")
def _(patch: Patch) -> None:
    _wrap_kernels(patch, lambda **o: o | {"k": o["v"], "v": o["k"]})


@mistake("grouped heads tiled in the wrong order", "llama-grouped-biased")
def _(patch: Patch) -> None:
    def tiled(**o: Any) -> dict[str, Any]:
        group = o["q"].shape[1] // o["k"].shape[1]
        return o | {"k": o["k"].repeat(1, group, 1, 1), "v": o["v"].repeat(1, group, 1, 1)}

    _wrap_kernels(patch, tiled)


@mistake("heads not brought back beside their token", "gpt2")
def _(patch: Patch) -> None:
    right = linear.Linear.forward
    seen: list[int] = []

    def wrong(self: linear.Linear, x: Tensor) -> Tensor:
        seen.append(1)
        if self.weight.shape[0] == self.weight.shape[1] and len(seen) % 6 == 4:  # query, key, value, then output
            b, t, d = x.shape
            x = x.view(b, t, 4, d // 4).transpose(1, 2).reshape(b, t, d)
        return right(self, x)

    patch.setattr(linear.Linear, "forward", wrong)


@mistake("dropout still on in evaluation", "gpt2")
def _(patch: Patch) -> None:
    patch.setattr(dropout.Dropout, "forward", lambda self, x: F.dropout(x, self.p, training=True))


# -- cache -------------------------------------------------------------------------------------------------------------


@mistake("cache advanced twice", "llama", by="cache_equals_no_cache")
def _(patch: Patch) -> None:
    def wrong(self: cache.KeyValueCache, t: int) -> None:
        self.length += 2 * t

    patch.setattr(cache.KeyValueCache, "advance", wrong)
    patch.setattr(cache.KeyValueCache, "require", lambda self, t: None)


@mistake("cache never advanced", "gpt2", by="cache_equals_no_cache")
def _(patch: Patch) -> None:
    patch.setattr(cache.KeyValueCache, "advance", lambda self, t: None)


@mistake("cache written one place too far", "gpt", by="cache_equals_no_cache")
def _(patch: Patch) -> None:
    def wrong(self: cache.LayerCache, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        start = self.owner.length
        end = start + k.shape[2]
        room = self.key[:, :, start + 1 : end + 1].shape[2]
        self.key[:, :, start + 1 : end + 1] = k[:, :, :room]
        self.value[:, :, start:end] = v
        return self.key[:, :, :end], self.value[:, :, :end]

    patch.setattr(cache.LayerCache, "append", wrong)


@mistake("cache holds keys before their rotation", "llama", by="cache_equals_no_cache")
def _(patch: Patch) -> None:
    right, held = cache.LayerCache.append, {}

    def wrong(self: cache.LayerCache, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = right(self, k, v)
        held[id(self)] = keys
        return torch.cat([keys[:, :, : self.owner.length].roll(1, -1), k], dim=2), values

    patch.setattr(cache.LayerCache, "append", wrong)


@mistake("cache rows reordered in the keys but not in the values", "gpt2", by="cache_truncates_and_reorders")
def _(patch: Patch) -> None:
    def wrong(self: cache.KeyValueCache, rows: Tensor) -> None:
        for layer in self.layers:
            layer.key.copy_(layer.key[rows])

    patch.setattr(cache.KeyValueCache, "reorder", wrong)


# -- norms, activations, feed-forward ----------------------------------------------------------------------------------


@mistake("LayerNorm divides by n − 1", "gpt2")
def _(patch: Patch) -> None:
    def wrong(self: norm.LayerNorm, x: Tensor) -> Tensor:
        normal = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + self.eps).sqrt()
        return normal * self.weight + self.bias

    patch.setattr(norm.LayerNorm, "forward", wrong)


@mistake("LayerNorm's bias not loaded", "gpt2")
def _(patch: Patch) -> None:
    patch.setattr(norm.LayerNorm, "forward", lambda self, x: F.layer_norm(x, x.shape[-1:], self.weight, None, self.eps))


@mistake("ε outside the root", "llama")
def _(patch: Patch) -> None:
    patch.setattr(
        norm.RMSNorm, "forward", lambda self, x: x / (x.square().mean(-1, keepdim=True).sqrt() + 0.01) * self.weight
    )


@mistake("RMSNorm subtracts the mean", "llama")
def _(patch: Patch) -> None:
    patch.setattr(norm.RMSNorm, "forward", lambda self, x: F.layer_norm(x, x.shape[-1:], self.weight, None, self.eps))


@mistake("norm after the residual, not before", "gpt2")
def _(patch: Patch) -> None:
    def wrong(self: gpt2.GPT2Block, x: Tensor, *, mask: Any, cache: Any = None) -> Tensor:
        x = self.attention_norm(x + self.attention(x, mask=mask, cache=cache))
        return self.feed_forward_norm(x + self.feed_forward(x))

    patch.setattr(gpt2.GPT2Block, "forward", wrong)


@mistake("the two norms of a block swapped", "llama")
def _(patch: Patch) -> None:
    right = llama.LlamaBlock.forward

    def wrong(self: llama.LlamaBlock, x: Tensor, **options: Any) -> Tensor:
        self.attention_norm, self.feed_forward_norm = self.feed_forward_norm, self.attention_norm
        try:
            return right(self, x, **options)
        finally:
            self.attention_norm, self.feed_forward_norm = self.feed_forward_norm, self.attention_norm

    patch.setattr(llama.LlamaBlock, "forward", wrong)


@mistake("last norm forgotten", "gpt2")
def _(patch: Patch) -> None:
    right = gpt2.GPT2.__init__

    def wrong(self: gpt2.GPT2, config: Any) -> None:
        right(self, config)
        self.norm.forward = lambda x: x  # type: ignore[method-assign]

    patch.setattr(gpt2.GPT2, "__init__", wrong)


@mistake("residual around the feed-forward forgotten", "llama")
def _(patch: Patch) -> None:
    def wrong(self: llama.LlamaBlock, x: Tensor, *, mask: Any, rotate: Any, cache: Any = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask=mask, rotate=rotate, cache=cache)
        return self.feed_forward(self.feed_forward_norm(x))

    patch.setattr(llama.LlamaBlock, "forward", wrong)


@mistake("exact GELU for the tanh one", "gpt2")
def _(patch: Patch) -> None:
    patch.setitem(activation.ACTIVATIONS, "gelu_tanh", F.gelu)


@mistake("quick GELU, x σ(1.702 x), for GELU", "gpt")
def _(patch: Patch) -> None:
    patch.setitem(activation.ACTIVATIONS, "gelu_tanh", lambda x: x * torch.sigmoid(1.702 * x))


@mistake("gate and up swapped", "llama")
def _(patch: Patch) -> None:
    patch.setattr(
        feed_forward.GatedFeedForward, "forward", lambda self, x: self.down(self.activation(self.up(x)) * self.gate(x))
    )


@mistake("square weights transposed", "gpt2")
def _(patch: Patch) -> None:
    right = linear.Linear.forward

    def wrong(self: linear.Linear, x: Tensor) -> Tensor:
        rows, columns = self.weight.shape
        return F.linear(x, self.weight.T, self.bias) if rows == columns else right(self, x)

    patch.setattr(linear.Linear, "forward", wrong)


@mistake("biases left out", "llama-grouped-biased")
def _(patch: Patch) -> None:
    patch.setattr(linear.Linear, "forward", lambda self, x: F.linear(x, self.weight))


@mistake("query, key and value split in another order", "gpt2")
def _(patch: Patch) -> None:
    right = gpt2.table

    def wrong(config: Any) -> Any:
        rows = dict(right(config))
        name = "[transformer.]h.*.attn.c_attn"
        rows[name] = gpt2.Split("blocks.*.attention.{query,value,key}", transpose=True)
        return rows

    patch.setattr(gpt2.GPT2, "table", staticmethod(wrong))


# -- embedding, head, loss ---------------------------------------------------------------------------------------------


@mistake("embedding scaled by √d", "gpt2")
def _(patch: Patch) -> None:
    right = embedding.Embedding.forward
    patch.setattr(embedding.Embedding, "forward", lambda self, ids: right(self, ids) * self.weight.shape[1] ** 0.5)


@mistake("head not tied to the embedding", "llama-multi-query-tied")
def _(patch: Patch) -> None:
    right = linear.TiedLinear.__init__

    def wrong(self: linear.TiedLinear, table: embedding.Embedding, **options: Any) -> None:
        copy = embedding.Embedding(*table.weight.shape)
        right(self, copy, **options)

    patch.setattr(linear.TiedLinear, "__init__", wrong)


def _wrap_loss(patch: Patch, change: Callable[[Tensor], Tensor]) -> None:
    right = cross_entropy.reference
    wrong = lambda hidden, head, targets, **o: right(hidden, head, change(targets), **o)  # noqa: E731
    patch.setattr(language_model, "reference", wrong)
    patch.setitem(cross_entropy.CROSS_ENTROPY, "reference", wrong)


@mistake("labels not shifted", "gpt2")
def _(patch: Patch) -> None:
    _wrap_loss(patch, lambda targets: F.pad(targets[:, :-1], (1, 0), value=-100))


@mistake("labels shifted twice", "llama")
def _(patch: Patch) -> None:
    _wrap_loss(patch, lambda targets: F.pad(targets[:, 1:], (0, 1), value=-100))


@mistake("ignored labels counted in the mean", "gpt2")
def _(patch: Patch) -> None:
    right = cross_entropy.reference

    def wrong(hidden: Tensor, head: Any, targets: Tensor, **options: Any) -> Any:
        loss, logits = right(hidden, head, targets, **options)
        return loss * (targets != -100).sum() / targets.numel(), logits

    patch.setattr(language_model, "reference", wrong)
    patch.setitem(cross_entropy.CROSS_ENTROPY, "reference", wrong)


@mistake("mean of the rows' means instead of the tokens' mean", "llama")
def _(patch: Patch) -> None:
    right = cross_entropy.reference

    def wrong(hidden: Tensor, head: Any, targets: Tensor, **options: Any) -> Any:
        losses = [right(h, head, t, **options)[0] for h, t in zip(hidden, targets, strict=True)]
        return torch.stack(losses).mean(), head(hidden)

    patch.setattr(language_model, "reference", wrong)
    patch.setitem(cross_entropy.CROSS_ENTROPY, "reference", wrong)


@mistake("no counted label gives NaN", "gpt2")
def _(patch: Patch) -> None:
    def wrong(hidden: Tensor, head: Any, targets: Tensor, **options: Any) -> Any:
        logits = head(hidden)
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=-100), logits

    patch.setattr(language_model, "reference", wrong)
    patch.setitem(cross_entropy.CROSS_ENTROPY, "reference", wrong)
