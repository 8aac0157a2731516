"""Optimizers: AdamW from PyTorch, Lion and Muon written out, and one face for whatever a recipe asks for.

Weight decay is decoupled (Loshchilov & Hutter 2019) and pulls on the matrices of linear layers only: norms and biases
set scales and offsets, and a row of an embedding would be pulled to 0 at every step, however rarely its token comes.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from glassformer.parts import Embedding, LearnedPosition

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024, "Muon": steepest at 0, where small directions grow


class Lion(Optimizer):
    """The sign of an interpolated momentum  (Chen et al. 2023, algorithm 2).

    c = β₁ m + (1 − β₁) g;    θ ← θ − η (sign(c) + λ θ);    m ← β₂ m + (1 − β₂) g
    """

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        refuse_closure(self, closure)
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for parameter, gradient in with_gradient(group):
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                update = momentum.lerp(gradient, 1 - beta1).sign_()
                parameter.mul_(1 - lr * group["weight_decay"]).sub_(update, alpha=lr)
                momentum.lerp_(gradient, 1 - beta2)


class Muon(Optimizer):
    """Momentum, made orthogonal: all directions of a matrix move by about the same amount  (Jordan et al. 2024).

        m ← μ m + (1 − μ) g;    u = (1 − μ) g + μ m;    θ ← (1 − η λ) θ − η √max(1, rows / columns) NewtonSchulz(u)

    For the matrices of hidden layers. All that have the same shape, transposed or not, go through one batched product,
    which on small models is several times faster than one after the other.
    """

    def __init__(self, params: Any, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"Muon moves matrices, not a parameter of shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        refuse_closure(self, closure)
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            alike: dict[Any, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter, gradient in with_gradient(group):
                held = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                held.lerp_(gradient, 1 - momentum)
                update = gradient.lerp(held, momentum)
                wide = update if update.shape[0] <= update.shape[1] else update.T
                alike[(*wide.shape, wide.device)].append((parameter, wide))
            for pairs in alike.values():
                for (parameter, _), wide in zip(pairs, newton_schulz(torch.stack([w for _, w in pairs])), strict=True):
                    rows, columns = parameter.shape
                    update = wide.T if rows > columns else wide
                    parameter.mul_(1 - lr * group["weight_decay"])
                    parameter.sub_(update.to(parameter.dtype), alpha=lr * max(1, rows / columns) ** 0.5)


def newton_schulz(
    matrices: Float[Tensor, "n rows columns"], steps: int = 5, dtype: torch.dtype = torch.bfloat16
) -> Float[Tensor, "n rows columns"]:
    """U S' Vᵀ for each U S Vᵀ, every singular value in S' between about 0.7 and 1.2; rows ≤ columns.

    X ← a X + (b A + c A²) X with A = X Xᵀ, five times: an odd polynomial acts on the singular values alone. bfloat16
    is enough, as a direction is all that is wanted of it.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(dtype)
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # no singular value above 1
    for _ in range(steps):
        gram = x @ x.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x


def with_gradient(group: Mapping[str, Any]) -> Iterable[tuple[nn.Parameter, Tensor]]:
    """The parameters of a group that a backward pass has reached."""
    return ((parameter, parameter.grad) for parameter in group["params"] if parameter.grad is not None)


def refuse_closure(optimizer: Optimizer, closure: object) -> None:
    """Raise ValueError where a closure is given."""
    if closure is not None:
        raise ValueError(
            f"{type(optimizer).__name__}.step takes no closure: it evaluates the loss once, before the step"
        )


# ---- what a recipe says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(ABC):
    """The [optimizer] section: which, and its quantities. `learning_rate` is the peak; the schedule scales it."""

    learning_rate: float
    weight_decay: float

    @abstractmethod
    def build(self, groups: "Groups") -> list[Optimizer]:
        """The torch optimizers that together move all parameters."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "other_learning_rate", "eps"):
            if not getattr(self, name, 1.0) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay={self.weight_decay} must not be negative")
        for name, values in {
            "betas": getattr(self, "betas", ()),
            "momentum": (getattr(self, "momentum", 0.0),),
        }.items():
            if not all(0 <= value < 1 for value in values):
                raise ValueError(f"{name}={getattr(self, name)} must lie between 0 and 1, 1 excluded")


@dataclass(frozen=True, kw_only=True)
class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay  (Loshchilov & Hutter 2019, algorithm 2)."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1

    def build(self, groups: "Groups") -> list[Optimizer]:
        return [adamw(groups.decayed(self.weight_decay), self.learning_rate, self.betas, self.eps)]


@dataclass(frozen=True, kw_only=True)
class LionConfig(OptimizerConfig):
    """Lion; its authors advise a learning rate 3 to 10 times below AdamW's, and as much more weight decay."""

    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.5

    def build(self, groups: "Groups") -> list[Optimizer]:
        return [Lion(groups.decayed(self.weight_decay), lr=self.learning_rate, betas=self.betas)]


