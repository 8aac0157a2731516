"""What becomes of a text on its way through the blocks: how large the stream is, and how much teaching comes back."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.ops.cross_entropy import IGNORE
from glassformer.tracing.values import tensors_in


@dataclass(frozen=True, kw_only=True)
class ResidualStream:
    """‖x‖ of each token before the first block and after each, and ‖x_(l+1) − x_l‖, what block l adds."""

    stack: str
    norms: Float[Tensor, "depth t"]
    added: Float[Tensor, "blocks t"]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Norms of gradients by depth: of the stream before the first block and after each (root of the mean over tokens of
    ‖g‖²), and for each block of its parameters' gradient (all as one vector) and of the parameters."""

    stack: str
    stream: Float[Tensor, "depth"]
    gradients: Float[Tensor, "blocks"]
    parameters: Float[Tensor, "blocks"]


def stacks_of(model: nn.Module) -> dict[str, nn.ModuleList]:
    """The lists of blocks, by path, of our models and others': lists of modules of one class that have parts.

    Lists inside blocks (experts) are left out. Raises ValueError for a model that has none.
    """
    found: dict[str, nn.ModuleList] = {}
    for path, part in model.named_modules():
        inside = any(path.startswith(f"{other}.") for other in found)
        if isinstance(part, nn.ModuleList) and not inside and _are_blocks(part):
            found[path] = part
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no blocks: no list of modules of one class with parts of their own"
        )
    return found


def _are_blocks(part: nn.ModuleList) -> bool:
    kinds = {type(block) for block in part}
    return len(kinds) == 1 and all(
        next(block.children(), None) is not None and next(block.parameters(), None) is not None for block in part
    )


@contextmanager
def _watched(stack: nn.ModuleList) -> Iterator[list[Tensor]]:
    """What goes into the first block and comes out of each, in order, while entered."""
    seen: list[Tensor] = []

    def note(value: Any) -> None:
        first = next(tensors_in(value), None)
        if first is not None:
            seen.append(first)

    with ExitStack() as hooks:
        before = stack[0].register_forward_pre_hook(lambda _m, args, kwargs: note((args, kwargs)), with_kwargs=True)
        hooks.callback(before.remove)
        for block in stack:
            hooks.callback(block.register_forward_hook(lambda _m, _args, out: note(out)).remove)
        yield seen


@contextmanager
def _all_watched(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    with ExitStack() as entered:
        yield {path: entered.enter_context(_watched(stack)) for path, stack in stacks_of(model).items()}


def _complete(model: nn.Module, seen: Mapping[str, list[Tensor]]) -> Iterator[tuple[str, nn.ModuleList, list[Tensor]]]:
    """The stacks that ran block after block, each giving what the next takes."""
    stacks, any_ran = stacks_of(model), False
    for path, stream in seen.items():
        if len(stream) == len(stacks[path]) + 1 and len({x.shape for x in stream}) == 1:
            any_ran = True
            yield path, stacks[path], stream
    if not any_ran:
        raise ValueError(f"no stack of {type(model).__name__} ran from its first block to its last at one width")


@torch.no_grad()
def streams(model: nn.Module, inputs: Mapping[str, Any]) -> list[ResidualStream]:
    """The residual stream by depth, of each stack of blocks, for the first row of `inputs`.

    Raises ValueError where no stack of blocks ran.
    """
    with _all_watched(model) as seen:
        model(**inputs)
    found: list[ResidualStream] = []
    for path, _, stream in _complete(model, seen):
        depth = torch.stack([x[0].double().flatten(0, -2) for x in stream])
        added = (depth[1:] - depth[:-1]).norm(dim=-1)
        found.append(ResidualStream(stack=path, norms=depth.norm(dim=-1).cpu(), added=added.cpu()))
    return found


def flows(model: nn.Module, inputs: Mapping[str, Any], targets: Tensor | None) -> tuple[list[Flow], str]:
    """Gradient norms by depth, of each stack of blocks, and what was differentiated.

    With `targets` (b, t), −100 where none counts, the cross-entropy of the model's `logits` (b, t, v) with them;
    without, the output's projection on a direction drawn once, N(0, 1)/√n (a plain sum would be constant behind a
    LayerNorm). The parameters' `.grad` stay as they are. Raises ValueError where no stack ran.
    """
    with torch.enable_grad(), _all_watched(model) as seen:
        out = model(**inputs)
        loss, objective = _objective(out, targets)
    ran = list(_complete(model, seen))
    streams_seen = [x for _, _, stream in ran for x in stream]
    owned = [[p for p in block.parameters() if p.requires_grad] for _, stack, _ in ran for block in stack]
    asked = [*streams_seen, *(p for block in owned for p in block)]
    wanted = [x for x in asked if x.requires_grad]
    gradients = dict(zip(map(id, wanted), torch.autograd.grad(loss, wanted, allow_unused=True), strict=True))
    found: list[Flow] = []
    for path, stack, stream in ran:
        blocks = [list(block.parameters()) for block in stack]
        found.append(
            Flow(
                stack=path,
                stream=torch.stack([_norm([gradients.get(id(x))]) / x[..., 0].numel() ** 0.5 for x in stream]),
                gradients=torch.stack([_norm([gradients.get(id(p)) for p in block]) for block in blocks]),
                parameters=torch.stack([_norm([p.detach() for p in block]) for block in blocks]),
            )
        )
    return found, objective


def _norm(tensors: list[Tensor | None]) -> Tensor:
    """The norm of all of them as one vector, in float64; of those without a gradient 0."""
    squares = [x.double().square().sum().cpu() for x in tensors if x is not None]
    return torch.stack([torch.zeros((), dtype=torch.float64), *squares]).sum().sqrt()


def _objective(out: Any, targets: Tensor | None) -> tuple[Tensor, str]:
    logits = getattr(out, "logits", None)
    if targets is not None and isinstance(logits, Tensor) and logits.ndim == 3:
        flat = logits.flatten(0, 1).float()
        return F.cross_entropy(flat, targets.flatten().to(logits.device), ignore_index=IGNORE), "the loss"
    value = next((x for x in tensors_in(out) if x.requires_grad), None)
    if value is None:
        raise ValueError("the output depends on no parameter that asks for a gradient; there is no flow to draw")
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(value.shape, generator=generator) / value.numel() ** 0.5
    return (value.float() * direction.to(value.device)).sum(), "a random direction of the output"
