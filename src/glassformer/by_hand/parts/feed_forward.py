"""Position-wise feed-forward layers: the plain one and the gated one."""

from numpy import ndarray as Array

from glassformer.by_hand.parts.activation import Activation, gelu, silu
from glassformer.by_hand.parts.dropout import Dropout
from glassformer.by_hand.parts.linear import Linear
from glassformer.by_hand.parts.module import Module


class FeedForward(Module):
    """y = down(dropout(f(up(x))))  (Vaswani et al. 2017, equation 2)."""

    def __init__(
        self, dim: int, hidden_dim: int, *, activation: Activation = gelu, bias: bool = True, dropout: float = 0.0
    ) -> None:
        self.up = Linear(dim, hidden_dim, bias=bias)
        self.down = Linear(hidden_dim, dim, bias=bias)
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Array) -> Array:
        self._up = self.up(x)
        return self.down(self.dropout(self.activation(self._up)))

    def backward(self, dy: Array) -> Array:
        """du = f′(u) · dh, then through `up`."""
        du = self.dropout.backward(self.down.backward(dy))
        du *= self.activation.slope(self._up)
        return self.up.backward(du)


class GatedFeedForward(Module):
    """y = down(dropout(f(gate(x)) · up(x)))  (Shazeer 2020, equation 6): SwiGLU with silu, GeGLU with gelu."""

    def __init__(
        self, dim: int, hidden_dim: int, *, activation: Activation = silu, bias: bool = False, dropout: float = 0.0
    ) -> None:
        self.gate = Linear(dim, hidden_dim, bias=bias)
        self.up = Linear(dim, hidden_dim, bias=bias)
        self.down = Linear(hidden_dim, dim, bias=bias)
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Array) -> Array:
        self._gate, self._up = self.gate(x), self.up(x)
        return self.down(self.dropout(self.activation(self._gate) * self._up))

    def backward(self, dy: Array) -> Array:
        """With h = f(g) · u:   dg = dh · u · f′(g)      du = dh · f(g)"""
        dh = self.dropout.backward(self.down.backward(dy))
        dg = dh * self._up
        dg *= self.activation.slope(self._gate)
        dh *= self.activation(self._gate)
        return self.gate.backward(dg) + self.up.backward(dh)
