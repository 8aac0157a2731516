"""What "verified" means, written once: each property is a function of one declared model, and raises where it fails.

`test_properties.py` runs them all over every declared model; `test_mutations.py` plants mistakes and asks that some
property notices. Parameters are redrawn at a visible scale first: fresh initialisation (zero biases, unit gains, tiny
weights) hides mistakes.
"""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from declared import Declared
from torch import Tensor, nn

from glassformer.models.language_model import LanguageModel
from glassformer.ops.attend import ATTEND
from glassformer.ops.cross_entropy import CROSS_ENTROPY
from glassformer.parts import MixtureOfExperts, kernels, use_kernels
from glassformer.parts.experts import every_expert

Property = Callable[[Declared], None]


def redraw(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter anew, at a scale where each one matters to the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            unit = 1.0 if name.endswith("weight") and parameter.ndim == 1 else 0.0
            width = parameter.shape[-1] if parameter.ndim > 1 else 4
            parameter.copy_(unit + noise * (1.2 / width**0.5))
    return model


def build(case: Declared, dtype: torch.dtype = torch.float64) -> LanguageModel:
    """Ours, redrawn, in evaluation mode."""
    return redraw(case.build()).to(dtype).eval()  # type: ignore[return-value]


def steady(model: LanguageModel) -> LanguageModel:
    """Experts by the reference: the last bit of `grouped` depends on how many tokens an expert gets."""
    for module in model.modules():
        if isinstance(module, MixtureOfExperts):
            module.dispatch = every_expert
    return model


def ids(case: Declared, batch: int = 3, length: int = 17, seed: int = 1) -> Tensor:
    """Random token ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(case.config.vocab_size, (batch, length), generator=generator)


def close(ours: Tensor, theirs: Tensor, tolerance: float, what: str) -> None:
    """|ours − theirs| ≤ tolerance · the largest |theirs|."""
    assert ours.shape == theirs.shape, f"{what}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    assert ours.isfinite().all(), f"{what}: not finite"
    scale = max(theirs.abs().max().item(), 1e-30)
    error = (ours.double() - theirs.double()).abs().max().item() / scale
    assert error <= tolerance, f"{what}: differs by {error:.2e} of the largest value; allowed is {tolerance:.0e}"


def close_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float, what: str = "") -> None:
    """Each parameter's gradient, scaled by its own largest value.

    A key's bias adds the same to all scores of a query, which softmax does not see: where no rotation follows, its
    gradient is 0 but for rounding, and is scaled by that of the query's bias.
    """
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        beside = theirs[name.replace(".key.", ".query.")] if name.endswith("key.bias") else expected
        scale = max(expected.abs().max().item(), beside.abs().max().item(), 1e-30)
        error = (ours[name].double() - expected.double()).abs().max().item() / scale
        assert error <= tolerance, f"{what}: gradient of {name} differs by {error:.2e}; allowed is {tolerance:.0e}"


def has_attention(case: Declared) -> bool:
    """Whether there is attention to speak of."""
    return hasattr(case.config, "num_heads")


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Each parameter's gradient, zero where there is none."""
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def loss_and_gradients(model: LanguageModel, x: Tensor, **kwargs: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of predicting `x` from itself, and what it says of each parameter."""
    model.zero_grad()
    loss = model(x, labels=x, **kwargs).loss
    assert loss is not None
    loss.backward()
    return loss.detach(), gradients(model)


# -- the public implementation ---------------------------------------------------------------------------------------


def equals_hugging_face(case: Declared) -> None:
    """Logits, loss and every gradient equal transformers' model, loaded from its folder, under every kernel."""
    if case.theirs is None:
        return
    theirs = redraw(case.theirs()).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = case.model.from_pretrained(folder)
        x = ids(case)
        out = theirs(x, labels=x)
        out.loss.backward()
        expected = {name: parameter for name, parameter in theirs.named_parameters() if parameter.grad is not None}
        reference_grads = _their_gradients_in_our_names(case, theirs, expected, folder)
    runs: list[dict[str, str]] = [{"attend": k} for k in ATTEND if k != "flex"]
    runs += [{"linear": k} for k in ("reference", "measured")] + [{"cross_entropy": k} for k in CROSS_ENTROPY]
    for run in runs:
        with kernels(ours, **run):
            with torch.no_grad():
                close(ours(x).logits, out.logits.detach(), 1e-5, f"{run}: logits")
            loss, grads = loss_and_gradients(ours, x)
            close(loss, out.loss.detach(), 1e-5, f"{run}: loss")
            close_gradients(grads, reference_grads, 1e-4, str(run))


def _their_gradients_in_our_names(
    case: Declared, theirs: Any, parameters: dict[str, nn.Parameter], folder: str
) -> dict[str, Tensor]:
    """A second folder whose weights are the first one's gradients: the same loading gives them our names."""
    state = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    with torch.no_grad():
        for parameter in parameters.values():
            assert parameter.grad is not None
            parameter.copy_(parameter.grad)
    theirs.save_pretrained(f"{folder}/gradients")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
    return {n: p.detach() for n, p in case.model.from_pretrained(f"{folder}/gradients").named_parameters()}


def left_padding_equals_hugging_face(case: Declared) -> None:
    """With padding on the left, and with padding on the right, logits at real tokens equal theirs."""
    if case.theirs is None:
        return
    theirs = redraw(case.theirs()).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = case.model.from_pretrained(folder)
    x = ids(case)
    for pad in (slice(0, 5), slice(12, 17)):
        present = torch.ones_like(x)
        present[1, pad] = 0
        positions = (present.cumsum(-1) - 1).clamp(min=0)
        with torch.no_grad():
            expected = theirs(x, attention_mask=present, position_ids=positions).logits
            close(ours(x, present).logits[present.bool()], expected[present.bool()], 1e-5, f"padding at {pad}")


def theirs_opens_ours(case: Declared) -> None:
    """What `save_pretrained` writes, whole or in shards, transformers opens with equal logits; we, bit for bit."""
    if case.theirs is None:
        return
    ours = build(case, torch.float32)
    x = ids(case)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for shard in (5_000_000_000, 20_000):
            there = Path(folder) / str(shard)
            ours.save_pretrained(there, max_shard_bytes=shard)
            assert (len(list(there.glob("*.safetensors"))) > 1) == (shard == 20_000)
            theirs = type(case.theirs()).from_pretrained(there).eval()
            close(theirs(x).logits, ours(x).logits, 1e-5, "their logits from our folder")
            again = case.model.from_pretrained(there)
            assert again.config == ours.config
            assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))


