"""What "verified" means, written once: each property is a function of one declared model, and raises where it fails.

These hold for every kind of model; those of one kind alone stand in `properties_*.py`. `test_properties.py` runs them
over every declared model; `test_mutations.py` plants mistakes and asks that some property notices. Parameters are
redrawn at a visible scale first: fresh initialisation (zero biases, unit gains, tiny weights) hides mistakes.
"""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from declaration import IGNORE, LENGTH, Declared, Inputs
from torch import Tensor, nn

from glassformer.models.bigram import Bigram
from glassformer.ops.attend import ATTEND
from glassformer.ops.cross_entropy import CROSS_ENTROPY
from glassformer.parts import MixtureOfExperts, kernels, use_kernels
from glassformer.parts.experts import every_expert
from glassformer.parts.kernels import ATTENTIONS
from glassformer.training import checkpoint_activations

Property = Callable[[Declared], None]
Outputs = dict[str, Tensor]

KERNELS = [name for name in ATTEND if name != "flex"]
LEFT, RIGHT, WHOLE = slice(0, 5), slice(12, LENGTH), slice(0, LENGTH)


def redraw(model: nn.Module, seed: int = 0, spread: float = 1.2) -> nn.Module:
    """Every parameter anew, at a scale where each one matters to the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            unit = 1.0 if name.endswith("weight") and parameter.ndim == 1 else 0.0
            width = parameter.shape[-1] if parameter.ndim > 1 else 4
            if parameter.ndim == 4:  # a convolution sums over channels, rows and columns
                width = parameter[0].numel()
            parameter.copy_(unit + noise * (spread / width**0.5))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):  # what a batch norm has seen
                noise = torch.rand(buffer.shape, generator=generator, dtype=torch.float64)
                buffer.copy_(noise + 0.5 if name.endswith("var") else noise - 0.5)
    return model


def build(case: Declared, dtype: torch.dtype = torch.float64) -> Any:
    """Ours, redrawn, in evaluation mode."""
    return redraw(case.build(), spread=case.spread).to(dtype).eval()


def steady(model: Any) -> Any:
    """Experts by the reference: the last bit of `grouped` depends on how many tokens an expert gets."""
    for module in model.modules():
        if isinstance(module, MixtureOfExperts):
            module.dispatch = every_expert
    return model


def close(ours: Tensor, theirs: Tensor, tolerance: float, what: str) -> None:
    """|ours − theirs| ≤ tolerance · the largest |theirs|."""
    assert ours.shape == theirs.shape, f"{what}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    assert ours.isfinite().all(), f"{what}: not finite"
    scale = max(theirs.abs().max().item(), 1e-30)
    error = (ours.double() - theirs.double()).abs().max().item() / scale
    assert error <= tolerance, f"{what}: differs by {error:.2e} of the largest value; allowed is {tolerance:.0e}"


def close_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float, what: str = "") -> None:
    """Each parameter's gradient, scaled by its own largest value.

    What adds the same to all scores of a softmax is not seen by it, and its gradient is 0 but for rounding. That of a
    key's bias, where no rotation follows, is scaled by that of the query's bias; that of another bias, where it is a
    hundred thousandth of its weight's, by that. A detector's queries begin as zeros, stay alike for long, and what
    reads them does not see scores: what those learn is scaled by a tenth of what the values' bias does, at least.
    """
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        scale = max(expected.abs().max().item(), 1e-30)
        if name.endswith("key.bias"):
            scale = max(scale, theirs[name.replace(".key.", ".query.")].abs().max().item())
        elif name.endswith(".bias"):
            weight = theirs.get(name.removesuffix("bias") + "weight", expected).abs().max().item()
            scale = weight if scale < 1e-5 * weight else scale
        layer, _, kind = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")
        if layer.startswith("body.decoder.") and kind.startswith(("query", "key")):
            scale = max(scale, 0.1 * theirs[f"{layer}.value.bias"].abs().max().item())
        error = (ours[name].double() - expected.double()).abs().max().item() / scale
        assert error <= tolerance, f"{what}: gradient of {name} differs by {error:.2e}; allowed is {tolerance:.0e}"


def has_attention(model: nn.Module) -> bool:
    """Whether there is attention whose kernel can be chosen."""
    return any(isinstance(module, ATTENTIONS) for module in model.modules())


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Each parameter's gradient, zero where there is none."""
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A change made to a tensor, or to each of a list or of a dict of them."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: each(item, change) for name, item in value.items()}
    return [each(item, change) for item in value]


