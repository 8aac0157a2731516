"""Whether a recipe fits some GPUs, and how: the simplest layout that does, what it costs, why simpler ones do not.

Simplicity is the order of `candidates`: every GPU has the whole model and its share of the batch; then the optimizer's
state, the gradients, the weights are sharded (ZeRO 1, 2, 3: Rajbhandari et al. 2020; 3 is what FSDP does); then layers
are split over the GPUs of a machine (tensor parallel: Shoeybi et al. 2019, "Megatron-LM"); then also depth is (pipeline
parallel: Narayanan et al. 2021). Within each, whole micro-batches before small ones, and those before recomputing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from glassformer.checkpoints.skeleton import skeleton
from glassformer.tracing.cost import Cost, blocks_in, cost, human, optimizer_bytes
from glassformer.tracing.hardware import Hardware
from glassformer.training.recipe import Recipe

USABLE = 0.92
"""The share of a GPU's memory that tensors may take: the rest is the driver's, the libraries', and gaps."""
CHARACTERS = 256
"""The vocabulary of characters or bytes that is assumed: its true size, once known, changes next to nothing."""
EFFICIENCY = 0.45
"""The share of the peak that products reach between communications: PaLM reports 46 % MFU (Chowdhery et al. 2022, table
3), Llama 3 38 to 43 % on H100s (Dubey et al. 2024, table 4). An assumption: measure your own."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a model and a batch lie on GPUs: data · tensor · pipeline of them. `sharding` is ZeRO's stage, 0 for none."""

    data: int
    tensor: int = 1
    pipeline: int = 1
    sharding: int = 0
    micro_batch: int = 1
    checkpointing: bool = False

    @property
    def gpus(self) -> int:
        """How many it takes."""
        return self.data * self.tensor * self.pipeline

    def __str__(self) -> str:
        said = [f"{self.data}-way data parallel"] if self.data > 1 else []
        said += [f"ZeRO-{self.sharding}" + (" (FSDP)" if self.sharding == 3 else "")] if self.sharding else []
        said += [f"{self.tensor}-way tensor parallel"] if self.tensor > 1 else []
        said += [f"{self.pipeline}-stage pipeline"] if self.pipeline > 1 else []
        said += [f"micro-batches of {self.micro_batch}", "recomputed activations" if self.checkpointing else ""]
        return (
            ", ".join(part for part in said if part) if len(said) > 2 else "one GPU, " + ", ".join(filter(None, said))
        )


@dataclass(frozen=True, kw_only=True)
class Share:
    """Bytes on the fullest GPU, by kind. Gradients stand beside activations: micro-batches add theirs up."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    gathered: float  # one block's weights, whole for a moment (ZeRO-3)

    @property
    def total(self) -> float:
        """All of it."""
        return sum(vars(self).values())


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that each GPU sends in a step, by what for; and the seconds that they take where nothing hides them."""

    gradients: float
    weights: float
    tensor: float
    pipeline: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The layout, or None where nothing fits; `refused` says of each simpler one what is in its way."""

    recipe: str
    machine: Hardware
    gpus: int
    work: "Workload"
    refused: tuple[tuple[str, str], ...]
    layout: Layout | None = None
    share: Share | None = None
    traffic: Traffic | None = None
    seconds: float = 0.0  # of a step

    @property
    def tokens_per_step(self) -> int:
        """What a step reads."""
        return self.work.batch_size * self.work.context

    @property
    def tokens_per_second(self) -> float:
        """Expected, of all GPUs together; 0 where nothing fits."""
        return self.tokens_per_step / self.seconds if self.seconds else 0.0

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation: what forward and backward need, of what the GPUs could do in that time (Chowdhery et
        al. 2022, appendix B). Recomputing is not counted: it is not needed."""
        needed = self.work.batch_size * self.work.one.flops_step
        return needed / (self.seconds * self.gpus * self.machine.peak(self.work.one.dtype)) if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a plan is made for: sizes of the model, of a row and of the batch."""

    parameters: int
    block_parameters: int  # of one block
    layers: int
    dim: int
    heads: int
    batch_size: int
    context: int
    weight_bytes: int
    optimizer_bytes: int
    cast_bytes: int  # of the weights as products read them, where that is another dtype
    stream_bytes: int  # of one number that goes from layer to layer
    one: Cost
    two: Cost  # the same with two rows

    def kept(self, rows: int, *, checkpointing: bool) -> tuple[float, float]:
        """(activations, logits) of a micro-batch; both grow with its rows by a straight line."""

        def at(of: Cost) -> float:
            memory = of.memory
            return memory.checkpointed + memory.recomputed if checkpointing else memory.activations

        first, second = at(self.one), at(self.two)
        return first + (rows - 1) * (second - first), rows * self.one.memory.logits


def plan(recipe: Recipe, gpus: int, machine: Hardware, *, vocab_size: int | None = None) -> Plan:
    """The simplest layout of a recipe on so many GPUs of a kind that fits.

    The vocabulary is the tokenizer's; where neither it nor the recipe says its size, give it.

    Raises ValueError for a number of GPUs below 1, and for an unknown size of the vocabulary.
    """
    if gpus < 1:
        raise ValueError(f"gpus is {gpus}; expected 1 or more")
    work = workload(recipe, vocab_size)
    room = USABLE * machine.memory_bytes
    refused: list[tuple[str, str]] = []
    for family in candidates(work, gpus, machine):
        possible = [layout for layout in family if obstacle(work, layout) is None]
        if not possible:
            refused.append((str(family[-1]), obstacle(work, family[-1]) or ""))
            continue
        shares = {layout: share_of(work, layout) for layout in possible}
        fitting = next((layout for layout in possible if shares[layout].total <= room), None)
        if fitting is not None:
            traffic = traffic_of(work, fitting, machine)
            seconds = step_seconds(work, fitting, machine, traffic)
            return Plan(recipe=recipe.name, machine=machine, gpus=gpus, work=work, refused=tuple(refused),
                        layout=fitting, share=shares[fitting], traffic=traffic, seconds=seconds)  # fmt: skip
        least = min(possible, key=lambda layout: shares[layout].total)
        reason = f"{human(shares[least].total)} a GPU, of {human(room)} usable; the most are {largest(shares[least])}"
        refused.append((str(least), reason))
    return Plan(recipe=recipe.name, machine=machine, gpus=gpus, work=work, refused=tuple(refused))


def workload(recipe: Recipe, vocab_size: int | None = None) -> Workload:
    """The sizes of a recipe. Raises ValueError where the vocabulary's is not to be known without its tokenizer."""
    config = config_of(recipe, vocab_size)
    mixed = recipe.training.precision == "bfloat16"
    model = skeleton(lambda: recipe.task.build(config))
    name = getattr(recipe.optimizer, "name", type(recipe.optimizer).__name__.removesuffix("Config").lower())

    def of(rows: int) -> Cost:
        return cost(model, rows, recipe.texts.context, training=True, optimizer=name, device="cuda", autocast=mixed)

    one, two = of(1), of(2)
    blocks = blocks_in(model)
    return Workload(
        parameters=one.parameters,
        block_parameters=max((sum(p.numel() for p in block.parameters()) for block in blocks), default=0),
        layers=max(len(blocks), 1), dim=getattr(config, "dim", 1), heads=_shareable_heads(config),
        batch_size=recipe.data.batch_size, context=recipe.texts.context,
        weight_bytes=one.memory.weights, optimizer_bytes=optimizer_bytes(model, name),
        cast_bytes=one.memory.casts, stream_bytes=2 if mixed else 4, one=one, two=two,
    )  # fmt: skip