# -- the cache ---------------------------------------------------------------------------------------------------------


def cache_equals_no_cache(case: Declared) -> None:
    """Token by token with the cache, and prefill in chunks, equal one full forward."""
    model, x = build(case), ids(case)
    full = model(x).logits
    for steps in ([1] * 17, [5, 3, 1, 1, 7], [16, 1], [1, 16]):
        cache = model.new_cache(3, 17)
        parts, start = [], 0
        for t in steps:
            parts.append(model(x[:, start : start + t], cache=cache).logits)
            start += t
            assert cache.length == start
        close(torch.cat(parts, 1), full, 1e-13, f"in steps of {steps}")


def padded_cache_equals_alone(case: Declared) -> None:
    """Decoding a left-padded batch with the cache equals each row alone without either."""
    model, x = build(case), ids(case)
    pads = (0, 4, 9)
    present = torch.ones_like(x)
    for row, pad in enumerate(pads):
        present[row, :pad] = 0
    cache = model.new_cache(3, 17)
    logits = [model(x[:, :12], present[:, :12], cache=cache).logits]
    logits += [model(x[:, i : i + 1], present[:, : i + 1], cache=cache).logits for i in range(12, 17)]
    for row, pad in enumerate(pads):
        alone = model(x[row : row + 1, pad:]).logits
        close(torch.cat(logits, 1)[row, pad:], alone[0], 1e-13, f"row {row}, {pad} pads")


def cache_truncates_and_reorders(case: Declared) -> None:
    """After `truncate`, decoding goes on from there; after `reorder`, each row is the one it was told to be."""
    model, x = build(case), ids(case)
    cache = model.new_cache(3, 20)
    model(x, cache=cache)
    cache.truncate(9)
    close(model(x[:, 9:], cache=cache).logits, model(x).logits[:, 9:], 1e-13, "after truncate")
    cache.truncate(9)
    rows = torch.tensor([2, 0, 2])
    cache.reorder(rows)
    close(model(x[rows, 9:], cache=cache).logits, model(x[rows]).logits[:, 9:], 1e-13, "after reorder")


