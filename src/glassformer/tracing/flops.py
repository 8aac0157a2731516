"""FLOPs of matrix products, by operator: a multiplication and an addition for each pair of numbers that meet.

An (m, k) by (k, n) product has 2·m·n·k. What is not a product (norms, activations, softmax, sums) counts as 0, as in
published figures of models' FLOPs and in `torch.utils.flop_counter`: it is bound by memory, and its bytes say more.

Where PyTorch's `FlopCounterMode` says something else:

    mkldnn::_linear_pointwise    It counts 0, since the operator is not in its table. The product is made: we count it.
    fused attention on a CPU     It counts 0 for `aten::_scaled_dot_product_flash_attention_for_cpu`, for the same
                                 reason; two products are made.
    attention with is_causal     It counts every pair of query and key, 4·b·h·t·s·k. The kernels skip the keys that come
                                 after a block of queries; we count the pairs that are visible, t·(t + 1)/2 of t². What
                                 a kernel does lies between the two, nearer ours the more blocks there are.
    integer and int4 products    It counts 0 for the packed ones; we count them as any product.
    nn.Transformer's fast path   `aten::_transformer_encoder_layer_fwd` is one operator that it does not know.

With a mask handed over as a tensor both count all pairs: the kernel does compute those.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor

Arguments = Mapping[str, Any]


def _product(first: str, second: str) -> Callable[[Arguments, Any], int]:
    """(…, m, k) by (…, k, n)."""
    return lambda a, _: 2 * prod(a[first].shape) * a[second].shape[-1]


def _vector(first: str, _second: str) -> Callable[[Arguments, Any], int]:
    return lambda a, _: 2 * prod(a[first].shape)


def _linear(x: str, weight: str) -> Callable[[Arguments, Any], int]:
    """(…, i) by a weight (o, i)."""
    return lambda a, _: 2 * prod(a[x].shape) * a[weight].shape[0]


def _by_output(x: str) -> Callable[[Arguments, Any], int]:
    """(…, i) by a packed weight, whose shape does not say its sizes: the output (…, o) does."""
    return lambda a, out: 2 * prod(a[x].shape) * out.shape[-1]


def visible_pairs(t: int, s: int, is_causal: bool) -> int:
    """Pairs of query and key that meet; `is_causal` lets query i see the keys 0 … i."""
    if not is_causal:
        return t * s
    full = max(t - s, 0)  # queries past the last key see all of them
    return (t - full) * (t - full + 1) // 2 + full * s


def _attention(of_keys: int, of_values: int) -> Callable[[Arguments, Any], int]:
    """So many products with the width of keys, and of values, for each pair that meets.

    Forward: q kᵀ; weights·v. Backward: the scores again, dQ, dK; dV and the weights' gradient.
    """

    def count(a: Arguments, _: Any) -> int:
        q, k, v = a["query"].shape, a["key"].shape, a["value"].shape
        pairs = prod(q[:-2]) * visible_pairs(q[-2], k[-2], bool(a.get("is_causal")))
        return 2 * pairs * (of_keys * k[-1] + of_values * v[-1])

    return count


def _convolution(a: Arguments, out: Any) -> int:
    """Each output element (an input element, where transposed) meets its window in the channels of its group."""
    met = a["input"] if a.get("transposed") else out
    return 2 * prod(met.shape) * prod(a["weight"].shape[1:])


def _convolution_backward(a: Arguments, _: Any) -> int:
    met = a["input"] if a.get("transposed") else a["grad_output"]
    return 2 * prod(met.shape) * prod(a["weight"].shape[1:]) * sum(bool(need) for need in a["output_mask"][:2])


def _encoder_layer(a: Arguments, _: Any) -> int:
    """nn.TransformerEncoderLayer in one operator: attention, and the feed-forward layer."""
    lengths = _lengths(a["src"])
    return _attended(lengths, lengths, a["embed_dim"]) + 4 * sum(lengths) * a["embed_dim"] * a["ffn_weight_1"].shape[0]


def _attention_block(a: Arguments, _: Any) -> int:
    """nn.MultiheadAttention in one operator."""
    return _attended(_lengths(a["query"]), _lengths(a["key"]), a["embed_dim"])


def _attended(queries: Sequence[int], keys: Sequence[int], dim: int) -> int:
    """Projections of queries and outputs, of keys and values, and all pairs of a row's queries and keys."""
    return sum(4 * (t + s) * dim * dim + 4 * t * s * dim for t, s in zip(queries, keys, strict=True))


def _lengths(x: Tensor) -> list[int]:
    """How long each row is; a nested tensor, which leaves padding out, has rows of unequal lengths."""
    return x._nested_tensor_size()[:, 0].tolist() if x.is_nested else [x.shape[-2]] * prod(x.shape[:-2])


_FUSED = ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention",
          "fused_attention_overrideable")  # fmt: skip

FUSED_ATTENTION = frozenset(f"aten::_scaled_dot_product_{name}" for name in _FUSED)
"""Operators that never form the attention weights."""

FLOPS: dict[str, Callable[[Arguments, Any], int]] = {
    "aten::mm": _product("self", "mat2"),
    "aten::bmm": _product("self", "mat2"),
    "aten::_int_mm": _product("self", "mat2"),
    "aten::addmm": _product("mat1", "mat2"),
    "aten::_addmm_activation": _product("mat1", "mat2"),
    "aten::addmm_": _product("mat1", "mat2"),
    "aten::baddbmm": _product("batch1", "batch2"),
    "aten::baddbmm_": _product("batch1", "batch2"),
    "aten::addbmm": _product("batch1", "batch2"),
    "aten::_scaled_mm": _product("self", "mat2"),
    "aten::mv": _vector("self", "vec"),
    "aten::addmv": _vector("mat", "vec"),
    "aten::dot": _vector("self", "tensor"),
    "aten::vdot": _vector("self", "other"),
    "aten::linear": _linear("input", "weight"),
    "aten::mkldnn_linear": _linear("self", "weight"),
    "mkldnn::_linear_pointwise": _by_output("X"),
    "mkl::_mkl_linear": _by_output("X"),
    "onednn::qlinear_pointwise": _by_output("qx"),
    "aten::_weight_int4pack_mm": _by_output("self"),
    "aten::_weight_int4pack_mm_for_cpu": _by_output("self"),
    "aten::_weight_int8pack_mm": _by_output("self"),
    "aten::_dyn_quant_matmul_4bit": _by_output("inp"),
    "aten::_grouped_mm": _by_output("self"),
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::mkldnn_convolution": lambda a, out: 2 * prod(out.shape) * prod(a["weight"].shape[1:]),
    "mkldnn::_convolution_pointwise": lambda a, out: 2 * prod(out.shape) * prod(a["weight"].shape[1:]),
    "aten::convolution_backward": _convolution_backward,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    "aten::_native_multi_head_attention": _attention_block,
    **{name: _attention(1, 1) for name in FUSED_ATTENTION},
    **{f"{name}_backward": _attention(3, 2) for name in FUSED_ATTENTION},
}


def flops_of(name: str, arguments: Arguments, out: Any) -> int:
    """FLOPs of one call of the operator `name`, as in `aten::mm`, whose arguments are given by their schema's names."""
    formula = FLOPS.get(name)
    first = out[0] if isinstance(out, tuple | list) and out and isinstance(out[0], Tensor) else out
    return 0 if formula is None else formula(arguments, first)