@dataclass(frozen=True, kw_only=True)
class MuonConfig(OptimizerConfig):
    """Muon for the matrices of the blocks; AdamW, at `other_learning_rate`, for all else (head and embedding too)."""

    learning_rate: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.1
    other_learning_rate: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8

    def build(self, groups: "Groups") -> list[Optimizer]:
        # A convolution is no matrix: AdamW moves it.
        hidden, rest = groups.split(lambda name: "blocks" in name.split(".") and groups.named[name].ndim == 2)
        built: list[Optimizer] = []
        if hidden:
            built.append(Muon(hidden, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay))
        if rest:
            built.append(adamw([{"params": rest, "weight_decay": 0.0}], self.other_learning_rate, self.betas, self.eps))
        return built


OPTIMIZERS: dict[str, type[OptimizerConfig]] = {"adamw": AdamWConfig, "lion": LionConfig, "muon": MuonConfig}


def adamw(groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float) -> Optimizer:
    """PyTorch's AdamW in its fused form."""
    # One pass over memory for all parameters: three to four times faster than the loop, on CPU and GPU alike.
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


class Groups:
    """A model's parameters, sorted by what they are."""

    def __init__(self, model: nn.Module) -> None:
        tables = {id(part.weight) for part in model.modules() if isinstance(part, Embedding | LearnedPosition)}
        self.named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.matrices = {name for name, p in self.named.items() if p.ndim >= 2 and id(p) not in tables}

    def decayed(self, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups: the linear layers' matrices with weight decay, the rest without."""
        matrices, rest = self.split(lambda name: True)
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]

    def split(self, wanted: Callable[[str], bool]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The matrices whose name is wanted, and everything else."""
        chosen = {name for name in self.matrices if wanted(name)}
        return (
            [parameter for name, parameter in self.named.items() if name in chosen],
            [parameter for name, parameter in self.named.items() if name not in chosen],
        )


def at_rates(group: dict[str, Any], factors: Mapping[nn.Parameter, float]) -> list[dict[str, Any]]:
    """A group in parts of the same learning rate, the group's times the factor of their parameters; fastest first."""
    parts: dict[float, list[nn.Parameter]] = defaultdict(list)
    for parameter in group["params"]:
        parts[factors[parameter]].append(parameter)
    return [group | {"params": parts[factor], "lr": group["lr"] * factor} for factor in sorted(parts, reverse=True)]


class ModelOptimizer:
    """What the loop holds: all of a model's optimizers as one, its state named after the parameters.

    `rates` multiplies the learning rates of the parameters that it names.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, rates: Mapping[str, float] | None = None) -> None:
        groups = Groups(model)
        self.parameters = groups.named
        self.optimizers = config.build(groups)
        factors = {parameter: (rates or {}).get(name, 1.0) for name, parameter in self.parameters.items()}
        for optimizer in self.optimizers:
            optimizer.param_groups[:] = [part for group in optimizer.param_groups for part in at_rates(group, factors)]
        for group in self.groups():
            group["peak"] = group["lr"]

    def groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def set_factor(self, factor: float) -> None:
        """Every group's learning rate becomes its peak times `factor`."""
        for group in self.groups():
            group["lr"] = group["peak"] * factor

    @property
    def learning_rate(self) -> float:
        """The first group's: that of the matrices, where there are any."""
        return float(self.groups()[0]["lr"])

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Tensor]:
        """`{parameter's name + ":" + quantity: tensor}`: tensors alone, so that a safetensors file can hold it."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.parameters.items()}
        return {
            f"{names[parameter]}:{key}": value
            for optimizer in self.optimizers
            for parameter, held in optimizer.state.items()
            for key, value in held.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state where it was left.

        Raises:
            ValueError: it names a parameter that the model has not, or a tensor has another shape than its parameter.
        """
        owners = {
            id(p): optimizer for optimizer in self.optimizers for g in optimizer.param_groups for p in g["params"]
        }
        taken: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for full, tensor in state.items():
            name, _, key = full.rpartition(":")
            if name not in self.parameters:
                raise ValueError(f"the optimizer's state has {full!r}, but the model has no parameter {name!r}")
            if tensor.ndim and tensor.shape != self.parameters[name].shape:
                raise ValueError(f"the optimizer's state {full!r} has shape {tuple(tensor.shape)}; its parameter has "
                                 f"{tuple(self.parameters[name].shape)}")  # fmt: skip
            taken[name][key] = tensor
        for name, held in taken.items():
            parameter = self.parameters[name]
            device = {key: tensor.to(parameter.device) for key, tensor in held.items()}
            owners[id(parameter)].state[parameter] = device
