"""How the tokens spread over the experts of a mixture, while it learns."""

from typing import Any

import torch
from torch import Tensor, nn

from glassformer.parts import MixtureOfExperts


class ExpertLoad:
    """Counts, in training, the tokens that each expert of each layer is sent; a call gives the shares since the last.

    Where the router sends tokens evenly, all shares are 1 / experts; a share near 0 is an expert that learns nothing.
    """

    def __init__(self, model: nn.Module) -> None:
        self.counts: dict[str, Tensor] = {}
        for name, layer in model.named_modules():
            if isinstance(layer, MixtureOfExperts):
                self.counts[name] = torch.zeros(len(layer.experts), dtype=torch.int64)
                layer.register_forward_hook(self.counter(name))

    def counter(self, layer_name: str) -> Any:
        """The hook of one layer."""

        def count(layer: nn.Module, inputs: Any, output: Any) -> None:
            if layer.training:
                counts = self.counts[layer_name]
                counts += torch.bincount(output[1].chosen.flatten(), minlength=len(counts)).cpu()

        return count

    def __call__(self) -> dict[str, list[float]]:
        """Layer -> the share of each expert."""
        shares = {name: (counts / counts.sum().clamp(min=1)).tolist() for name, counts in self.counts.items()}
        for counts in self.counts.values():
            counts.zero_()
        return shares
