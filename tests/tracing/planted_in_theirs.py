"""Mistakes to plant in Hugging Face's models, as a port or a patch of them might have."""

from typing import Any

import torch
import torch.nn.functional as F
from planted_differences import Patch, change, exchange, fresh, mistake, rms
from torch import Tensor, nn

# -- parameters --------------------------------------------------------------------------------------------------------


@mistake("weight transposed", "llama", "theirs", "model.layers.1.self_attn.q_proj", "transposed weight")
def _(_: Patch, model: Any) -> None:
    change(model, "model.layers.1.self_attn.q_proj.weight", lambda w: w.T)


@mistake("fused bias not loaded", "gpt2", "theirs", "transformer.h.0.attn.c_attn", "missing bias")
def _(_: Patch, model: Any) -> None:
    change(model, "transformer.h.0.attn.c_attn.bias", torch.zeros_like)


@mistake("weight not loaded", "bert", "theirs", "bert.encoder.layer.1.intermediate.dense", "unloaded weight")
def _(_: Patch, model: Any) -> None:
    change(model, "bert.encoder.layer.1.intermediate.dense.weight", fresh)


@mistake("gate's and up's weights swapped", "llama", "theirs", "model.layers.1.mlp.gate_proj", "swapped weights")
def _(_: Patch, model: Any) -> None:
    exchange(model, "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj")


@mistake(
    "key's and value's weights swapped", "bert", "theirs", "bert.encoder.layer.0.attention.self.key", "swapped weights"
)
def _(_: Patch, model: Any) -> None:
    here = "bert.encoder.layer.0.attention.self"
    exchange(model, f"{here}.key", f"{here}.value")


@mistake("norm's bias not loaded", "bert", "theirs", "bert.encoder.layer.1.attention.output.LayerNorm", "missing bias")
def _(_: Patch, model: Any) -> None:
    change(model, "bert.encoder.layer.1.attention.output.LayerNorm.bias", torch.zeros_like)


@mistake("head not tied", "llama-multi-query-tied", "theirs", "lm_head", "untied head")
def _(_: Patch, model: Any) -> None:
    model.lm_head.weight = nn.Parameter(fresh(model.lm_head.weight))


# -- computations ------------------------------------------------------------------------------------------------------


@mistake("ε of RMSNorm", "llama", "theirs", "model.layers.0.input_layernorm", "eps")
def _(_: Patch, model: Any) -> None:
    model.model.layers[0].input_layernorm.variance_epsilon = 1e-3


@mistake("gain 1 + w", "llama", "theirs", "model.layers.1.post_attention_layernorm", "norm gain")
def _(_: Patch, model: Any) -> None:
    norm = model.model.layers[1].post_attention_layernorm
    norm.forward = lambda x: rms(x, norm.variance_epsilon) * (1 + norm.weight)


@mistake("last norm forgotten", "llama", "theirs", "model.norm", "missing norm")
def _(_: Patch, model: Any) -> None:
    model.model.norm = nn.Identity()


@mistake("ReLU for GELU", "gpt2", "theirs", "transformer.h.1.mlp.act", "activation")
def _(_: Patch, model: Any) -> None:
    model.transformer.h[1].mlp.act = nn.ReLU()


@mistake("GELU by tanh for the exact one", "bert", "theirs",
         "bert.encoder.layer.0.intermediate.intermediate_act_fn", "activation")  # fmt: skip
def _(_: Patch, model: Any) -> None:
    model.bert.encoder.layer[0].intermediate.intermediate_act_fn = nn.GELU(approximate="tanh")


@mistake("token types ignored", "bert", "theirs", "bert.embeddings.token_type_embeddings", "token types")
def _(_: Patch, model: Any) -> None:
    table = model.bert.embeddings.token_type_embeddings
    table.forward = lambda ids: F.embedding(torch.zeros_like(ids), table.weight)


@mistake("residual forgotten", "llama", "theirs", "model.layers.1", "residual")
def _(_: Patch, model: Any) -> None:
    layer = model.model.layers[1]

    def wrong(hidden_states: Tensor, **options: Any) -> Tensor:
        x, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **options)
        return layer.mlp(layer.post_attention_layernorm(x + hidden_states))

    layer.forward = wrong


