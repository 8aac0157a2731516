"""The same quantities, measured on a real run here: what `cost` says is held against them."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from glassformer.models import SequenceToSequenceModel
from glassformer.models.language_model import LanguageModel
from glassformer.ops.machine import machine
from glassformer.parts import kernels
from glassformer.parts.kernels import ATTENTIONS
from glassformer.tracing.cost import Cost, cost, kv_cache_bytes, picture_shape
from glassformer.tracing.xray import xray
from glassformer.training.blocks import blocks_of, checkpoint_activations


@dataclass(frozen=True)
class Quantity:
    """One quantity by formula and as measured; None where there is nothing to measure."""

    name: str
    unit: str
    said: int
    measured: int

    @property
    def difference(self) -> float:
        """Of the measured: 0.05 where the formula says 5 % more."""
        return (self.said - self.measured) / self.measured if self.measured else float(self.said != 0)


class Live(TorchDispatchMode):
    """How many bytes the tensors hold that operations make while it is entered, and the most at once.

    A storage counts from the operation that makes it until nothing refers to it. What an operation needs for itself
    and frees again, inside, is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self.see(each)
        return out

    def see(self, x: Tensor) -> None:
        """Count the memory of `x`, unless it is counted already."""
        storage = x.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


@contextmanager
def saved(model: nn.Module) -> Iterator[dict[int, int]]:
    """Storage -> bytes of what autograd keeps meanwhile; parameters are left out."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, int] = {}
    held: list[Any] = []

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            held.append(storage)  # or its number would be another's
        return x

    def given(block: nn.Module, args: Any, named: dict[str, Any]) -> None:
        for x in named.values():  # a recomputed block holds these too, where no hook sees it
            if isinstance(x, Tensor) and isinstance(block.forward, partial):
                pack(x)

    handles = [block.register_forward_pre_hook(given, with_kwargs=True) for block in blocks_of(model)]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield kept
    for handle in handles:
        handle.remove()


def inputs_of(model: Any, batch_size: int, length: int) -> dict[str, Tensor]:
    """Something to read, of the sizes asked for."""
    if (shape := picture_shape(model.config)) is not None:
        return {"pixel_values": torch.randn(batch_size, *shape, dtype=next(model.parameters()).dtype)}
    draw: Callable[[], Tensor] = lambda: torch.randint(0, model.config.vocab_size, (batch_size, length))  # noqa: E731
    if isinstance(model, SequenceToSequenceModel):
        return {"input_ids": draw(), "labels": draw()}
    return {"input_ids": draw(), "targets": draw()} if isinstance(model, LanguageModel) else {"input_ids": draw()}


def loss_of(out: Any) -> Tensor:
    """The loss, or where there is none the mean of all that comes out."""
    if getattr(out, "loss", None) is not None:
        return out.loss
    named = (getattr(out, name, None) for name in ("logits", "last_hidden_state", "pooler_output"))
    return torch.stack([x.mean() for x in named if x is not None]).sum()


def check(model: Any, said: Cost) -> list[Quantity]:
    """What the formulas say beside what a real run here shows. The model is trained for a step, if `said` is of one.

    FLOPs by torch.utils.flop_counter, with the kernels that compute plainly; activations by
    torch.autograd.graph.saved_tensors_hooks; the peak by counting the storages that are alive. The x-ray's own numbers
    stand beside them: of the model as it runs, kernels and all.
    """
    machine()  # measured once, in the first product: not while what is kept is counted
    kind = said.dtype
    model.to(kind).train(said.training)
    given = inputs_of(model, said.batch_size, said.length)
    found = [Quantity("parameters", "", said.parameters, sum(p.numel() for p in model.parameters()))]
    counter = FlopCounterMode(display=False)
    plain = {"attend": "reference"} if any(isinstance(part, ATTENTIONS) for part in model.modules()) else {}
    with kernels(model, linear="reference", **plain), counter, torch.set_grad_enabled(said.training):
        out = model(**given)
        forward = counter.get_total_flops()
        if said.training:
            loss_of(out).backward()
    found.append(Quantity("FLOPs forward", "FLOP", said.flops_forward, forward))
    if not said.training:
        del out
        found += _seen_by_xray(model, given, said)
        cache = model.new_cache(said.batch_size, said.length).num_bytes if said.memory.kv_cache else 0
        said_cache = kv_cache_bytes(model, said.batch_size, said.length)
        return [*found, Quantity("key-value cache", "B", said_cache, cache)]
    if not said.checkpointing:
        found.append(Quantity("FLOPs of a step", "FLOP", said.flops_step, counter.get_total_flops()))
    del out
    model.zero_grad()
    if said.checkpointing:
        checkpoint_activations(model)
    with saved(model) as kept:
        out = model(**given)
    name, bytes_said = "activations kept", said.memory.activations
    if said.checkpointing:
        name, bytes_said = "activations kept, checkpointed", said.memory.checkpointed
    found.append(Quantity(name, "B", bytes_said, sum(kept.values())))
    del out, kept
    return [*found, *_seen_by_xray(model, given, said), *_peaks(model, given, said)]


def _seen_by_xray(model: Any, given: dict[str, Any], said: Cost) -> list[Quantity]:
    """FLOPs of the forward pass, and bytes of its products; of a step also its peak before the optimizer's turn.

    The peak is of what the step makes: all but weights, inputs and the optimizer's state.

    FLOPs by the plain kernel of attention, for what a mask hides is counted by formula. Under the x-ray each projection
    is a product of its own, which is how they are without gradients; recomputed blocks are stopped by an exception,
    whose frames hold tensors while the x-ray looks on: no peak of it stands here.
    """
    plain = any(isinstance(part, ATTENTIONS) for part in model.modules())
    with torch.no_grad():
        flops = xray(model, **given, attention=plain, statistics=False, raises=True).forward_flops
        trace = xray(model.eval(), **given, statistics=False, raises=True)
    model.train(said.training)
    products = [each for each in trace.operations if each.flops]
    apart = cost(model, said.batch_size, said.length, said.dtype).entries
    found = [
        Quantity("FLOPs forward, x-ray", "FLOP", said.flops_forward, flops),
        Quantity("bytes that products move, x-ray", "B", sum(entry.moved for entry in apart if entry.flops),
                 sum(each.read + each.written for each in products)),
    ]  # fmt: skip
    if said.training and not said.checkpointing:
        trace = xray(model, **given, backward=True, statistics=False, raises=True)
        found.append(Quantity("peak of both passes, x-ray", "B", said.memory.made(checkpointing=False), trace.peak))
    return found


def _peaks(model: Any, given: dict[str, Tensor], said: Cost) -> list[Quantity]:
    """Weights, gradients, the optimizer's state and the peak of the second step: the first one makes the state."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        out = model(**given)
        loss_of(out).backward()
        del out
        optimizer.step()

    step()
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    states = [x for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor) and x.ndim]
    optimizer.zero_grad()
    with Live() as live:
        for parameter in model.parameters():
            live.see(parameter)
        for state in states:
            live.see(state)
        step()
    return [
        Quantity("weights", "B", said.memory.weights, sum(p.nbytes for p in model.parameters())),
        Quantity("gradients", "B", said.memory.gradients, gradients),
        Quantity("optimizer state", "B", said.memory.optimizer, sum(state.nbytes for state in states)),
        Quantity("peak of a step", "B", said.peak_bytes, live.peak),
    ]