def config_of(recipe: Recipe, vocab_size: int | None) -> Any:
    """The model's config with the size of its vocabulary."""
    if recipe.model is None:
        return recipe.init.load().config
    given = vocab_size or recipe.texts.vocab_size
    if given is None and recipe.texts.tokenizer in (None, "characters", "bytes") and recipe.init.source is None:
        given = CHARACTERS
    if given is None and recipe.init.source is not None:
        given = recipe.model.vocab_size  # type: ignore[attr-defined]
    if given is None:
        raise ValueError(
            f"the recipe {recipe.name!r} leaves the size of the vocabulary to its tokenizer, "
            f"{recipe.texts.tokenizer or 'characters'!r}; give it with --vocab-size"
        )
    return replace(recipe.model, vocab_size=given)  # type: ignore[type-var]


def _shareable_heads(config: Any) -> int:
    """Heads that tensor parallelism divides: as many as there are keys and values of their own."""
    return getattr(config, "num_kv_heads", None) or getattr(config, "num_heads", 1)


def candidates(work: Workload, gpus: int, machine: Hardware) -> Iterator[list[Layout]]:
    """Families of layouts, the simplest first; in each the larger micro-batches first, and recomputing last."""
    places = min(machine.per_node, gpus)
    splits = [(1, 1)]
    splits += [(tensor, 1) for tensor in range(2, places + 1) if gpus % tensor == 0 and places % tensor == 0]
    widest = splits[-1][0]
    splits += [(widest, stages) for stages in range(2, gpus // widest + 1) if gpus % (widest * stages) == 0]
    for tensor, stages in splits:
        data = gpus // (tensor * stages)
        for sharding in (0, 1, 2, 3) if tensor * stages == 1 else (1,):
            if sharding and data == 1 and tensor * stages == 1:
                continue
            rows = max(work.batch_size // data, 1)
            sizes = [size for size in range(rows, 0, -1) if rows % size == 0]
            yield [
                Layout(data=data, tensor=tensor, pipeline=stages, sharding=sharding if data > 1 else 0,
                       micro_batch=size, checkpointing=checkpointing)
                for checkpointing in (False, True) for size in sizes
            ]  # fmt: skip


def obstacle(work: Workload, layout: Layout) -> str | None:
    """Why a layout cannot be, whatever the memory; None where it can."""
    if work.batch_size % layout.data:
        return f"a batch of {work.batch_size} rows is not divided by {layout.data}"
    if work.heads % layout.tensor:
        return f"{work.heads} heads are not divided by {layout.tensor}"
    if layout.pipeline > work.layers:
        return f"{work.layers} blocks are fewer than {layout.pipeline} stages"
    return None


def share_of(work: Workload, layout: Layout) -> Share:
    """Bytes on the fullest GPU.

    States: Ψ parameters take W + G + O bytes, over t · p GPUs of tensor and pipeline; the fullest stage has ⌈L/p⌉ of L
    blocks, and the embedding. ZeRO divides by the d data-parallel GPUs O (1), O + G (2), O + G + W (3), and gathers a
    block's weights, twice for the next is fetched ahead (Rajbhandari et al. 2020, section 5).

    Activations: over t with sequence parallelism (Korthikanti et al. 2022, equation 4), and the first of p stages keeps
    min(p, m) of m micro-batches of its 1/p of the depth (Narayanan et al. 2021, section 2.2).
    """
    blocks = work.block_parameters * work.layers
    stage = work.block_parameters * -(-work.layers // layout.pipeline) + max(work.parameters - blocks, 0)
    part = min(stage / work.parameters, 1.0) / layout.tensor
    micro_steps = work.batch_size // layout.data // layout.micro_batch
    kept, logits = work.kept(layout.micro_batch, checkpointing=layout.checkpointing)
    flight = min(layout.pipeline, micro_steps) / layout.pipeline
    shard = [1 if layout.sharding < stage_of else layout.data for stage_of in (1, 2, 3)]
    gathered = 2 * 4 * work.block_parameters / layout.tensor if layout.sharding == 3 else 0.0
    return Share(
        weights=part * (work.weight_bytes + (work.cast_bytes if layout.sharding < 3 else 0)) / shard[2],
        gradients=part * work.weight_bytes / shard[1],
        optimizer=part * work.optimizer_bytes / shard[0],
        activations=kept * flight / layout.tensor,
        logits=logits / layout.tensor,
        gathered=gathered,
    )


def largest(share: Share) -> str:
    """The kind that takes the most."""
    return max(vars(share), key=lambda kind: vars(share)[kind])


def traffic_of(work: Workload, layout: Layout, machine: Hardware) -> Traffic:
    """Bytes that each GPU sends in a step, with Ψ bytes of gradients on a GPU, m micro-batches of b rows of s tokens:

        gradients   all-reduce over d:  2 Ψ (d − 1)/d, a ring's reduce-scatter and all-gather; ZeRO 1 and 2 the same
        weights     ZeRO-3 gathers them forward and backward: 2 Ψ (d − 1)/d for each micro-batch, and the gradients are
                    scattered alone, Ψ (d − 1)/d  (Rajbhandari et al. 2020, section 7: 3 Ψ in all at m = 1)
        tensor      each block 2 all-reduces of b s dim forward and 2 backward, 2 (t − 1)/t each (Shoeybi et al. 2019,
                    section 3); 2 more where it is computed again
        pipeline    b s dim to the next stage and its gradient back, for each micro-batch (Narayanan et al. 2021, 2.2)

    Between machines the network's rate holds, within one the link's, half of it each way. Sending gradients is
    hidden behind the backward pass, some 0.6 of the computing.
    """
    d, t, p = layout.data, layout.tensor, layout.pipeline
    rows = work.batch_size // d
    micro_steps = rows // layout.micro_batch
    own = work.weight_bytes / (t * p)
    ring = (d - 1) / d
    gradients = (1 if layout.sharding == 3 else 2) * own * ring
    weights = 2 * own * ring * micro_steps if layout.sharding == 3 else 0.0
    stream = rows * work.context * work.dim * work.stream_bytes
    calls = 6 if layout.checkpointing else 4
    tensor = calls * (work.layers / p) * stream * 2 * (t - 1) / t
    pipeline = 2.0 * stream if p > 1 else 0.0
    near, far = machine.link_rate / 2, machine.network_rate
    rate = near if layout.gpus <= machine.per_node else far
    seconds = tensor / near + (pipeline + weights) / rate
    hidden = max(gradients / rate - 0.6 * compute_seconds(work, layout, machine), 0.0)
    return Traffic(gradients=gradients, weights=weights, tensor=tensor, pipeline=pipeline, seconds=seconds + hidden)


def compute_seconds(work: Workload, layout: Layout, machine: Hardware) -> float:
    """Of a step, at the assumed share of the peak; a fourth forward pass where activations are recomputed."""
    row = work.one.flops_step + (work.one.flops_forward if layout.checkpointing else 0)
    return work.batch_size * row / (layout.gpus * EFFICIENCY * machine.peak(work.one.dtype))


def step_seconds(work: Workload, layout: Layout, machine: Hardware, traffic: Traffic) -> float:
    """Computing, the pipeline's bubble, (p − 1)/m of it (Narayanan et al. 2021, section 2.2.1), and traffic."""
    micro_steps = work.batch_size // layout.data // layout.micro_batch
    bubble = (layout.pipeline - 1) / micro_steps
    return compute_seconds(work, layout, machine) * (1 + bubble) + traffic.seconds