def run(model: nn.Module, inputs: Inputs) -> Outputs:
    """What the model gives, by name: loss, logits, …"""
    dtype = next(model.parameters()).dtype
    cast = {name: each(value, lambda x: x.to(dtype) if x.is_floating_point() else x) for name, value in inputs.items()}
    if not model.training:
        torch.manual_seed(0)  # a loss at random points is a number only when they are the same
    return {name: value for name, value in vars(model(**cast)).items() if isinstance(value, Tensor)}


def without_labels(case: Declared, inputs: Inputs) -> Inputs:
    return {name: value for name, value in inputs.items() if name not in case.kind.labels}


def loss_and_gradients(model: nn.Module, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and what it says of each parameter."""
    model.zero_grad()
    loss = run(model, inputs)["loss"]
    loss.backward()
    return loss.detach(), gradients(model)


def rows(inputs: Inputs, chosen: list[int]) -> Inputs:
    """Some rows of a batch."""
    return {
        name: value[chosen] if isinstance(value, Tensor) else [value[i] for i in chosen]
        for name, value in inputs.items()
    }


def real(case: Declared, outputs: Outputs, inputs: Inputs) -> Outputs:
    """The outputs without what stands at padding, which is unspecified."""
    present = inputs.get("attention_mask")
    if present is None:
        return outputs
    return {name: value[present.bool()] if name in case.kind.per_place else value for name, value in outputs.items()}


def close_outputs(ours: Outputs, theirs: Outputs, tolerance: float, what: str) -> None:
    """Each of ours has its counterpart, and is close to it."""
    for name, value in ours.items():
        close(value.detach(), theirs[name].detach(), tolerance, f"{what}: {name}")


# -- the public implementation ---------------------------------------------------------------------------------------


def both(case: Declared, folder: str) -> tuple[Any, Any]:
    """Theirs, redrawn, and ours loaded from its folder."""
    assert case.theirs is not None
    theirs = redraw(case.theirs(), spread=case.spread).eval()
    theirs.save_pretrained(folder)
    return theirs, case.model.from_pretrained(folder)


def run_theirs(case: Declared, theirs: Any, inputs: Inputs) -> Outputs:
    torch.manual_seed(0)
    out = theirs(**case.kind.theirs(inputs))
    return {name: value for name, value in out.items() if isinstance(value, Tensor)}


def equals_hugging_face(case: Declared) -> None:
    """Outputs, loss and every gradient equal transformers', loaded from its folder: as built, and by the equations.

    That every other kernel computes the same is asked in float64, where less can hide: `every_attention_kernel_…`,
    `chunked_cross_entropy_equals_plain`.
    """
    if case.theirs is None:
        return
    inputs = case.inputs()
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = both(case, folder)
        expected = run_theirs(case, theirs, inputs)
        expected["loss"].backward()
        parameters = dict(theirs.named_parameters())
        their_gradients = _their_gradients_in_our_names(case, theirs, parameters, folder)
    by_equation = {"linear": "reference"} | ({"attend": "reference"} if has_attention(ours) else {})
    for choice in ({}, by_equation):
        with kernels(ours, **choice):
            with torch.no_grad():
                close_outputs(run(ours, without_labels(case, inputs)), expected, 1e-5, str(choice))
            loss, grads = loss_and_gradients(ours, inputs)
            close(loss, expected["loss"].detach(), 1e-5, f"{choice}: loss")
            close_gradients(grads, their_gradients, 1e-4, str(choice))


def losses_of(model: nn.Module) -> list[str]:
    """The kernels of cross-entropy that a model can take; none where it computes none by them."""
    computes = hasattr(model, "cross_entropy") and not isinstance(model, Bigram)  # its head is no matrix to be chunked
    return list(CROSS_ENTROPY) if computes else []


def _their_gradients_in_our_names(
    case: Declared, theirs: Any, parameters: dict[str, nn.Parameter], folder: str
) -> dict[str, Tensor]:
    """A second folder whose weights are the first one's gradients: the same loading gives them our names."""
    state = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    theirs.save_pretrained(f"{folder}/gradients")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
    return {n: p.detach() for n, p in case.model.from_pretrained(f"{folder}/gradients").named_parameters()}


def padding_equals_hugging_face(case: Declared) -> None:
    """With padding on the left, and with padding on the right, outputs at real places and the loss equal theirs."""
    if case.theirs is None or case.kind.pad is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = both(case, folder)
    for places in (LEFT, RIGHT):
        inputs = case.kind.pad(case.inputs(), places)
        with torch.no_grad():
            expected = real(case, run_theirs(case, theirs, inputs), inputs)
            close_outputs(
                real(case, run(ours, without_labels(case, inputs)), inputs), expected, 1e-5, f"pads at {places}"
            )
            close(run(ours, inputs)["loss"], expected["loss"], 1e-5, f"pads at {places}: loss")


def theirs_opens_ours(case: Declared) -> None:
    """What `save_pretrained` writes, whole or in shards, transformers opens with equal outputs; we, bit for bit."""
    if case.theirs is None:
        return
    ours = build(case, torch.float32)
    inputs = case.inputs()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for shard in (5_000_000_000, 20_000):
            there = Path(folder) / str(shard)
            ours.save_pretrained(there, max_shard_bytes=shard)
            assert (len(list(there.glob("*.safetensors"))) > 1) == (shard == 20_000)
            theirs = type(case.theirs()).from_pretrained(there).eval()
            expected = run_theirs(case, theirs, inputs)
            close_outputs(run(ours, without_labels(case, inputs)), expected, 1e-5, "theirs, from our folder")
            again = case.model.from_pretrained(there)
            assert again.config == ours.config
            assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))


