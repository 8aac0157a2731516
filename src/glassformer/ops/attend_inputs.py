"""What every attention kernel does first: see that its arguments fit together, and honour autocast."""

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.ops.mask import Mask


def prepared(
    q: Float[Tensor, "b h t k"], k: Float[Tensor, "b g s k"], v: Float[Tensor, "b g s k"], mask: Mask
) -> tuple[Float[Tensor, "b h t k"], Float[Tensor, "b g s k"], Float[Tensor, "b g s k"]]:
    """The three in the dtype to compute in. Raises ValueError where sizes do not fit together."""
    (b, h, t, width), (rows, g, s, key_width) = q.shape, k.shape
    if (b, width) != (rows, key_width) or h % g or k.shape != v.shape:
        raise ValueError(
            f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} do not fit together; "
            f"expected (b, h, t, k), (b, g, s, k) and (b, g, s, k) with h a multiple of g"
        )
    mask.check(b, t, s)
    if not q.is_meta and torch.is_autocast_enabled(q.device.type) and q.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(q.device.type)
        return q.to(dtype), k.to(dtype), v.to(dtype)
    return q, k, v
