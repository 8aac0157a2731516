"""Which number of x Wᵀ + b is the largest, exactly, while most rows of W are not read.

Greedy decoding asks of 50,257 logits only which is the largest, and at one row a product takes the time that reading W
takes. So an int8 copy Ŵ of W is read instead, a quarter of the bytes. With |ŵ − w|₂ known of each row, Cauchy's and
Schwarz's inequality says how far its product can be from the true one:

    |ŵ·x̂ − w·x| ≤ |x|₂ · (|ŵ − w|₂ + ε |ŵ|₂)

where ε stands for x̂, which is x in bfloat16, and for rounding. A row whose upper bound is below the lower bound of
another is not the largest. The few that are left, 5 of 32,128 at the median for normal weights, are computed from W.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from glassformer.ops import machine
from glassformer.ops.linear_onednn import PLAIN, traced
from glassformer.ops.linear_packed import Packed
from glassformer.ops.linear_quantized import int8

EPSILON = 2.0**-8 * 1.01  # x̂ and the product of the copy are rounded to bfloat16, 2⁻⁹ each; sums to float32
BLOCK = 512  # rows of W at a time while the copy is made: what is computed on the way stays in the cache
WORTH = 2**22  # numbers in W: a smaller product takes about as long as the comparisons
FEW = 1 / 32  # of the rows: more are computed faster all together
PAUSE = 4  # calls without, at least, after one that was in vain
ROWS = 4  # of x: with more of them the product is no longer bound by reading W


class Screen(NamedTuple):
    """Ŵ = scale · rows, and what the product of each row with an x of norm 1 can be wrong by."""

    rows: Int8[Tensor, "o i"]
    scale: Float[Tensor, " o"]
    slack: Float[Tensor, " o"]


class Largest:
    """The place of the largest number of each row of x Wᵀ + b, in float32 on the CPU; of equals the first.

    Gives None where all the numbers should be computed: on machines where int8 is not faster, for small weights,
    several rows of x, other dtypes and devices, in traced code; where a number is not finite; and where the bounds
    leave too many rows: then it tries again after some calls, twice as many each time, and half as many after each
    time that it was right.
    """

    def __init__(self) -> None:
        self._screen = Packed(screen)
        self._pause, self._next_pause = 0, PAUSE

    def __call__(
        self, x: Float[Tensor, "b i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None
    ) -> Int[Tensor, "b"] | None:
        if self._pause:
            self._pause -= 1
            return None
        if weight.numel() < WORTH or len(x) > ROWS or traced() or not _plain(x) or not _plain(weight):
            return None
        # The operator takes columns by sixteens, and of a weight that counts no versions no copy is held.
        if weight.shape[1] % 16 or weight.is_inference() or not machine.int8_pays():
            return None
        places = candidates(x, self._screen(x.dtype, weight), bias)
        if not 0 < len(places) <= max(1, FEW * len(weight)):
            self._pause, self._next_pause = self._next_pause, 2 * self._next_pause
            return None
        self._next_pause = max(PAUSE, self._next_pause // 2)
        # Row by row, not as a product: rows that are equal have equal numbers, wherever they stand.
        y = (weight[places] * x[:, None]).sum(-1)
        return places[(y if bias is None else y + bias[places]).max(-1).indices]

    def forget(self) -> None:
        """Drop the copy; the next call makes it anew."""
        self._screen.forget()


def screen(weight: Float[Tensor, "o i"], dtype: torch.dtype = torch.float32) -> Screen:
    """The copy of W, and its slack."""
    rows, scales, slacks = [], [], []
    for block in weight.split(BLOCK):
        q, scale = int8(block)
        copy = q * scale[:, None]
        slacks.append(EPSILON * copy.norm(dim=1) + copy.sub_(block).norm(dim=1))
        rows.append(q.to(torch.int8))
        scales.append(scale.to(torch.bfloat16))
    return Screen(torch.cat(rows), torch.cat(scales), torch.cat(slacks) * (1 + 2.0**-10))  # the norms are rounded too


def candidates(x: Float[Tensor, "b i"], of: Screen, bias: Float[Tensor, " o"] | None) -> Int[Tensor, " c"]:
    """The rows of W that may hold the largest number of some row of x, in order; none where one is not finite."""
    y = torch.ops.aten._weight_int8pack_mm(x.to(torch.bfloat16), of.rows, of.scale)
    if bias is not None:
        y = y + bias
    norm = x.norm(dim=1, keepdim=True)
    best, place = y.max(1, keepdim=True)
    may_be = y + norm * of.slack >= best - norm * of.slack[place]
    return (may_be[0] if len(x) == 1 else may_be.any(0)).nonzero()[:, 0]


def _plain(tensor: Tensor) -> bool:
    return type(tensor) in PLAIN and tensor.is_cpu and tensor.dtype is torch.float32
