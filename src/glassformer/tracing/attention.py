"""The attention pattern of every head of a built model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.parts import kernels
from glassformer.parts.kernels import ATTENTIONS


@contextmanager
def listening_to_attention(model: nn.Module) -> Iterator[dict[str, Float[Tensor, "b h t s"]]]:
    """While entered, what the model runs leaves softmax(q kᵀ · scale) of each attention layer, by the layer's name.

    They come in the order in which the layers ran, before dropout, and gradients flow through them. Fused kernels never
    form these weights, so all layers have the reference kernel meanwhile. Raises ValueError for a model that has no
    attention.
    """
    seen: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, ATTENTIONS)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no attention layer to look into")

    def tap(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _inputs, weights: seen.update({name: weights})

    handles = [layer.weights.register_forward_hook(tap(name)) for name, layer in layers.items()]
    try:
        with kernels(model, attend="reference"):
            yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def attention_weights(model: nn.Module, *inputs: Tensor, **options: Any) -> dict[str, Float[Tensor, "b h t s"]]:
    """softmax(q kᵀ · scale) of each attention layer, by the layer's name, in the order in which they ran.

    The model runs once on `inputs`, in evaluation mode and with the reference kernel; both are put back afterwards.
    Text encoders lay padded rows behind one another: `dense=True` keeps them apart.
    Raises ValueError for a model that has no attention.
    """
    was_training = model.training
    try:
        with listening_to_attention(model) as seen:
            model.eval()(*inputs, **options)
    finally:
        model.train(was_training)
    return seen
