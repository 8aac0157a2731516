"""The attention pattern of every head of a built model."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.parts import Attention, LatentAttention, kernels


@torch.no_grad()
def attention_weights(model: nn.Module, input_ids: Int[Tensor, "b t"]) -> dict[str, Float[Tensor, "b h t s"]]:
    """softmax(q kᵀ · scale) of each attention layer, by the layer's name, in the order in which they ran.

    Fused kernels never form these weights, so the model runs once with the reference kernel, which does, in evaluation
    mode; both are put back afterwards. Raises ValueError for a model that has no attention.
    """
    seen: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, Attention | LatentAttention)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no attention layer to look into")

    def tap(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _inputs, weights: seen.update({name: weights})

    handles = [layer.weights.register_forward_hook(tap(name)) for name, layer in layers.items()]
    was_training = model.training
    try:
        with kernels(model.eval(), attend="reference"):
            model(input_ids)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return seen