# -- batches, padding, causality ---------------------------------------------------------------------------------------


def row_alone_equals_row_in_batch(case: Declared) -> None:
    """A row's logits do not depend on its neighbours."""
    model, x = build(case), ids(case)
    full = model(x).logits
    for row in range(3):
        close(model(x[row : row + 1]).logits, full[row : row + 1], 1e-13, f"row {row}")


def left_padding_equals_no_padding(case: Declared) -> None:
    """Pads on the left change nothing at the real tokens, in logits and in the loss's gradients."""
    model, x = build(case), ids(case, batch=1, length=11)
    padded = torch.cat([torch.full((1, 6), 3), x], dim=1)
    present = (torch.arange(17) >= 6).long()[None]
    close(model(padded, present).logits[:, 6:], model(x).logits, 1e-13, "logits")
    labels = padded.masked_fill(present == 0, -100)
    labels[:, 6] = -100  # the first real token is asked of the last pad; no one asks it of an unpadded row
    model.zero_grad()
    model(padded, present, labels).loss.backward()
    got = gradients(model)
    _, expected = loss_and_gradients(model, x)
    close_gradients(got, expected, 1e-12)


def pads_do_not_matter(case: Declared) -> None:
    """Whatever ids stand at padded places, real tokens do not notice; boolean, integer and float masks agree."""
    model, x = steady(build(case)), ids(case)
    present = torch.ones_like(x)
    present[1, :5] = 0
    present[2, 13:] = 0
    other = torch.where(present.bool(), x, (x + 7) % case.config.vocab_size)
    expected = model(x, present).logits[present.bool()]
    assert torch.equal(model(other, present).logits[present.bool()], expected) or not has_attention(case)
    for dtype in (torch.bool, torch.int32, torch.float32):
        assert torch.equal(model(x, present.to(dtype)).logits[present.bool()], expected), dtype


def no_leak_from_the_future(case: Declared) -> None:
    """Editing a token changes no earlier logit, exactly; and does change its own."""
    model, x = steady(build(case)), ids(case)
    for attend in ("reference", "sdpa"):
        if has_attention(case):
            use_kernels(model, attend=attend)
        before = model(x).logits
        for place in (1, 8, 16):
            edited = x.clone()
            edited[:, place] = (edited[:, place] + 1) % case.config.vocab_size
            after = model(edited).logits
            assert torch.equal(after[:, :place], before[:, :place]), f"{attend}: token {place} reaches back"
            assert not torch.equal(after[:, place], before[:, place]), f"{attend}: token {place} does not see itself"


def gradient_reaches_no_future_token(case: Declared) -> None:
    """The gradient of logit t is exactly zero at later embeddings, and not at its own or (with attention) the first."""
    model, x = build(case), ids(case, batch=1)
    seen: list[Tensor] = []
    handle = model.embed.register_forward_hook(lambda _m, _i, out: seen.append(out) or out.retain_grad())
    logits = model(x).logits
    handle.remove()
    logits[0, 8].sum().backward()
    reach = seen[0].grad[0].abs().sum(-1)
    assert (reach[9:] == 0).all()
    assert reach[8] > 0
    if has_attention(case):
        assert (reach[:9] > 0).all(), "some earlier token is not seen"


def windows_reach_as_far_as_their_layers(case: Declared) -> None:
    """Layer by layer a window reaches window_size − 1 tokens further back, and not one more."""
    size = getattr(case.config, "window_size", None)
    if size is None or hasattr(case.config, "global_every"):
        return
    model, x = steady(build(case)), ids(case)
    reach = case.config.num_layers * (size - 1)
    before = model(x).logits
    for edited, changes in ((16 - reach - 1, False), (16 - reach, True)):
        other = x.clone()
        other[:, edited] = (other[:, edited] + 1) % case.config.vocab_size
        assert torch.equal(model(other).logits[:, 16], before[:, 16]) != changes, f"token {edited} at 16"


def fully_padded_row_is_finite(case: Declared) -> None:
    """A row that is all padding gives finite logits and gradients, and leaves the other rows alone."""
    model, x = build(case, torch.float32), ids(case)
    present = torch.ones_like(x)
    present[1] = 0
    for attend in [k for k in ATTEND if k != "flex"] if has_attention(case) else [None]:
        if attend:
            use_kernels(model, attend=attend)
        model.zero_grad()
        out = model(x, present, x.masked_fill(present == 0, -100))
        out.loss.backward()
        assert model(x, present).logits.isfinite().all(), attend
        assert all(grad.isfinite().all() for grad in gradients(model).values()), attend
        close(model(x, present).logits[[0, 2]], model(x[[0, 2]]).logits, 1e-5, f"{attend}: the other rows")


