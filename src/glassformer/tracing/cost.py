"""What a model costs, before it is built: parameters, FLOPs, memory by kind, bytes moved, time on a machine.

Masks that are written out are not counted: at most t² bytes for each kind of mask, a few more while it is made.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.checkpoints.skeleton import skeleton
from glassformer.foundation.suggest import did_you_mean
from glassformer.models import SequenceToSequenceModel
from glassformer.models.catalog import CONFIGS, build, model_config
from glassformer.models.language_model import LanguageModel
from glassformer.parts import MixtureOfExperts
from glassformer.tracing.hardware import Hardware
from glassformer.tracing.ledger import Call, Ledger, most_held, most_held_checkpointed, recomputed
from glassformer.tracing.part_costs import cache_bytes, counting, kinds_of
from glassformer.tracing.values import tensors_in

STATES = {"adamw": 2, "lion": 1, "muon": 1, "sgd": 0}
"""Optimizer -> numbers that it keeps for each parameter; Muon keeps two for those that are no matrix of a block."""
FUSED = ("adamw",)
"""Optimizers whose step needs no room beside what they keep."""
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes by kind. `activations` are what autograd keeps for the backward pass, `checkpointed` what it keeps when
    each block keeps its input alone; `recomputed` is the largest block, there again while its turn lasts. `casts` are
    the weights in the narrower dtype that autocast multiplies in.

    `logits` are the scores of the vocabulary and what the loss makes of them; `backward` is the most that the backward
    pass holds of activations, their gradients, and those of the weights (see `ledger.most_held`); `working` is
    what the optimizer's step needs for a moment. `inputs` are what the model reads and the backward pass does not,
    such as pictures: their owner holds them meanwhile.
    """

    weights: int
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    checkpointed: int = 0
    recomputed: int = 0
    casts: int = 0
    backward: int = 0
    backward_checkpointed: int = 0
    kv_cache: int = 0
    logits: int = 0
    working: int = 0
    inputs: int = 0

    def total(self, *, checkpointing: bool) -> int:
        """The most that is held at once.

        weights + optimizer + inputs + max(activations + logits, backward, gradients + working): all activations are
        there when the backward pass begins and no gradient is; at its end it is the other way round.
        """
        most = max(self.made(checkpointing), self.gradients + self.working)
        return self.weights + self.casts + self.optimizer + self.kv_cache + self.inputs + most

    def made(self, checkpointing: bool) -> int:
        """The most that the forward and the backward pass make and hold: max(activations + logits, backward)."""
        if checkpointing:
            return max(self.checkpointed + self.logits, self.backward_checkpointed)
        return max(self.activations + self.logits, self.backward)


@dataclass(frozen=True, kw_only=True)
class KindCost:
    """One kind of part."""

    kind: str
    parameters: int
    flops: int
    moved: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one pass costs; `flops_step` is forward and backward, and again forward where activations are recomputed.

    active_parameters: those that one token meets, of experts only the chosen. moved: bytes read and written, of a
    training step those of the backward pass and of the optimizer too.
    """

    name: str
    batch_size: int
    length: int
    dtype: torch.dtype
    training: bool
    checkpointing: bool
    parameters: int
    active_parameters: int
    flops_forward: int
    flops_step: int
    moved: int
    memory: Memory
    rows: tuple[KindCost, ...]
    entries: tuple[Call, ...]

    @property
    def flops(self) -> int:
        """Of what was asked for: a training step, or a forward pass."""
        return self.flops_step if self.training else self.flops_forward

    @property
    def peak_bytes(self) -> int:
        """The most memory held at once."""
        return self.memory.total(checkpointing=self.checkpointing)

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved: below a machine's own ratio, memory is what holds it up."""
        return self.flops / max(self.moved, 1)

    def seconds(self, machine: Hardware) -> float:
        """The least time on a machine: the sum over parts of max(FLOPs / peak, bytes / bandwidth).

        Each part begins when the one before has ended, so that the times of what computes and of what reads add up.
        """
        scale_flops, scale_bytes = self.flops / max(self.flops_forward, 1), self.moved / max(self._moved_forward, 1)
        return sum(
            machine.seconds(entry.flops * scale_flops, entry.moved * scale_bytes, self.dtype) for entry in self.entries
        )

    @property
    def _moved_forward(self) -> int:
        return sum(entry.moved for entry in self.entries)


