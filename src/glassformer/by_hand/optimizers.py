"""Learning from gradients: AdamW, clipping, and a schedule of the learning rate."""

import math
from collections.abc import Sequence

import numpy as np

from glassformer.by_hand.parts.module import Parameter


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2). At step n, with the gradient g:

    p ← p − lr · λ · p
    m ← β₁ m + (1 − β₁) g            the gradient, averaged over the last steps
    v ← β₂ v + (1 − β₂) g²           its square, averaged
    p ← p − lr · m̂ / (√v̂ + ε),       m̂ = m / (1 − β₁ⁿ),  v̂ = v / (1 − β₂ⁿ): both began at 0, which this undoes
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        *,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        self.parameters = list(parameters)
        self.learning_rate, self.betas, self.eps, self.weight_decay = learning_rate, betas, eps, weight_decay
        self.mean = [np.zeros_like(parameter.data) for parameter in self.parameters]
        self.square = [np.zeros_like(parameter.data) for parameter in self.parameters]
        self.steps = 0

    def step(self) -> None:
        """Move every parameter by its gradient."""
        self.steps += 1
        beta1, beta2 = self.betas
        size = self.learning_rate / (1 - beta1**self.steps)
        root = math.sqrt(1 - beta2**self.steps)
        for parameter, mean, square in zip(self.parameters, self.mean, self.square, strict=True):
            gradient = parameter.grad
            mean *= beta1
            mean += (1 - beta1) * gradient
            square *= beta2
            work = gradient * gradient
            work *= 1 - beta2
            square += work
            np.sqrt(square, out=work)
            work /= root
            work += self.eps
            np.divide(mean, work, out=work)
            work *= size
            parameter.data *= 1 - self.learning_rate * self.weight_decay
            parameter.data -= work


def clip_gradients(parameters: Sequence[Parameter], max_norm: float) -> float:
    """Scale all gradients by max_norm / norm where their common norm √(Σ g²) is larger; return the norm before."""
    norm = math.sqrt(sum(float(np.vdot(p.grad, p.grad)) for p in parameters))
    if norm > max_norm:
        for parameter in parameters:
            parameter.grad *= max_norm / (norm + 1e-6)
    return norm


def cosine_schedule(step: int, *, peak: float, total_steps: int, warmup_steps: int = 0, floor: float = 0.0) -> float:
    """The learning rate of a step: up in a line over `warmup_steps`, then down half a cosine to `floor`.

    (Loshchilov & Hutter 2017, equation 5, without restarts.)
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * min(done, 1.0)))
