"""Choose the kernels of a built model: each layer holds its own; these functions set them from outside."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from glassformer.foundation.suggest import did_you_mean
from glassformer.ops.attend import ATTEND
from glassformer.ops.attend_flex import check_flex, flex
from glassformer.ops.cross_entropy import CROSS_ENTROPY
from glassformer.ops.linear import LINEAR
from glassformer.parts.attention import Attention
from glassformer.parts.conditional_attention import ConditionalAttention, PlacedAttention
from glassformer.parts.latent_attention import LatentAttention
from glassformer.parts.linear import Linear, TiedLinear

Model = TypeVar("Model", bound=nn.Module)
ATTENTIONS = Attention | LatentAttention | ConditionalAttention | PlacedAttention


def use_kernels(
    model: Model, *, attend: str | None = None, linear: str | None = None, cross_entropy: str | None = None
) -> Model:
    """Set the named kernel on every layer that holds one of its kind; what is None stays as it is.

    Raises ValueError on an unknown name, and where the model has no layer of that kind.
    """
    # Everything is looked up before anything is set: a refusal leaves the model as it was.
    settings: list[tuple[nn.Module, str, Callable[[], Any]]] = []
    if attend is not None:
        chosen = _named(ATTEND, attend, "attend")
        settings += [(layer, "kernel", lambda: chosen) for layer in _layers(model, ATTENTIONS, "attention")]
    if linear is not None:
        make_kernel = _named(LINEAR, linear, "linear")  # each layer has its own
        settings += [(layer, "kernel", make_kernel) for layer in _layers(model, Linear | TiedLinear, "linear")]
    if cross_entropy is not None:
        loss = _named(CROSS_ENTROPY, cross_entropy, "cross_entropy")
        if not hasattr(model, "cross_entropy"):
            raise ValueError(
                f"{type(model).__name__} computes no cross-entropy; cross_entropy={cross_entropy!r} has no place"
            )
        settings.append((model, "cross_entropy", lambda: loss))
    for layer, attribute, make in settings:
        setattr(layer, attribute, make())
    return model


@contextmanager
def kernels(
    model: Model, *, attend: str | None = None, linear: str | None = None, cross_entropy: str | None = None
) -> Iterator[Model]:
    """`use_kernels` for the enclosed code; what was there before comes back after it."""
    held = [(layer, name, getattr(layer, name)) for layer in model.modules() for name in ("kernel", "cross_entropy")
            if hasattr(layer, name)]  # fmt: skip
    try:
        yield use_kernels(model, attend=attend, linear=linear, cross_entropy=cross_entropy)
    finally:
        for layer, name, kernel in held:
            setattr(layer, name, kernel)


def check_learning(model: nn.Module, device: torch.device) -> None:
    """Raise ValueError, before any step, where an attention layer has a kernel by which it cannot learn there.

    What a layer reads has gradients where it, or anything before it, has a parameter that learns.
    """
    learns = False
    for name, layer in model.named_modules():
        learns = learns or any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
        if isinstance(layer, ATTENTIONS) and layer.kernel is flex:
            own = any(parameter.requires_grad for parameter in layer.parameters())
            try:
                check_flex(device, dropout=layer.dropout, learns=learns or own)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error


def _named(table: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in table:
        raise ValueError(f"unknown {kind} kernel {name!r}{did_you_mean(name, table)}")
    return table[name]


def _layers(model: nn.Module, kind: Any, word: str) -> list[nn.Module]:
    layers = [layer for layer in model.modules() if isinstance(layer, kind)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no {word} layer to give a kernel to")
    return layers