def cost(
    config_or_model: Any,
    batch_size: int = 1,
    length: int | None = None,
    dtype: torch.dtype | str = torch.float32,
    *,
    training: bool = False,
    optimizer: str = "adamw",
    checkpoint_activations: bool = False,
    target_length: int | None = None,
    device: str = "cpu",
    autocast: bool = False,
    head: str | None = None,
    cached: bool = False,
) -> Cost:
    """What a forward pass or a training step of a model costs. No weight is made, whatever the model's size.

    Args:
        config_or_model: a config, the name of a published size, or a model (of which only names and shapes are read).
        batch_size, length: rows, and tokens in each (default: the model's longest, at most 512). A picture's size is
            the model's.
        dtype: of weights and activations.
        training: count a whole step: backward and optimizer too. checkpoint_activations: blocks keep their input only.
        target_length: of an encoder-decoder's target (default: as the source).
        device: where it runs: kernels choose differently on a "cpu" and on "cuda". autocast: products in bfloat16, the
            weights and what goes from layer to layer in `dtype`.
        head: the head for a task, of a config. cached: count one more token behind `length` cached ones.

    Raises ValueError for sizes that the model cannot take, and for unknown names; TypeError for what is no model.
    """
    kind = named_dtype(dtype)
    _check(batch_size, length, optimizer, device, training, cached)
    model = skeleton_of(config_or_model, head)
    config, name = model.config, type(model).__name__
    length = _length(config, length)
    model.to(kind).train(training)
    ledger, blocks = Ledger(device, kind.itemsize, autocast), blocks_in(model)
    with counting(model, ledger, blocks), torch.set_grad_enabled(training):
        inputs, options = _inputs(model, batch_size, length, target_length, cached)
        out = model(*inputs, **options)
    logits = getattr(out, "logits", None)
    memory = _memory(model, ledger, logits, batch_size, length, training, optimizer, tensors_in((inputs, options)))
    forward = sum(entry.flops for entry in ledger.entries)
    moved = sum(entry.moved for entry in ledger.entries)
    counted, active = parameters_of(model), _active(model)
    step = _step_flops(ledger, model, blocks, checkpoint_activations) if training else forward
    if training:  # each gradient reads and writes as much; the optimizer reads all it keeps, and writes it back
        moved = 3 * moved + 2 * (memory.weights + memory.optimizer) + memory.gradients
    return Cost(
        name=name, batch_size=batch_size, length=length, dtype=torch.bfloat16 if autocast else kind, training=training,
        checkpointing=checkpoint_activations, parameters=counted, active_parameters=active, flops_forward=forward,
        flops_step=step, moved=moved, memory=memory, rows=_rows(model, ledger), entries=tuple(ledger.entries),
    )  # fmt: skip


