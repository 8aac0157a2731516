"""Cross-entropy of the next token, and its gradient.

loss = mean over counted places of  log Σ exp(z) − z[target]
dz   = (softmax(z) − onehot(target)) / number counted
"""

import numpy as np
from numpy import ndarray as Array

IGNORE = -100


def cross_entropy(logits: Array, targets: Array, *, ignore_index: int = IGNORE) -> tuple[float, Array]:
    """The mean loss in nats, and its gradient in the logits (..., v), which have the shape of targets (...) and v.

    A place whose target is `ignore_index` is not counted; where none is counted, loss and gradient are 0.
    """
    if logits.shape[:-1] != targets.shape:
        raise ValueError(f"targets have shape {targets.shape}; the logits {logits.shape} ask for {logits.shape[:-1]}")
    counted = targets.ravel() != ignore_index
    places, chosen = np.flatnonzero(counted), targets.ravel()[counted]
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < logits.shape[-1]:
        wrong = chosen[(chosen < 0) | (chosen >= logits.shape[-1])][0]
        raise ValueError(f"targets hold {wrong}; the vocabulary has {logits.shape[-1]} ids, from 0")
    count = max(len(chosen), 1)
    z = logits.reshape(-1, logits.shape[-1])
    z = z - z.max(-1, keepdims=True)
    right = z[places, chosen]
    np.exp(z, out=z)
    total = z.sum(-1, keepdims=True)
    loss = float((np.log(total[places, 0]) - right).sum(dtype=np.float64) / count)
    z *= counted[:, None] / (total * count)
    z[places, chosen] -= 1 / count
    return loss, z.reshape(logits.shape)