# -- batches and padding -----------------------------------------------------------------------------------------------


def row_alone_equals_row_in_batch(case: Declared) -> None:
    """A row's outputs do not depend on its neighbours, nor on their padding."""
    model, inputs = build(case), without_labels(case, case.inputs())
    if case.kind.pad is not None:
        inputs = without_labels(case, case.kind.pad(case.inputs(), LEFT))
    full = run(model, inputs)
    for row in range(3):
        alone = rows(inputs, [row])
        mine = {name: value[row : row + 1] for name, value in full.items() if value.ndim}
        close_outputs(real(case, mine, alone), real(case, run(model, alone), alone), 1e-13, f"row {row}")


def pads_do_not_matter(case: Declared) -> None:
    """Whatever ids stand at padded places, real places do not notice; boolean, integer and float masks agree."""
    if case.kind.pad is None:
        return
    model = steady(build(case))
    for places in (LEFT, RIGHT):
        inputs = without_labels(case, case.kind.pad(case.inputs(), places))
        present, x = inputs["attention_mask"], inputs["input_ids"]
        expected = real(case, run(model, inputs), inputs)
        other = inputs | {"input_ids": torch.where(present.bool(), x, (x + 7) % case.config.vocab_size)}
        for name, value in real(case, run(model, other), inputs).items():
            assert torch.equal(value, expected[name]), f"{name} depends on what stands at {places}, which is padding"
        for dtype in (torch.bool, torch.int32, torch.float32):
            again = real(case, run(model, inputs | {"attention_mask": present.to(dtype)}), inputs)
            assert all(torch.equal(value, expected[name]) for name, value in again.items()), dtype


