"""What goes into and comes out of every module of a model while it runs once: the points at which two are compared."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Mapping[str, Any] | Tensor | tuple[Any, ...]
PREFERRED = ("logits", "last_hidden_state", "start_logits")
"""Of several tensors that a model gives, the one that says most; a loss says least."""


@dataclass(eq=False)
class Point:
    """One value: what went into (`side` "in") or came out of ("out") a module, at its `call`-th call.

    `inside` names the modules that ran at that moment, outermost first, the module itself excluded; `made_by` is the
    module whose output this very tensor is, where an input is handed on untouched.
    """

    module: str
    side: str
    call: int
    value: Tensor
    inside: tuple[str, ...]
    made_by: str | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        return self.module, self.side, self.call

    def __str__(self) -> str:
        return f"{self.module or 'output'}{' (input)' if self.side == 'in' else ''}"


@dataclass(eq=False)
class ForwardPass:
    """A model, what it was given, and the points it passed, in the order of execution."""

    model: nn.Module
    given: dict[str, Any]
    points: list[Point] = field(default_factory=list)
    error: str | None = None

    def __post_init__(self) -> None:
        self.modules = dict(self.model.named_modules())
        self.at: dict[tuple[str, str, int], Point] = {}

    def value(self, module: str, side: str = "out", call: int = 0) -> Tensor | None:
        """The tensor at a point, None where the model did not pass it."""
        point = self.at.get((module, side, call))
        return None if point is None else point.value

    def order(self) -> list[str]:
        """The modules in the order in which they began."""
        return list(dict.fromkeys(point.module for point in self.points if point.side == "in"))

    @property
    def present(self) -> Tensor | None:
        """(b, t), True at real tokens, where an attention mask was given."""
        mask = self.given.get("attention_mask")
        return None if not isinstance(mask, Tensor) or mask.ndim != 2 else (mask != 0).cpu()


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists, mappings and dataclasses, the telling ones of a model's output first."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for name in sorted(value, key=lambda name: (name not in PREFERRED, name == "loss")):
            yield from tensors(value[name])
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors(each)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors({each.name: getattr(value, each.name) for each in fields(value)})


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor of numbers; of an index, where there is no other."""
    other = None
    for tensor in tensors(value):
        if tensor.is_floating_point():
            return tensor
        other = tensor if other is None and not tensor.is_complex() else other
    return other


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal, bit for bit."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def given_by_name(model: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """The inputs by the names of `forward`'s arguments."""
    parameters = list(signature(model.forward).parameters)
    if isinstance(inputs, Mapping):
        named: dict[str, Any] = dict(inputs)
    else:
        each = inputs if isinstance(inputs, tuple) else (inputs,)
        if len(each) > len(parameters):
            raise ValueError(f"{len(each)} inputs are given, and {type(model).__name__} takes {', '.join(parameters)}")
        named = dict(zip(parameters, each, strict=False))
    if "dense" in parameters:  # our encoders lay padded rows behind one another, which has no counterpart elsewhere
        named.setdefault("dense", True)
    return named


@torch.no_grad()
def run(model: nn.Module, inputs: Inputs, what: str, *, seed: int = 0) -> ForwardPass:
    """The points of one forward pass, the model as it is (in training mode its dropout is on).

    Raises ValueError, naming `what` ("a" or "b"), where the model refuses the inputs.
    """
    seen = ForwardPass(model, given_by_name(model, inputs))
    running: list[str] = []
    calls: dict[str, int] = {}
    makers: dict[int, tuple[Tensor, str, Tensor]] = {}  # the tensors are held, so that no other gets their id

    def keep(module: str, side: str, value: Any) -> None:
        tensor = first_tensor(value)
        if tensor is None:
            return
        held, maker, made_by = tensor.detach().cpu().clone(), makers.get(id(tensor)), None
        if side == "in" and maker is not None and same(maker[2], held):  # not changed in place since
            made_by = maker[1]
        point = Point(module, side, calls.get(module, 0), held, tuple(running), made_by)
        seen.points.append(point)
        seen.at[point.key] = point
        before = seen.at.get((module, "in", point.call))
        if side == "out" and before is not None and same(before.value, point.value):  # nothing was made here
            if before.made_by is not None:
                makers.setdefault(id(tensor), (tensor, before.made_by, point.value))
        elif side == "out":
            makers.setdefault(id(tensor), (tensor, module, point.value))

    def before(name: str) -> Any:
        def hook(_module: nn.Module, args: Any, kwargs: Any) -> None:
            keep(name, "in", (args, tuple(kwargs.values())))
            running.append(name)

        return hook

    def after(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            running.pop()
            keep(name, "out", output)
            calls[name] = calls.get(name, 0) + 1

        return hook

    handles = []
    for name, module in seen.modules.items():
        handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
        handles.append(module.register_forward_hook(after(name)))
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model(**seen.given)
    except Exception as error:
        where = f" in {running[-1]}" if running and running[-1] else ""
        said = " ".join(str(error).split())
        raise ValueError(f"{what}, {type(model).__name__}, refuses the inputs{where}: {said}") from error
    finally:
        for handle in handles:
            handle.remove()
    return seen
