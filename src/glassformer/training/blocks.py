"""What is done to a built model's blocks from outside: recomputing activations, starting as the identity."""

from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Model = TypeVar("Model", bound=nn.Module)


def blocks_of(model: nn.Module) -> list[Any]:
    """The model's blocks, those of an encoder and of a decoder too. Raises ValueError where it has none."""
    lists = [module for name, module in model.named_modules() if name.rpartition(".")[2] == "blocks"]
    blocks = [block for each in lists if isinstance(each, nn.ModuleList) for block in each]
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no blocks")
    return blocks


def checkpoint_activations(model: Model) -> Model:
    """From now on, in training, each block keeps its input only and is computed again in the backward pass.

    About a third more arithmetic for the memory of one block instead of all (Chen et al. 2016, section 4). Gradients
    are the same to the bit, with dropout too: the generator is set back for the second computation.
    """
    for block in blocks_of(model):
        block.forward = partial(recomputed, block, block.forward)
    return model


def recomputed(block: nn.Module, forward: Any, *inputs: Any, **options: Any) -> Any:
    """The block's forward pass, recomputed in the backward where there is one to come."""
    if block.training and torch.is_grad_enabled() and options.get("cache") is None:
        return checkpoint(forward, *inputs, use_reentrant=False, **options)
    return forward(*inputs, **options)


@torch.no_grad()
def zero_residuals(model: Model) -> Model:
    """Set what each block adds to 0, by its output projections, so that the blocks start as the identity.

    With it gradients reach the first block undamped at the first step, and depth need not shrink the initial weights
    (Zhang et al. 2019, "Fixup", section 3; Bachlechner et al. 2020, "ReZero").
    """
    for block in blocks_of(model):
        across = [block.cross_attention.output] if hasattr(block, "cross_attention") else []
        for layer in (block.attention.output, *across, block.feed_forward.down):
            for parameter in layer.parameters():
                parameter.zero_()
    return model
