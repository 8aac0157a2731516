"""Which numbers dropout keeps (Srivastava et al. 2014), drawn four at a time."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from glassformer.ops.linear_onednn import traced


def dropout(x: Float[Tensor, "*_"], rate: float) -> Float[Tensor, "*_"]:
    """x · kept(x): a share `rate` of the numbers is 0, the others are divided by 1 − rate; 0 ≤ rate ≤ 1.

    PyTorch's own on other devices, which multiply while they draw, and where a compiler or a transform is looking.
    """
    if rate == 0:
        return x
    if x.device.type != "cpu" or rate == 1 or traced():
        return F.dropout(x, rate)
    return x * kept(x, rate)


def kept(x: Float[Tensor, "*_"], dropout: float) -> Float[Tensor, "*_"]:
    """For each number of x, 1 / (1 − dropout) where it is kept and 0 where it is dropped; 0 ≤ dropout < 1.

    On a CPU 16 random bits decide, and one draw of PyTorch's generator has 64: five times as fast as `bernoulli_`,
    which draws for each number anew. The share is thereby a multiple of 2⁻¹⁶, and what is kept is scaled by just that
    multiple: the mean is as it was. A `TorchFunctionMode` sees the call, as it sees those of PyTorch's functions.
    """
    if has_torch_function((x,)):
        return handle_torch_function(kept, (x,), x, dropout)
    if x.device.type != "cpu":
        return torch.empty_like(x).bernoulli_(1 - dropout).div_(1 - dropout)
    places, share = x.numel(), max(1, round((1 - dropout) * 2**16))
    draws = torch.empty((places + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[:places].view(x.shape)
    return torch.le(bits, share - 2**15 - 1, out=torch.empty_like(x)).mul_(2**16 / share)
