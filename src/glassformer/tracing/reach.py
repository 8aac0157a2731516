"""Which points of a model a given point has an influence on: found by disturbing it."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.tracing.points import ForwardPass, Point, run

Key = tuple[str, str, int]


def reached(seen: ForwardPass, point: Point, touched: Tensor | None = None) -> set[Key]:
    """The points whose values change when that at `point` is disturbed, where `touched` says; none if it cannot be."""
    module = seen.modules[point.module]
    call = 0

    def into(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        nonlocal call
        call += 1
        if call - 1 != point.call:
            return None
        changed = disturbed(args, touched)
        return (changed, kwargs) if changed is not None else (args, disturbed(kwargs, touched) or kwargs)

    def out_of(_module: nn.Module, _args: Any, output: Any) -> Any:
        nonlocal call
        call += 1
        return disturbed(output, touched) if call - 1 == point.call else None

    if point.side == "in":
        handle = module.register_forward_pre_hook(into, with_kwargs=True)
    else:
        handle = module.register_forward_hook(out_of)
    try:
        again = run(seen.model, seen.given, "a")
    except ValueError:  # the model looks at what it computes
        return set()
    finally:
        handle.remove()
    order = {other.key: i for i, other in enumerate(seen.points)}
    return {
        other.key for other in again.points
        if other.key in order and order[other.key] > order[point.key]
        and not torch.equal(other.value, seen.at[other.key].value)
    }  # fmt: skip


def disturbed(value: Any, touched: Tensor | None) -> Any:
    """The same with another first tensor of numbers; None where there is none."""
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            return value.flip(-1) if value.dtype in (torch.int64, torch.int32) and value.ndim else None
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(0)).to(value)
        noise = noise * touched.to(noise.device) if touched is not None and touched.shape == noise.shape else noise
        return value + noise * value.abs().max().clamp(min=1e-3)
    if isinstance(value, tuple | list):
        for i, each in enumerate(value):
            changed = disturbed(each, touched)
            if changed is not None:
                parts = [*value[:i], changed, *value[i + 1 :]]
                return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    elif isinstance(value, dict):
        for name, each in value.items():
            changed = disturbed(each, touched)
            if changed is not None:
                copied = value.copy()
                copied[name] = changed
                return copied
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            changed = disturbed(getattr(value, each.name), touched)
            if changed is not None:
                return replace(value, **{each.name: changed})
    return None