def named_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """The dtype of a name. Raises ValueError for one that models are not computed in."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if isinstance(dtype, torch.dtype) and dtype in known.values():
        return dtype
    name = str(dtype).removeprefix("torch.")
    if name not in known:
        raise ValueError(f"there is no dtype {name!r} to compute in{did_you_mean(name, known)}")
    return known[name]


def skeleton_of(config_or_model: Any, head: str | None = None) -> Any:
    """The model without memory: names, shapes and wiring. Raises as `model_config` and `build` do."""
    given = config_or_model
    if isinstance(given, str):
        if given not in CONFIGS:
            model_config(given)  # says which name is near
        given = CONFIGS[given]
    if isinstance(given, nn.Module):
        return skeleton(lambda: type(given)(given.config))  # pyright: ignore
    return skeleton(lambda: build(given, head=head))


def parameters_of(model: nn.Module) -> int:
    """All parameters, a tied weight once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _check(batch_size: int, length: int | None, optimizer: str, device: str, training: bool, cached: bool) -> None:
    for name, value in (("batch_size", batch_size), ("length", length)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")
    if optimizer not in STATES:
        raise ValueError(f"there is no optimizer {optimizer!r}{did_you_mean(optimizer, STATES)}")
    if device not in DEVICES:
        raise ValueError(f"the device is {device!r}; expected one of {', '.join(DEVICES)}")
    if training and cached:
        raise ValueError("training keeps no cache: give training or cached, not both")


def _length(config: Any, length: int | None) -> int:
    limit = getattr(config, "max_positions", None)
    return min(512, limit or 512) if length is None else length


def blocks_in(model: nn.Module) -> list[nn.Module]:
    """What activation checkpointing would recompute: the blocks, as glassformer.training.blocks finds them."""
    lists = [part for name, part in model.named_modules() if name.rpartition(".")[2] == "blocks"]
    return [block for each in lists if isinstance(each, nn.ModuleList) for block in each]


def picture_shape(config: Any) -> tuple[int, ...] | None:
    """Frames where there are some, channels, rows and columns of what a model that sees reads; None for another.

    224 rows and columns where the config names no size.
    """
    seeing = next((each for each in (config, getattr(config, "backbone", None)) if hasattr(each, "channels")), None)
    if seeing is None:
        return None
    size = getattr(config, "image_size", None) or getattr(seeing, "image_size", None)
    size = size or getattr(getattr(config, "backbone", None), "image_size", 224)
    frames = getattr(config, "num_frames", None)
    return (*([] if frames is None else [frames]), seeing.channels, size, size)


def _inputs(
    model: Any, batch_size: int, length: int, target_length: int | None, cached: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the model reads, on the meta device."""
    with torch.device("meta"):
        if (shape := picture_shape(model.config)) is not None:
            return (torch.zeros(batch_size, *shape, dtype=next(model.parameters()).dtype),), {}
        ids = torch.zeros(batch_size, length, dtype=torch.long)
        if isinstance(model, SequenceToSequenceModel):
            target = torch.zeros(batch_size, target_length or length, dtype=torch.long)
            return (ids,), {"decoder_input_ids": target}
        if not cached:
            return (ids,), {}
        if not isinstance(model, LanguageModel):
            raise ValueError(f"{type(model).__name__} has no cache; only decoders go on one token at a time")
        cache = model.new_cache(batch_size, length + 1)
        cache.advance(length)
        return (ids[:, :1],), {"cache": cache}


def _memory(
    model: Any, ledger: Ledger, logits: Tensor | None, batch_size: int, length: int, training: bool, optimizer: str,
    inputs: Iterable[Tensor],
) -> Memory:  # fmt: skip
    """Bytes by kind, by the equations of `Memory` and of glassformer.tracing.part_costs."""
    weights = sum(parameter.nbytes for parameter in model.parameters())
    cache = kv_cache_bytes(model, batch_size, length)
    if not training:
        return Memory(weights=weights, kv_cache=cache, logits=0 if logits is None else logits.nbytes)
    outside = {key: each.size for key, each in ledger.kept.items() if each.block is None}
    given = {key: each.size for key, each in ledger.inputs.items()}
    loss = 0 if logits is None else logits.numel() * max(4, logits.element_size())  # log softmax, in float32
    return Memory(
        weights=weights,
        gradients=weights,
        optimizer=optimizer_bytes(model, optimizer),
        activations=sum(each.size for each in ledger.kept.values()) + loss,
        checkpointed=sum((outside | given).values()) + loss,
        recomputed=recomputed(ledger),
        casts=ledger.learned // 2 if ledger.autocast else 0,
        backward=most_held(list(ledger.kept.values()), ledger),
        backward_checkpointed=most_held_checkpointed(ledger) + (0 if logits is None else logits.nbytes),
        # the logits themselves, the gradient of their logarithms in float32, and their own
        logits=0 if logits is None else loss + 2 * logits.nbytes,
        working=0 if optimizer in FUSED else max((parameter.nbytes for parameter in model.parameters()), default=0),
        inputs=sum(x.nbytes for x in inputs if x.untyped_storage()._cdata not in ledger.kept),
    )


def optimizer_bytes(model: nn.Module, optimizer: str) -> int:
    """AdamW keeps two numbers for each parameter, Lion and Muon one, in the parameter's dtype: with weights and
    gradients in float32, 16 bytes for each with AdamW (Rajbhandari et al. 2020, "ZeRO", section 3.1)."""
    total = 0
    for name, parameter in model.named_parameters():
        states = STATES[optimizer]
        if optimizer == "muon" and (parameter.ndim != 2 or ".blocks." not in f".{name}"):
            states = 2  # Muon is for the matrices of blocks, AdamW for the rest
        total += parameter.nbytes * states
    return total


def kv_cache_bytes(model: Any, batch_size: int, length: int) -> int:
    """Bytes of `model.new_cache(batch_size, length)`; 0 for a model that has none. See `part_costs.cache_bytes`."""
    if not isinstance(model, LanguageModel | SequenceToSequenceModel):
        return 0
    config = model.config
    if not hasattr(config, "num_heads"):
        return 0
    size = next(model.parameters()).element_size()
    if hasattr(config, "latent_dim"):
        return cache_bytes(config.num_layers, batch_size, 1, length, config.latent_dim, config.rotary_dim, size)
    window = getattr(model, "cache_window", None)
    room = length if window is None else min(length, 2 * window)
    layers = config.num_decoder_layers if isinstance(model, SequenceToSequenceModel) else config.num_layers
    return cache_bytes(layers, batch_size, config.num_kv_heads, room, config.head_dim, config.head_dim, size)


def _active(model: nn.Module) -> int:
    """Parameters that a token meets: all, less the experts that it is not sent to."""
    idle = 0
    for part in model.modules():
        if isinstance(part, MixtureOfExperts):
            one = sum(parameter.numel() for parameter in part.experts[0].parameters())
            chosen: Any = part.router.num_chosen
            idle += (len(part.experts) - chosen) * one
    return parameters_of(model) - idle


def _step_flops(ledger: Ledger, model: nn.Module, blocks: Iterable[nn.Module], checkpointing: bool) -> int:
    """Forward, and as much again for each of the two gradients: 3 × forward; the first product has no input to teach.

    With checkpointing the blocks' forward pass is done twice (Chen et al. 2016, section 4).
    """
    total = sum(entry.flops * (3 if entry.learns_input else 2) for entry in ledger.entries)
    if not checkpointing:
        return total
    held = {id(part) for block in blocks for part in block.modules()}
    inside = {name for name, part in model.named_modules() if id(part) in held}
    return total + sum(entry.flops for entry in ledger.entries if entry.name in inside)


def _rows(model: nn.Module, ledger: Ledger) -> tuple[KindCost, ...]:
    """Parameters, FLOPs and bytes of each kind of part, the largest first."""
    kinds = kinds_of(model)
    parameters: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        kind = kinds.get(name.rpartition(".")[0], "other")
        parameters[kind] = parameters.get(kind, 0) + parameter.numel()
    names = dict.fromkeys([*parameters, *(entry.kind for entry in ledger.entries)])
    rows = [
        KindCost(
            kind=kind, parameters=parameters.get(kind, 0),
            flops=sum(entry.flops for entry in ledger.entries if entry.kind == kind),
            moved=sum(entry.moved for entry in ledger.entries if entry.kind == kind),
        )
        for kind in names
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (-row.flops, -row.moved)))


def human(count: float, unit: str = "B") -> str:
    """1.5e9 as "1.50 GB": decimal thousands."""
    if not count or not math.isfinite(count):
        return f"{count:.0f} {unit}".strip()
    power = min(max(int(math.log10(abs(count)) // 3), 0), 6)
    digits = f"{count / 1000**power:.4g}"
    return f"{digits} {' kMGTPE'[power].strip()}{unit}".strip()
