"""The linear layer, y = x Wᵀ + b, which holds the kernel that computes it."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules import module

from glassformer.ops.linear import LinearKernel, linear_kernel
from glassformer.ops.linear_onednn import Affine, asks_for_gradients, traced, working_dtype
from glassformer.parts.activation import ACTIVATIONS, Activation
from glassformer.parts.dropout import Dropout
from glassformer.parts.embedding import Embedding


class Linear(nn.Module):
    """y = x Wᵀ + b, with W of shape (out_dim, in_dim).

    The kernel decides how the product is computed, never what: the state dict is always the plain weight and bias.
    """

    def __init__(self, in_dim: int, out_dim: int, *, bias: bool = True, kernel: LinearKernel | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim))
        self.bias = nn.Parameter(torch.empty(out_dim)) if bias else None
        self.kernel = kernel or linear_kernel("measured")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W from N(0, 0.02²), set b to 0 (Radford et al. 2018, section 4.1)."""
        nn.init.normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "*rows i"]) -> Float[Tensor, "*rows o"]:
        return self.kernel(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        out_dim, in_dim = self.weight.shape
        return f"{in_dim}, {out_dim}, bias={self.bias is not None}"


class TiedLinear(nn.Module):
    """y = x Eᵀ, with the weight of an embedding (Press & Wolf 2017); a bias, where there is one, is its own.

    It does not own the weight: the embedding is the only place that lives, so nothing can untie the two.
    """

    def __init__(self, embedding: Embedding, *, bias: bool = False, kernel: LinearKernel | None = None) -> None:
        super().__init__()
        self._embedding = (embedding,)  # in a tuple, so that it is not a second child with the same parameter
        self.bias = nn.Parameter(torch.zeros(embedding.weight.shape[0])) if bias else None
        self.kernel = kernel or linear_kernel("measured")

    @property
    def weight(self) -> nn.Parameter:
        return self._embedding[0].weight

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows v"]:
        return self.kernel(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        vocab_size, dim = self.weight.shape
        return f"{dim}, {vocab_size}, tied, bias={self.bias is not None}"


def together(layers: Sequence[nn.Module], x: Float[Tensor, "*rows i"]) -> tuple[Float[Tensor, "*rows _"], ...]:
    """What each layer makes of the same x: as one product where their kernel can.

    One product is quicker than three. A layer that was replaced, or that somebody listens to, is called as it is.
    """
    kernel = getattr(layers[0], "kernel", None)
    product: Any = getattr(kernel, "together", None)
    for layer in layers:
        plain = isinstance(layer, Linear) and type(layer.kernel) is type(kernel)
        if product is None or not plain or listened(layer):
            return tuple(layer(x) for layer in layers)
    return product(x, [layer.weight for layer in layers], [layer.bias for layer in layers])


def activated(layer: nn.Module, activation: Activation, x: Float[Tensor, "*rows i"]) -> Float[Tensor, "*rows o"]:
    """activation(layer(x)): in one pass over memory where the layer's kernel can.

    A layer that was replaced, or that somebody listens to, is called as it is.
    """
    product: Any = getattr(getattr(layer, "kernel", None), "activated", None)
    if product is not None and isinstance(layer, Linear) and activation in _NAMES and not listened(layer):
        y = product(x, layer.weight, layer.bias, _NAMES[activation])
        if y is not None:
            return y
    return activation(layer(x))


def largest(layer: object, x: Float[Tensor, "b i"]) -> Int[Tensor, "b"] | None:
    """The place of each row's largest number in layer(x), of equals the first, where that is found without all of them.

    None where it is not: the layer was replaced, somebody listens to it, or its kernel has no such way.
    """
    if not isinstance(layer, (Linear, TiedLinear)) or listened(layer):
        return None
    find: Any = getattr(layer.kernel, "largest", None)
    return None if find is None else find(x, layer.weight, layer.bias)


def learning(layers: Sequence[nn.Module], x: Float[Tensor, "*rows i"]) -> tuple[torch.dtype, list[Affine]] | None:
    """The dtype in which layers, and what is between them, learn as one (`ops/sublayers.py`), and what they hold.

    None in traced code, without gradients, where a layer was replaced or somebody listens to it, and where its kernel
    would not choose oneDNN. Between products this look at everything costs as much as the smallest of them: parameters
    are taken from where a module keeps them.
    """
    if not torch.is_grad_enabled() or traced():
        return None
    kernel, weights, affines = getattr(layers[0], "kernel", None), [], []
    for layer in layers:
        if not isinstance(layer, Linear) or type(layer.kernel) is not type(kernel) or listened(layer):
            return None
        weight = layer._parameters.get("weight")
        if weight is None:  # torch.nn.utils.parametrize computes it
            return None
        weights.append(weight)
        affines.append(Affine(weight, layer._parameters.get("bias")))
    learns_from: Any = getattr(kernel, "learns_from", None)
    if learns_from is None or x.numel() * weights[0].shape[0] < learns_from():
        return None
    if not x.requires_grad and not asks_for_gradients(*(each for affine in affines for each in affine)):
        return None
    dtype = working_dtype(x, *weights)
    return None if dtype is None else (dtype, affines)


def passes(*layers: nn.Module) -> bool:
    """Whether layers give what they are given, and nobody listens: identities, or dropouts that drop nothing."""
    for layer in layers:
        kind = type(layer)
        if listened(layer) or not (kind is nn.Identity or (kind is Dropout and not (layer.training and layer.p))):
            return False
    return True


def listened(layer: nn.Module) -> bool:
    """Whether a hook, its own or one for all modules, waits for the layer to be called."""
    own = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    return bool(own or module._has_any_global_hook())


_NAMES = {function: name for name, function in ACTIVATIONS.items()}