# -- the loss ----------------------------------------------------------------------------------------------------------


def loss_is_the_mean_over_counted_tokens(case: Declared) -> None:
    """labels are shifted inside, targets are not; −100 is not counted; nothing counted gives 0; kernels agree."""
    model, x = build(case), ids(case)
    targets = torch.cat([x[:, 1:], torch.full((3, 1), -100)], dim=1)
    targets[0, 3:9] = -100
    labels = torch.cat([x[:, :1], targets[:, :-1]], dim=1)
    log_p = model(x).logits.log_softmax(-1)
    counted = targets != -100
    expected = -log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0][counted].sum() / counted.sum()
    for name in CROSS_ENTROPY:
        if case.name == "bigram" and name == "chunked":
            continue  # its head is no matrix: there is nothing to chunk
        with kernels(model, cross_entropy=name):
            close(model(x, targets=targets).loss, expected, 1e-12, f"{name}: targets")
            close(model(x, labels=labels).loss, expected, 1e-12, f"{name}: labels")
            nothing = model(x, targets=torch.full_like(x, -100)).loss
            nothing.backward()
            assert nothing == 0
            assert all((grad == 0).all() for grad in gradients(model).values())


def chunked_cross_entropy_equals_plain(case: Declared) -> None:
    """The loss computed in chunks, logits never whole, has the same value and gradients."""
    if not has_attention(case):
        return
    model, x = build(case), ids(case)
    loss, grads = loss_and_gradients(model, x)
    with kernels(model, cross_entropy="chunked"):
        again, chunked = loss_and_gradients(model, x)
    close(again, loss, 1e-13, "loss")
    close_gradients(chunked, grads, 1e-12)


# -- kernels, dtypes, state --------------------------------------------------------------------------------------------


def every_attention_kernel_equals_the_reference(case: Declared) -> None:
    """Logits and gradients agree, with and without padding."""
    if not has_attention(case):
        return
    model, x = build(case), ids(case)
    present = torch.ones_like(x)
    present[1, :5] = 0
    labels = x.masked_fill(present == 0, -100)
    for mask in (None, present):
        results = {}
        for name in [k for k in ATTEND if k != "flex"]:
            use_kernels(model, attend=name)
            model.zero_grad()
            out = model(x, mask, labels)
            out.loss.backward()
            results[name] = (out.logits.detach()[present.bool()], gradients(model))
        for name, (logits, grads) in results.items():
            close(logits, results["reference"][0], 1e-12, f"{name}: logits")
            close_gradients(grads, results["reference"][1], 1e-11, name)


def grouped_experts_equal_every_expert(case: Declared) -> None:
    """Tokens sent to their experts alone give what all experts, weighted, give: logits and gradients."""
    model, x = build(case), ids(case)
    logits, (_, grads) = model(x).logits, loss_and_gradients(model, x)
    same = steady(model)
    close(logits, same(x).logits, 1e-13, "logits")
    close_gradients(grads, loss_and_gradients(same, x)[1], 1e-12)


def bfloat16_is_finite_and_near(case: Declared) -> None:
    """In bfloat16, large activations too, logits are finite; at ordinary scale they are near float32's."""
    model, x = build(case, torch.float32), ids(case)
    for module in model.modules():
        if isinstance(module, MixtureOfExperts):  # of two experts that are nearly as good, rounding picks one: take all
            module.router.num_chosen = len(module.experts)
            module.router.num_chosen_groups = getattr(module.router, "num_groups", None)
    exact = model(x).logits
    half = copy.deepcopy(model).to(torch.bfloat16)
    close(half(x).logits.float(), exact, 0.12, "logits in bfloat16")
    with torch.no_grad():
        for parameter in half.parameters():
            parameter.mul_(30)
    assert half(x).logits.isfinite().all()


