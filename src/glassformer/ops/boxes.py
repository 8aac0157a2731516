"""How well boxes lie on one another, as what is minimised: boxes `cx cy w h`, parts of a picture's width and height."""

import torch
from jaxtyping import Float
from torch import Tensor


def corners(boxes: Float[Tensor, "*m 4"]) -> Float[Tensor, "*m 4"]:
    """`x0 y0 x1 y1` of boxes given as centre, width and height."""
    centre, extent = boxes.unflatten(-1, (2, 2)).unbind(-2)
    return torch.cat([centre - extent / 2, centre + extent / 2], dim=-1)


def generalized_iou(a: Float[Tensor, "*#m 4"], b: Float[Tensor, "*#m 4"]) -> Float[Tensor, "*m"]:
    """IoU − |C \\ (A ∪ B)| / |C|, C the smallest box around both (Rezatofighi et al. 2019, algorithm 1).

    In (−1, 1]: unlike the IoU it has a slope where the boxes do not meet. Shapes broadcast: (q, 1, 4) and (m, 4) give
    each with each.
    """
    a_start, a_end = corners(a).unflatten(-1, (2, 2)).unbind(-2)
    b_start, b_end = corners(b).unflatten(-1, (2, 2)).unbind(-2)
    common = (torch.minimum(a_end, b_end) - torch.maximum(a_start, b_start)).clamp(min=0).prod(-1)
    union = (a_end - a_start).prod(-1) + (b_end - b_start).prod(-1) - common
    around = (torch.maximum(a_end, b_end) - torch.minimum(a_start, b_start)).prod(-1)
    return common / union - (around - union) / around
