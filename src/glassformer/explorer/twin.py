"""The same weights in both libraries: does the model in PyTorch compute what NumPy computes by hand?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from torch import Tensor

from glassformer.by_hand import GPT2 as GPT2ByHand
from glassformer.by_hand import GPT2Config as GPT2ConfigByHand
from glassformer.by_hand import cross_entropy
from glassformer.models.gpt2 import GPT2


@dataclass(frozen=True, kw_only=True)
class TwinDifference:
    """The largest differences in float64, each divided by the largest value it is compared with."""

    logits: float
    loss: float
    gradients: float
    parameters: int

    @property
    def largest(self) -> float:
        """Of all."""
        return max(self.logits, self.loss, self.gradients)


def compare_with_by_hand(model: GPT2, input_ids: Int[Tensor, "b t"], targets: Int[Tensor, "b t"]) -> TwinDifference:
    """Logits, loss and every gradient of a GPT-2 and of its NumPy twin, on one batch, without dropout.

    Key biases have no gradient but rounding (softmax ignores what is common to all keys): theirs is measured against
    the query biases'.
    """
    by_hand = GPT2ByHand(GPT2ConfigByHand(**vars(model.config)), seed=None).astype(np.float64).eval()
    by_hand.load_state_dict({name: tensor.double().cpu().numpy() for name, tensor in model.state_dict().items()})
    logits = by_hand(input_ids.numpy())
    loss, d_logits = cross_entropy(logits, targets.numpy())
    by_hand.backward(d_logits)

    twin = GPT2(model.config).double().eval()
    twin.load_state_dict(model.state_dict())
    out = twin(input_ids, targets=targets)
    assert out.loss is not None
    assert out.logits is not None
    out.loss.backward()

    gradients = {n: p.grad.numpy() for n, p in twin.named_parameters() if p.grad is not None}
    worst = 0.0
    for name, parameter in by_hand.named_parameters():
        scale = max(_largest(gradients[name]), _largest(gradients[name.replace(".key.bias", ".query.bias")]))
        worst = max(worst, _largest(parameter.grad - gradients[name]) / scale)
    expected = out.logits.detach().numpy()
    return TwinDifference(
        logits=_largest(logits - expected) / _largest(expected),
        loss=abs(loss - out.loss.item()) / abs(out.loss.item()),
        gradients=worst,
        parameters=model.num_parameters,
    )


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())