def fully_padded_row_is_finite(case: Declared) -> None:
    """A row that is all padding gives finite outputs and gradients, and leaves the other rows alone."""
    if case.kind.pad is None:
        return
    model, inputs = build(case, torch.float32), case.kind.pad(case.inputs(), WHOLE)
    there = without_labels(case, inputs)
    for attend in KERNELS if has_attention(model) else [None]:
        if attend:
            use_kernels(model, attend=attend)
        _, grads = loss_and_gradients(model, inputs)
        assert all(grad.isfinite().all() for grad in grads.values()), attend
        outputs = run(model, there)
        assert all(value.isfinite().all() for value in outputs.values()), attend
        others = {name: value[[0, 2]] for name, value in outputs.items() if value.ndim}
        close_outputs(others, run(model, rows(there, [0, 2])), 1e-5, f"{attend}: the other rows")


# -- the loss ----------------------------------------------------------------------------------------------------------


def nothing_counted_is_no_loss(case: Declared) -> None:
    """Where no label counts, the loss is 0 and so is every gradient."""
    model, inputs = build(case), case.inputs()
    ignored = {name: torch.full_like(inputs[name], IGNORE) for name in case.kind.labels}
    for kernel in losses_of(model) or [None]:
        with kernels(model, cross_entropy=kernel):
            loss, grads = loss_and_gradients(model, inputs | ignored)
        assert loss == 0
        assert all((grad == 0).all() for grad in grads.values())


def chunked_cross_entropy_equals_plain(case: Declared) -> None:
    """The loss computed in chunks, logits never whole, has the same value and gradients."""
    model, inputs = build(case), case.inputs()
    if "chunked" not in losses_of(model):
        return
    loss, grads = loss_and_gradients(model, inputs)
    with kernels(model, cross_entropy="chunked"):
        again, chunked = loss_and_gradients(model, inputs)
    close(again, loss, 1e-13, "loss")
    close_gradients(chunked, grads, 1e-12)


# -- kernels, dtypes, state --------------------------------------------------------------------------------------------


def every_attention_kernel_equals_the_reference(case: Declared) -> None:
    """Outputs and gradients agree, with and without padding."""
    model = build(case)
    if not has_attention(model):
        return
    for inputs in [case.inputs()] + ([case.kind.pad(case.inputs(), LEFT)] if case.kind.pad else []):
        results = {}
        for name in KERNELS:
            use_kernels(model, attend=name)
            with torch.no_grad():
                outputs = real(case, run(model, without_labels(case, inputs)), inputs)
            results[name] = outputs, loss_and_gradients(model, inputs)[1]
        for name, (outputs, grads) in results.items():
            close_outputs(outputs, results["reference"][0], 1e-12, name)
            close_gradients(grads, results["reference"][1], 1e-11, name)


def grouped_experts_equal_every_expert(case: Declared) -> None:
    """Tokens sent to their experts alone give what all experts, weighted, give: outputs and gradients."""
    model, inputs = build(case), case.inputs()
    if not any(isinstance(module, MixtureOfExperts) for module in model.modules()):
        return
    outputs, (_, grads) = run(model, inputs), loss_and_gradients(model, inputs)
    same = steady(model)
    close_outputs(outputs, run(same, inputs), 1e-13, "outputs")
    close_gradients(grads, loss_and_gradients(same, inputs)[1], 1e-12)


def bfloat16_is_finite_and_near(case: Declared) -> None:
    """In bfloat16, large activations too, outputs are finite; at ordinary scale they are near float32's."""
    model, inputs = build(case, torch.float32), without_labels(case, case.inputs())
    for module in model.modules():
        if isinstance(module, MixtureOfExperts):  # of two experts that are nearly as good, rounding picks one: take all
            module.router.num_chosen = len(module.experts)
            module.router.num_chosen_groups = getattr(module.router, "num_groups", None)
    exact = run(model, inputs)
    half = copy.deepcopy(model).to(torch.bfloat16)
    close_outputs({name: value.float() for name, value in run(half, inputs).items()}, exact, 0.12, "in bfloat16")
    with torch.no_grad():
        for parameter in half.parameters():
            parameter.mul_(30)
    assert all(value.isfinite().all() for value in run(half, inputs).values())