def evaluation_is_deterministic(case: Declared) -> None:
    """Twice the same in eval mode; in training, dropout follows the seed, and is there where the config says so."""
    model, x = build(case), ids(case)
    assert torch.equal(model(x).logits, model(x).logits)
    model.train()
    outs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(model(x).logits)
    assert torch.equal(outs[0], outs[1])
    has_dropout = any(getattr(case.config, name, 0) > 0 for name in vars(case.config) if name.endswith("dropout"))
    assert torch.equal(outs[0], outs[2]) != has_dropout


def every_parameter_gets_a_gradient(case: Declared) -> None:
    """No parameter is dead, and none of its own is missing from the state dict."""
    model, x = build(case), ids(case)
    _, grads = loss_and_gradients(model, x)
    assert grads.keys() | {name for name, _ in model.named_buffers()} == model.state_dict().keys()
    exempt = "attention.key.bias"  # softmax does not see a shift common to all keys
    dead = [name for name, grad in grads.items() if not (grad.abs() > 1e-12).any() and not name.endswith(exempt)]
    assert not dead


def tied_weights_stay_tied(case: Declared) -> None:
    """Through cast, deep copy and loading, the head reads the embedding."""
    model = build(case)
    if not getattr(case.config, "tied", case.name == "gpt"):
        return
    x = ids(case)
    for same in (model, copy.deepcopy(model), copy.deepcopy(model).float()):
        before = same(x).logits
        with torch.no_grad():
            same.embed.weight.mul_(2)
        assert not torch.allclose(same(x).logits, before)
        assert same.head.weight is same.embed.weight
    fresh = case.build()
    fresh.load_state_dict(model.float().state_dict())
    assert torch.equal(fresh.head.weight, model.embed.weight)


def overfits_one_batch(case: Declared) -> None:
    """A hundred steps on one batch drive the loss far down."""
    torch.manual_seed(0)
    model, x = case.build().train(), ids(case, batch=4, length=12)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    rate = 0.3 if case.name == "bigram" else 1e-2
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    first = model(x, labels=x).loss.item()
    for _ in range(80):
        optimizer.zero_grad()
        loss = model(x, labels=x).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < (0.5 if has_attention(case) else 0.75) * first, (first, loss.item())


def gradient_checkpointing_changes_nothing(case: Declared) -> None:
    """Recomputing the blocks in the backward gives bit-equal gradients, dropout included."""
    from glassformer.training import checkpoint_activations

    if not has_attention(case):
        return
    model, x = build(case, torch.float32).train(), ids(case)
    torch.manual_seed(3)
    loss, grads = loss_and_gradients(model, x)
    checkpoint_activations(model)
    torch.manual_seed(3)
    again, recomputed = loss_and_gradients(model, x)
    assert torch.equal(loss, again)
    assert all(torch.equal(grad, recomputed[name]) for name, grad in grads.items())


def greedy_equals_hugging_face(case: Declared) -> None:
    """Greedy decoding of a padded batch writes the tokens that transformers writes."""
    if case.theirs is None or "dynamic" in case.name:
        return
    theirs = redraw(case.theirs()).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = case.model.from_pretrained(folder)
    x = ids(case, batch=2, length=9)
    present = torch.ones_like(x)
    present[1, :4] = 0
    options: dict[str, Any] = dict(max_new_tokens=12, do_sample=False)
    expected = theirs.generate(x, attention_mask=present, pad_token_id=0, eos_token_id=None, **options)
    assert torch.equal(ours.generate(x, attention_mask=present, **options), expected)


PROPERTIES: list[Property] = [
    equals_hugging_face,
    left_padding_equals_hugging_face,
    theirs_opens_ours,
    cache_equals_no_cache,
    padded_cache_equals_alone,
    cache_truncates_and_reorders,
    row_alone_equals_row_in_batch,
    left_padding_equals_no_padding,
    pads_do_not_matter,
    no_leak_from_the_future,
    gradient_reaches_no_future_token,
    windows_reach_as_far_as_their_layers,
    fully_padded_row_is_finite,
    loss_is_the_mean_over_counted_tokens,
    chunked_cross_entropy_equals_plain,
    every_attention_kernel_equals_the_reference,
    grouped_experts_equal_every_expert,
    bfloat16_is_finite_and_near,
    evaluation_is_deterministic,
    every_parameter_gets_a_gradient,
    tied_weights_stay_tied,
    overfits_one_batch,
    gradient_checkpointing_changes_nothing,
    greedy_equals_hugging_face,
]
