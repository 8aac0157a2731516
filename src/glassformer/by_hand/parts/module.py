"""A tree of parameters: all that a model is, besides its equations."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy import ndarray as Array
from numpy.typing import DTypeLike


class Parameter:
    """An array that is learned, and the gradient of the loss in it."""

    data: Array
    grad: Array

    def __init__(self, data: Array) -> None:
        self.assign(data)

    def assign(self, data: Array) -> None:
        """Hold `data`; the gradient starts again from 0."""
        self.data = data
        self.grad = np.zeros(data.shape, data.dtype)  # takes no memory until something is added


class Module(ABC):
    """An equation, its gradient and its parameters. Its attributes are the tree: names with a leading _ are not part.

    `forward` computes the equation and keeps what its gradient needs; `backward` takes the gradient of the output,
    adds to the `grad` of the parameters, and returns the gradient of the input.

    Parameters start in float32, vectors at their neutral value (bias 0, gain 1) and matrices at 0: draw them with
    `initialize`, or load them. `astype(np.float64)` is for proofs.
    """

    training: bool = True

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The equation."""

    def backward(self, dy: Array, /) -> Any:
        """Its gradient."""
        raise NotImplementedError(f"{type(self).__name__} learns nothing and has no backward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module and all below it, each with the prefix of its parameters' names."""
        yield prefix, self
        for name, child in vars(self).items():
            if name.startswith("_"):
                continue
            if isinstance(child, Module):
                yield from child.named_modules(f"{prefix}{name}.")
            elif isinstance(child, list):
                for i, item in enumerate(child):
                    yield from item.named_modules(f"{prefix}{name}.{i}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its name, "blocks.0.attention.query.weight"."""
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield prefix + name, value

    def parameters(self) -> list[Parameter]:
        """Every parameter, a shared one once."""
        return [parameter for _, parameter in self.named_parameters()]

    def state_dict(self) -> dict[str, Array]:
        """Name -> array; the torch module of the same name has the same names and shapes."""
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy every array of `state`, in the dtype held here.

        Raises ValueError, and loads nothing, where names or shapes differ or values are not finite floats.
        """
        own = dict(self.named_parameters())
        arrays = {name: np.asarray(array) for name, array in state.items()}
        faults = [f"{name} is missing" for name in own.keys() - arrays.keys()]
        faults += [f"{name} is unexpected" for name in arrays.keys() - own.keys()]
        for name in own.keys() & arrays.keys():
            given, held = arrays[name], own[name].data
            if given.shape != held.shape:
                faults.append(f"{name} has shape {given.shape}, expected {held.shape}")
            elif given.dtype.kind != "f":
                faults.append(f"{name} has dtype {given.dtype}, expected floats")
            elif not np.isfinite(given).all():
                faults.append(f"{name} holds NaN or infinity")
        if faults:
            shown = "; ".join(sorted(faults)[:8]) + ("; ..." if len(faults) > 8 else "")
            raise ValueError(f"the state does not fit {type(self).__name__}: {shown}")
        for name, parameter in own.items():
            parameter.assign(np.array(arrays[name], parameter.data.dtype, order="C"))

    def initialize(self, seed: int = 0, *, std: float = 0.02) -> Self:
        """Draw every matrix from N(0, std²); vectors stay as they are."""
        random = np.random.default_rng(seed)
        for parameter in self.parameters():
            if parameter.data.ndim > 1:
                parameter.assign(random.standard_normal(parameter.data.shape, parameter.data.dtype) * std)
        return self

    def astype(self, dtype: DTypeLike) -> Self:
        """All parameters as float32 (fast) or float64 (to prove things)."""
        for parameter in self.parameters():
            parameter.assign(parameter.data.astype(dtype))
        return self

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters():
            parameter.grad.fill(0)

    def train(self, training: bool = True) -> Self:
        """Dropout on (or off)."""
        for _, module in self.named_modules():
            module.training = training
        return self

    def eval(self) -> Self:
        """Dropout off."""
        return self.train(False)
