"""Assignment: which of many predictions stands for which target, one to one, at the least cost together."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def assign(costs: Float[Tensor, "b q m"], sizes: Sequence[int]) -> Int[Tensor, "2 n"]:
    """In each of b pictures, the pairs of prediction and target whose costs together are the least (Kuhn 1955).

    `costs[i, q, m]` is the cost of giving prediction q of picture i the m-th of all pictures' targets, which stand one
    picture after another, `sizes[i]` of them for picture i; only a picture's own are looked at. Gives, picture after
    picture and in the order of the predictions, min(q, sizes[i]) pairs: (prediction, target among all pictures').
    A cost that is no finite number is the last to be chosen. Equal costs: always the same pairs, those of
    `scipy.optimize.linear_sum_assignment`. One operator to a compiler, which cannot look into it.

    Raises ValueError where `sizes` do not sum to m.
    """
    if sum(sizes) != costs.shape[2] or len(sizes) != costs.shape[0]:
        raise ValueError(f"sizes={list(sizes)} do not split costs of shape {tuple(costs.shape)} into its pictures")
    return _assign(costs.detach(), list(sizes))


@torch.library.custom_op("glassformer::assign", mutates_args=())
def _assign(costs: Tensor, sizes: list[int]) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    most = torch.finfo(costs.dtype).max
    finite = costs.nan_to_num(nan=most, posinf=most, neginf=most).cpu().double()
    pairs, start = [costs.new_zeros(2, 0, dtype=torch.long)], 0
    for picture, size in zip(finite, sizes, strict=True):
        rows, columns = linear_sum_assignment(picture[:, start : start + size].numpy())
        pairs.append(torch.stack([torch.as_tensor(rows), torch.as_tensor(columns) + start]).to(costs.device))
        start += size
    return torch.cat(pairs, dim=1)


@_assign.register_fake
def _(costs: Tensor, sizes: list[int]) -> Tensor:
    return costs.new_empty(2, sum(min(costs.shape[1], size) for size in sizes), dtype=torch.long)
