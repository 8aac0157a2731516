"""What the tests of the mirror share: parameters redrawn at a visible scale, comparison, finite differences, twins."""

from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from torch import nn

from glassformer.by_hand.parts.module import Module
from glassformer.parts import position as torch_position


def draw(*shape: int, seed: int = 0) -> Array:
    """Normal numbers in float64."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def redraw(module: Module, seed: int = 0) -> Module:
    """Every parameter anew in float64, at a scale where each one matters: zero biases and unit gains hide mistakes."""
    random = np.random.default_rng(seed)
    for parameter in module.astype(np.float64).parameters():
        width = parameter.data.shape[-1] if parameter.data.ndim > 1 else 4
        centre = parameter.data.mean()  # 1 for gains, 0 for the rest
        parameter.assign(centre + random.standard_normal(parameter.data.shape) * 1.2 / width**0.5)
    return module


def twin(ours: Module, theirs: nn.Module) -> nn.Module:
    """The torch module with the numbers of ours: the state dict is taken as it is."""
    theirs.to(torch.float64).load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    return theirs


def close(ours: Any, theirs: Any, tolerance: float = 1e-10, what: str = "values") -> None:
    """|ours − theirs| ≤ tolerance · the largest |theirs|."""
    ours, theirs = (x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in (ours, theirs))
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, expected {theirs.shape}"
    assert np.isfinite(ours).all(), f"{what}: not finite"
    error = abs(ours - theirs).max() / max(abs(theirs).max(), 1e-30)
    assert error <= tolerance, f"{what}: differs by {error:.1e} of the largest value; allowed is {tolerance:.0e}"


def close_gradients(ours: Module, theirs: nn.Module, tolerance: float = 1e-10) -> None:
    """The gradient of every parameter, none left out, none zero throughout."""
    expected = dict(theirs.named_parameters())
    assert {name for name, _ in ours.named_parameters()} == expected.keys()
    for name, parameter in ours.named_parameters():
        gradient = expected[name].grad
        assert gradient is not None, f"{name} has no gradient"
        if "key.bias" not in name:  # softmax does not feel what is added to every score: there it is 0 but for noise
            assert gradient.abs().max() > 0, f"{name} has a gradient of 0"
            close(parameter.grad, gradient, tolerance, f"gradient of {name}")
        else:
            assert abs(parameter.grad - gradient.numpy()).max() < tolerance * 100


def agrees_with_differences(forward: Callable[[], Array], arrays: dict[str, tuple[Array, Array]]) -> None:
    """Σ forward() · R moves by (gradient · direction) per unit of direction; `arrays` holds (numbers, gradient).

    The numbers are changed in place, along random directions, by central differences.
    """
    random = np.random.default_rng(7)
    for name, (numbers, gradient) in arrays.items():
        assert numbers.shape == gradient.shape, name
        for _ in range(3):
            direction = random.standard_normal(numbers.shape)
            kept, step = numbers.copy(), 1e-5
            numbers += step * direction
            up = forward()
            numbers[...] = kept - step * direction
            down = forward()
            numbers[...] = kept
            measured, claimed = (up - down) / (2 * step), (gradient * direction).sum()
            scale = np.sqrt((gradient**2).sum()) + 1e-3
            assert abs(measured - claimed) < 1e-6 * scale, f"{name}: moves by {measured}, its gradient says {claimed}"


def check_gradients(
    module: Module, *inputs: Array, backward: Callable[[Array], Any] | None = None, **options: Any
) -> None:
    """`backward` of a module against finite differences, for every parameter and every input of floats."""
    out = module.forward(*inputs, **options)
    weight = draw(*out.shape, seed=3)
    module.zero_grad()
    found = module.backward(weight)
    found = found if isinstance(found, tuple) else (found,)
    arrays = {name: (parameter.data, parameter.grad) for name, parameter in module.named_parameters()}
    for i, (x, gradient) in enumerate(zip(inputs, found, strict=True)):
        if x.dtype.kind == "f":
            arrays[f"input {i}"] = (x, gradient)
    assert arrays
    agrees_with_differences(lambda: float((module.forward(*inputs, **options) * weight).sum()), arrays)


def torch_scaling(scaling: Any) -> Any:
    """The torch room's scaling of the same name and numbers."""
    return scaling if not is_dataclass(scaling) else getattr(torch_position, type(scaling).__name__)(**asdict(scaling))
