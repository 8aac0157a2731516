"""Position-wise feed-forward layers: the plain one and the gated one."""

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.ops.sublayers import feed_forward
from glassformer.parts.activation import LEARNED, Activation, gelu, silu
from glassformer.parts.dropout import Dropout
from glassformer.parts.linear import Linear, activated, learning, passes


class FeedForward(nn.Module):
    """down(dropout(activation(up(x))))  (Vaswani et al. 2017, equation 2)."""

    def __init__(
        self, dim: int, hidden_dim: int, *, activation: Activation = gelu, bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.up = Linear(dim, hidden_dim, bias=bias)
        self.down = Linear(hidden_dim, dim, bias=bias)
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        found = learning((self.up, self.down), x)
        if found is not None and self.activation in LEARNED and passes(self.dropout):
            dtype, (up, down) = found
            return feed_forward(x, up, down, LEARNED[self.activation], dtype)
        return self.down(self.dropout(activated(self.up, self.activation, x)))


class GatedFeedForward(nn.Module):
    """down(dropout(activation(gate(x)) · up(x)))  (Shazeer 2020, equation 6): SwiGLU with silu, GeGLU with gelu."""

    def __init__(
        self, dim: int, hidden_dim: int, *, activation: Activation = silu, bias: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.gate = Linear(dim, hidden_dim, bias=bias)
        self.up = Linear(dim, hidden_dim, bias=bias)
        self.down = Linear(hidden_dim, dim, bias=bias)
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        return self.down(self.dropout(activated(self.gate, self.activation, x) * self.up(x)))
