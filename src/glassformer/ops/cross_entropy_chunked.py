"""Head and cross-entropy together, some rows at a time: the (rows × vocabulary) logits are never whole.

With p = softmax(z), z = h Wᵀ + c for one row, and δ the target as a one-hot vector, the loss's gradients are

    dz = p − δ        dh = dz W        dW = Σ dzᵀ h        dc = Σ dz

and need nothing that comes later but the one number that the loss itself is multiplied by. So each chunk's logits
become its dz in place, go into the gradients, and are written over by the next chunk's, all in the forward pass (the
order of work of Hsu et al. 2024, Liger Kernel, section 3.2).
"""

from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from glassformer.ops.linear_onednn import traced
from glassformer.ops.linear_quantized import Inference
from glassformer.ops.machine import products_by_onednn

IGNORE = -100
CHUNK_BYTES = 64 * 2**20  # of logits held at a time, in float32


def chunked(
    hidden: Float[Tensor, "*rows d"], head: nn.Module, targets: Int[Tensor, "*rows"], *, ignore_index: int = IGNORE
) -> tuple[Float[Tensor, ""], None]:
    """The mean loss by chunks of rows; its gradients are computed with it. Honours autocast.

    On a CPU, rows that are not counted are left out: six of seven, where a model learns from masked tokens.

    Raises ValueError for a head that is more than h Wᵀ + c. Gradients of gradients are not defined, nor is a second
    backward pass through the same loss.
    """
    weight, bias = _plain(head)
    if weight.shape[1] != hidden.shape[-1]:
        raise ValueError(f"hidden states {hidden.shape[-1]} wide meet a head for {weight.shape[1]}")
    counted = checked(targets, (*hidden.shape[:-1], weight.shape[0]), ignore_index).flatten()
    rows, targets = hidden.flatten(0, -2), targets.flatten().masked_fill(~counted, 0)
    if (chosen := _few(counted)) is not None:
        rows, targets, counted = rows[chosen], targets[chosen], counted[chosen]
    learns = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (hidden, weight, bias))
    dtype = rows.dtype
    if torch.is_autocast_enabled(rows.device.type) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(rows.device.type)
    with torch.autocast(rows.device.type, enabled=False):
        return _Chunked.apply(rows, weight, bias, targets, counted, dtype, learns), None


def _few(counted: Bool[Tensor, "n"]) -> Int[Tensor, "_"] | None:
    """Which rows count, where they are some, nine of ten at most, and may be looked at."""
    if counted.device.type != "cpu" or traced():
        return None
    chosen = counted.nonzero()[:, 0]
    return chosen if 0 < len(chosen) <= 0.9 * len(counted) else None


def checked(targets: Tensor, logits_shape: tuple[int, ...], ignore_index: int) -> Bool[Tensor, "*rows"]:
    """Which targets are counted. Raises ValueError or TypeError where they cannot be targets of such logits."""
    *rows, vocab_size = logits_shape
    if list(targets.shape) != rows:
        raise ValueError(f"targets of shape {tuple(targets.shape)} meet logits of shape {tuple(logits_shape)}")
    if targets.dtype != torch.int64:
        raise TypeError(f"targets have dtype {targets.dtype}; expected torch.int64 token ids")
    counted = targets != ignore_index
    if targets.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = counted & ((targets < 0) | (targets >= vocab_size))
        if wrong.any():
            raise ValueError(f"target {int(targets[wrong][0])} is outside the vocabulary of {vocab_size} ids, and not "
                             f"ignore_index={ignore_index}")  # fmt: skip
    return counted


def _plain(head: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a head that is h Wᵀ + c and nothing more. Raises ValueError for others."""
    name, kernel = type(head).__name__, getattr(head, "kernel", None)
    hooks = head._forward_hooks or head._forward_pre_hooks or head._backward_hooks or head._backward_pre_hooks
    if (type(head) is not nn.Linear and kernel is None) or any(head.children()):
        raise ValueError(f"the chunked cross-entropy needs a plain linear head; {name} may do more: use 'reference'")
    if hooks:
        raise ValueError("the head has hooks, which the chunked cross-entropy would pass by; use 'reference'")
    if isinstance(kernel, Inference):
        raise ValueError(f"the head's kernel {type(kernel).__name__} rounds its weight; use cross-entropy 'reference'")
    weight, bias = head.weight, head.bias
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor | None):
        raise TypeError(f"the head {name} has a {type(weight).__name__} for its weight; expected tensors")
    return weight, bias


class _Chunked(Function):
    """The loss, and under way the gradients of its sum; the backward pass multiplies them by what is above."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, counted: Tensor,
        dtype: torch.dtype, learns: bool,
    ) -> Tensor:  # fmt: skip
        wide = torch.promote_types(dtype, torch.float32)
        need = [learns and needed for needed in ctx.needs_input_grad[:3]]
        w, c = weight.to(dtype), None if bias is None else bias.to(wide)
        d_rows = torch.empty_like(rows) if need[0] else None
        d_weight = torch.zeros_like(weight, dtype=wide) if need[1] else None
        d_bias = torch.zeros_like(c) if need[2] and c is not None else None
        total = rows.new_zeros((), dtype=wide)
        size = min(max(1, CHUNK_BYTES // (4 * weight.shape[0])), rows.shape[0])
        held = rows.new_empty((size, weight.shape[0]), dtype=dtype)  # one chunk's logits, then its dz
        with nullcontext() if traced() or rows.device.type != "cpu" else products_by_onednn():
            for start in range(0, rows.shape[0], size):
                part = slice(start, start + size)
                h, is_counted = rows[part].to(dtype), counted[part, None]
                logits = torch.mm(h, w.mT, out=held[: len(h)])
                z = logits.to(wide)  # itself where the dtypes are one
                if c is not None:
                    z += c
                total += (_losses_then_dz(z, targets[part, None]) * is_counted).sum()
                if not any(need):
                    continue
                dz = logits.copy_(z.mul_(is_counted))
                if d_rows is not None:
                    d_rows[part] = dz @ w
                if d_weight is not None:
                    _add_product(d_weight, dz.mT, h)
                if d_bias is not None:
                    d_bias += z.sum(0)
        ctx.gradients, ctx.count = (d_rows, d_weight, d_bias), counted.sum().clamp(min=1)
        ctx.dtypes = rows.dtype, weight.dtype, None if bias is None else bias.dtype
        return total / ctx.count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.gradients is None:
            raise RuntimeError("a second backward pass through the chunked cross-entropy; compute the loss anew")
        gradients, ctx.gradients = ctx.gradients, None
        pairs = zip(gradients, ctx.dtypes, strict=True)
        scaled = (None if x is None else x.mul_(d_loss / ctx.count).to(dtype) for x, dtype in pairs)
        return *scaled, None, None, None, None


def _losses_then_dz(z: Float[Tensor, "n v"], target: Int[Tensor, "n 1"]) -> Float[Tensor, "n 1"]:
    """logsumexp(z) − z[target] for each row; `z` itself becomes softmax(z) − δ."""
    largest, chosen = z.amax(-1, keepdim=True), z.gather(-1, target)
    p = torch.softmax(z, -1, out=z)
    # The largest probability is exp(largest − logsumexp), and never too small for its logarithm.
    losses = largest - p.amax(-1, keepdim=True).log() - chosen
    p.scatter_add_(-1, target, torch.full_like(chosen, -1.0))
    return losses


def _add_product(total: Tensor, x: Tensor, y: Tensor) -> None:
    """total += x @ y, without a second array where the dtypes are one."""
    if total.dtype == x.dtype:
        total.addmm_(x, y)
    else:
        total += x @ y
