"""Attention weights from models that never form them: computed beside each fused call from what went into it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.tracing.flops import FUSED_ATTENTION
from glassformer.tracing.tree import ModuleCall, Operation

HEADS = ("num_heads", "num_attention_heads", "n_heads")
"""What modules call how many heads they have."""
SOFTMAX = frozenset(("aten::_softmax", "aten::_safe_softmax", "aten::softmax"))


class AttentionWeights:
    """Collects (b, h, t, s) weights by the path of the module that attends; the latest call of a module counts.

    Three sources, the later ones win: a fused operator's arguments, softmax(q kᵀ · scale + mask); a softmax over the
    last of four dimensions, or of three (batch and heads as one, as in nn.MultiheadAttention); and the taps `weights`
    of our own layers.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.found: dict[str, Tensor] = {}
        self._modules = modules

    def operation(self, operation: Operation, name: str, arguments: Mapping[str, Any], out: Any) -> None:
        """Look at an operator that ran in the forward pass."""
        if operation.is_backward:
            return
        if name in FUSED_ATTENTION:
            self.found[operation.module] = formed(arguments)
        elif name in SOFTMAX and isinstance(out, Tensor) and arguments.get("dim") in (-1, out.ndim - 1):
            weights = self._by_heads(operation.module, out)
            if weights is not None:
                self.found[operation.module] = weights.detach().clone()

    def module(self, call: ModuleCall, outputs: Sequence[Tensor]) -> None:
        """Look at what a module gave: a tap stands below the layer that attends."""
        if call.path.endswith(".weights") and call.kind == "Identity" and outputs:
            self.found[call.path.removesuffix(".weights")] = outputs[0].detach().clone()

    def _by_heads(self, path: str, weights: Tensor) -> Tensor | None:
        """(b, h, t, s), or None for a softmax over something else: deformable attention's is (b, t, h, points)."""
        named = (getattr(self._modules.get(path), name, None) for name in HEADS)
        heads = next((value for value in named if isinstance(value, int)), None)
        if weights.ndim == 4:
            return weights if heads in (None, weights.shape[1]) else None
        if weights.ndim == 3 and heads is not None and weights.shape[0] % heads == 0:
            return weights.unflatten(0, (-1, heads))
        return None


def formed(arguments: Mapping[str, Any]) -> Tensor:
    """softmax(q kᵀ · scale + mask) of a fused operator's arguments, in float32 at least, in the dtype of q."""
    q, k = arguments["query"].detach(), arguments["key"].detach()
    dtype = torch.promote_types(q.dtype, torch.float32)
    if q.shape[1] != k.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scale = arguments.get("scale")
    with torch.autocast(q.device.type, enabled=False):
        scores = q.to(dtype) @ k.to(dtype).mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    mask = arguments.get("attn_mask", arguments.get("attn_bias"))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else scores + mask
    if arguments.get("is_causal"):
        t, s = scores.shape[-2:]
        later = torch.ones(t, s, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(-1).nan_to_num(0.0).to(q.dtype)  # a row that sees nothing has weights 0
