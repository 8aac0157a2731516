"""From logits to a token: the most probable one, or one drawn."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def most_probable(logits: Float[Tensor, "b v"]) -> Int[Tensor, "b"]:
    """The id of each row's largest logit; of equals the smallest id. ValueError where no logit is a finite maximum."""
    best, token = logits.max(-1)  # several times as fast as argmax in bfloat16
    check_finite(logits, best)
    return token


def draw(logits: Float[Tensor, "b v"], uniform: Float[Tensor, "b"]) -> Int[Tensor, "b"]:
    """The id at which the cumulative distribution of softmax(logits) passes `uniform`, in [0, 1).

    One number decides, so a row's token depends on its own logits and number alone, and a removed token is never drawn.
    """
    check_finite(logits)
    cumulative = logits.softmax(-1, dtype=torch.float64).cumsum(-1)
    return torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)[:, 0]


def uniforms(rows: int, steps: int, seed: int | None, generator: torch.Generator | None = None) -> Float[Tensor, "b n"]:
    """All draws of a run, in [0, 1): each row has a generator of its own, seeded `seed + row`.

    Without `seed`, the rows' seeds are drawn from `generator` (None: torch's own).
    """
    if seed is not None:
        seeds = [seed + row for row in range(rows)]
    else:
        device = "cpu" if generator is None else generator.device
        seeds = torch.randint(2**62, (rows,), generator=generator, device=device).tolist()
    table = torch.empty(rows, steps, dtype=torch.float64)
    for row, own in zip(table, seeds, strict=True):
        row.uniform_(generator=torch.Generator().manual_seed(own % 2**63))
    return table * (1 - 2**-52)  # so that u · total is below the total after rounding


def check_finite(logits: Float[Tensor, "b v"], best: Float[Tensor, "b"] | None = None) -> None:
    """Raise ValueError unless every row has a largest logit that is a number: nothing can be chosen without one.

    `best` is the largest logit of each row, where it is known.
    """
    best = logits.amax(-1) if best is None else best  # NaN where any logit is
    if not bool(best.isfinite().all()):
        row = int((~best.isfinite()).nonzero()[0])
        raise ValueError(f"the largest logit of row {row} is {best[row].item()}, so no token can be chosen; the "
                         f"model's weights may be damaged, or a processor removed every token")  # fmt: skip