def evaluation_is_deterministic(case: Declared) -> None:
    """Twice the same in eval mode; in training, dropout follows the seed, and is there where the config says so."""
    model, inputs = build(case), case.inputs()
    assert torch.equal(run(model, inputs)["loss"], run(model, inputs)["loss"])
    model.train()
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(run(model, inputs)["loss"])
    assert torch.equal(losses[0], losses[1])
    random = ("dropout", "num_points")  # or the points at which masks are compared
    drawn = any(value for name, value in vars(case.config).items() if name.endswith(random))
    assert torch.equal(losses[0], losses[2]) != drawn


def every_parameter_gets_a_gradient(case: Declared) -> None:
    """No parameter that learns is dead, and none of its own is missing from the state dict."""
    model = build(case)
    _, grads = loss_and_gradients(model, case.inputs())
    assert grads.keys() | {name for name, _ in model.named_buffers()} >= model.state_dict().keys()
    assert grads.keys() <= model.state_dict().keys()
    exempt = "attention.key.bias"  # softmax does not see a shift common to all keys
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    dead = [name for name in learns if not (grads[name].abs() > 1e-12).any() and not name.endswith(exempt)]
    assert not dead


def tied_weights_stay_tied(case: Declared) -> None:
    """Through cast, deep copy, moving and loading, the tied head reads the embedding."""
    model = build(case)
    if not getattr(case.config, "tied", case.name == "gpt"):
        return
    inputs = without_labels(case, case.inputs())
    for same in (model, copy.deepcopy(model), copy.deepcopy(model).float()):
        before = run(same, inputs)["logits"]
        with torch.no_grad():
            same.embed.weight.mul_(2)
        assert not torch.allclose(run(same, inputs)["logits"], before)
        assert same.head.weight is same.embed.weight
    fresh: Any = case.build()
    fresh.load_state_dict(model.float().state_dict())
    assert torch.equal(fresh.head.weight, model.embed.weight)


def overfits_one_batch(case: Declared) -> None:
    """Some steps on one batch drive the loss far down."""
    torch.manual_seed(0)
    model, inputs = case.build().train(), case.inputs(batch=4)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3 if case.name == "bigram" else 1e-2)
    losses: list[float] = []
    wanted = 0.75 if case.name == "bigram" else 0.5
    while len(losses) < 81 and not (losses and losses[-1] < wanted * losses[0]):
        loss, _ = loss_and_gradients(model, inputs)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < wanted * losses[0], (losses[0], losses[-1])


def gradient_checkpointing_changes_nothing(case: Declared) -> None:
    """Recomputing the blocks in the backward gives bit-equal gradients, dropout included."""
    model, inputs = build(case, torch.float32).train(), case.inputs()
    if not has_attention(model):
        return
    torch.manual_seed(3)
    loss, grads = loss_and_gradients(model, inputs)
    checkpoint_activations(model)
    torch.manual_seed(3)
    again, recomputed = loss_and_gradients(model, inputs)
    assert torch.equal(loss, again)
    assert all(torch.equal(grad, recomputed[name]) for name, grad in grads.items())


GENERAL: list[Property] = [
    equals_hugging_face,
    padding_equals_hugging_face,
    theirs_opens_ours,
    row_alone_equals_row_in_batch,
    pads_do_not_matter,
    fully_padded_row_is_finite,
    nothing_counted_is_no_loss,
    chunked_cross_entropy_equals_plain,
    every_attention_kernel_equals_the_reference,
    grouped_experts_equal_every_expert,
    bfloat16_is_finite_and_near,
    evaluation_is_deterministic,
    every_parameter_gets_a_gradient,
    tied_weights_stay_tied,
    overfits_one_batch,
    gradient_checkpointing_changes_nothing,
]
