"""AdamW whose many small parameters are moved as one: a call for each of them costs more than its arithmetic."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

SMALL = 1 << 18  # elements; of a larger parameter the arithmetic is most of the time


class AdamW(torch.optim.AdamW):
    """PyTorch's fused AdamW (Loshchilov & Hutter 2019, algorithm 2), the same numbers with fewer calls.

    On a CPU, the small parameters of a group that have come equally far lie in one tensor, and so do their moments; the
    parameters and the entries of `state` are views of it. Their gradients are laid side by side when `gradients` or
    `step` is called. A parameter that a backward pass did not reach is left as it is.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)
        self.bundles: dict[int, Bundle] = {}  # by the group's number

    @torch.no_grad()
    def gradients(self) -> list[Tensor]:
        """All gradients, to be measured or scaled in place. Those of bundled parameters are from here on in one."""
        for number, group in enumerate(self.param_groups):
            bundle = self.bundles.get(number)
            if bundle is not None and bundle.gradient is None and not bundle.is_whole():
                bundle.dissolve(self.state)
                del self.bundles[number]
            if number not in self.bundles and len(chosen := self._alike(group["params"])) > 1:
                self.bundles[number] = Bundle(chosen, self.state)
        gathered = [bundle.gather() for bundle in self.bundles.values()]
        return gathered + [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient. Raises ValueError for a closure."""
        if closure is not None:
            raise ValueError("AdamW.step takes no closure: it evaluates the loss once, before the step")
        if len(self.gradients()) > len(self.bundles):
            super().step()
        for number, bundle in self.bundles.items():
            bundle.step(self.param_groups[number])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for bundle in self.bundles.values():
            bundle.gradient = None
        super().zero_grad(set_to_none)

    def dissolve(self) -> None:
        """Give every parameter a state of its own, which may then be replaced."""
        for bundle in self.bundles.values():
            bundle.dissolve(self.state)
        self.bundles.clear()

    def _alike(self, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        """The small ones that have a gradient and have taken the most steps: a rule that looks at nothing else, so
        that a run that is taken up bundles what it would have bundled."""
        found = [p for p in parameters if p.grad is not None and p in self.state and _is_small(p)]
        steps = {p: self.state[p]["step"].item() for p in found}
        most = max(steps.values(), default=0)
        found = [p for p in found if steps[p] == most]
        return [p for p in found if p.dtype == found[0].dtype]


class Bundle:
    """Parameters that lie in one tensor, with their moments, their steps and, between two calls, their gradients."""

    def __init__(self, parameters: list[nn.Parameter], state: Mapping[Tensor, dict[str, Tensor]]) -> None:
        self.parameters = parameters
        self.values = torch.cat([p.detach().view(-1) for p in parameters])
        self.average, self.square = (
            torch.cat([state[p][key].view(-1) for p in parameters]) for key in ("exp_avg", "exp_avg_sq")
        )
        self.steps = state[parameters[0]]["step"]
        self.gradient: Tensor | None = None
        sizes = [p.numel() for p in parameters]
        parts = zip(parameters, *(x.split(sizes) for x in (self.values, self.average, self.square)), strict=True)
        for parameter, value, average, square in parts:
            shape = parameter.shape
            parameter.data = value.view(shape)
            held = {"step": self.steps, "exp_avg": average.view(shape), "exp_avg_sq": square.view(shape)}
            state[parameter].update(held)
        self.addresses = [p.data_ptr() for p in parameters]

    def is_whole(self) -> bool:
        """Whether all have a gradient and are where they were laid."""
        here = [p.data_ptr() for p in self.parameters] == self.addresses
        return here and all(p.grad is not None for p in self.parameters)

    def gather(self) -> Tensor:
        """The gradients as one tensor; the parameters' own are let go."""
        own = [p.grad for p in self.parameters]
        if self.gradient is None or any(gradient is not None for gradient in own):
            pairs = zip(self.parameters, own, strict=True)
            found = torch.cat([(torch.zeros_like(p) if grad is None else grad).reshape(-1) for p, grad in pairs])
            self.gradient = found if self.gradient is None else self.gradient + found  # of a further backward pass
            for parameter in self.parameters:
                parameter.grad = None
        return self.gradient

    def step(self, group: Mapping[str, Any]) -> None:
        """One step of all, by the kernel of PyTorch's AdamW."""
        beta1, beta2 = group["betas"]
        adamw(
            [self.values], [self.gather()], [self.average], [self.square], [], [self.steps], fused=True, amsgrad=False,
            beta1=beta1, beta2=beta2, lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"],
            maximize=False,
        )  # fmt: skip
        self.gradient = None
        # Written by way of `values`; those who keep something made of a parameter must see that it changed.
        torch.autograd.graph.increment_version(self.parameters)

    def dissolve(self, state: Mapping[Tensor, dict[str, Tensor]]) -> None:
        """Each gets a count of its own; where the numbers lie does not matter."""
        for parameter in self.parameters:
            state[parameter]["step"] = self.steps.clone()


def _is_small(parameter: nn.Parameter) -> bool:
    """Small, and plain: a matrix that is spread over processes, say, cannot be a part of a larger tensor."""
    plain = type(parameter) is nn.Parameter and parameter.is_cpu and parameter.is_contiguous()
    return plain and parameter.numel() <= SMALL