@mistake("logits halved", "llama", "theirs", "lm_head", "scale")
def _(_: Patch, model: Any) -> None:
    head = model.lm_head
    head.forward = lambda x: 0.5 * F.linear(x, head.weight)


@mistake("left in training mode", "gpt2", "theirs", "transformer.drop", "dropout")
def _(_: Patch, model: Any) -> None:
    model.train()


# -- attention and positions -------------------------------------------------------------------------------------------


@mistake("scores not scaled", "llama", "theirs", "model.layers.1.self_attn", "attention scale")
def _(_: Patch, model: Any) -> None:
    model.model.layers[1].self_attn.scaling = 1.0


@mistake("scores not scaled, in an encoder", "bert", "theirs", "bert.encoder.layer.1.attention.self", "attention scale")
def _(_: Patch, model: Any) -> None:
    model.bert.encoder.layer[1].attention.self.scaling = 1.0


@mistake("rotary pairs interleaved", "llama", "theirs", "model.layers.0.self_attn", "rotation layout")
def _(patch: Patch, model: Any) -> None:
    from transformers.models.llama import modeling_llama

    right = modeling_llama.apply_rotary_pos_emb

    def wrong(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *rest: Any) -> Any:
        q, k = (torch.cat([x[..., 0::2], x[..., 1::2]], -1) for x in (q, k))
        return tuple(torch.stack(x.chunk(2, -1), -1).flatten(-2) for x in right(q, k, cos, sin, *rest))

    patch.setattr(modeling_llama, "apply_rotary_pos_emb", wrong)


@mistake("rotary base", "llama", "theirs", "model.layers.0.self_attn", "rotary base")
def _(_: Patch, model: Any) -> None:
    model.model.rotary_emb.inv_freq = 500.0 ** -(torch.arange(0, 8, 2) / 8)


@mistake("key heads tiled", "llama-grouped-biased", "theirs", "model.layers.0.self_attn", "key heads")
def _(patch: Patch, model: Any) -> None:
    from transformers.models.llama import modeling_llama

    model.set_attn_implementation("eager")
    patch.setattr(modeling_llama, "repeat_kv", lambda x, n: x.repeat(1, n, 1, 1))


@mistake("softmax in bfloat16", "llama", "theirs", "model.layers.0.self_attn", "precision")
def _(patch: Patch, model: Any) -> None:
    from transformers.models.llama import modeling_llama

    def wrong(module: Any, q: Tensor, k: Tensor, v: Tensor, visible: Any, **options: Any) -> Any:
        q, k, v = (x.bfloat16() for x in (q, k, v))
        visible = None if visible is None else visible.bfloat16()
        scores = (q @ k.mT) * options["scaling"] + (0 if visible is None else visible)
        return (scores.softmax(-1) @ v).float().transpose(1, 2).contiguous(), None

    model.set_attn_implementation("eager")
    patch.setattr(modeling_llama, "eager_attention_forward", wrong)


@mistake("no causal mask", "llama", "theirs", "model.layers.0.self_attn", "causal mask")
def _(patch: Patch, model: Any) -> None:
    from transformers.models.llama import modeling_llama

    model.set_attn_implementation("eager")
    patch.setattr(modeling_llama, "create_causal_mask", lambda *args, **options: None)


@mistake("window one too wide", "mistral", "theirs", "model.layers.0.self_attn", "window")
def _(_: Patch, model: Any) -> None:
    model.config.sliding_window += 1


@mistake("positions count the left padding", "gpt2", "theirs", "transformer", "positions",
         padded=True, without=("position_ids",))  # fmt: skip
def _(_: Patch, model: Any) -> None:
    """Their decoders do so unless they are given positions."""


@mistake("padding ignored", "llama", "theirs", "model.layers.0.self_attn", "padding mask",
         padded=True, without=("attention_mask",))  # fmt: skip
def _(_: Patch, model: Any) -> None:
    """The mask is not handed in."""
