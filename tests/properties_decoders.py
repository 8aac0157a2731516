"""What holds for decoders: the cache, causality, windows, the shifted loss, greedy decoding."""

import tempfile
from typing import Any

import torch
from declaration import LENGTH, Declared, draw_ids
from properties import (
    Property,
    both,
    build,
    close,
    close_gradients,
    gradients,
    has_attention,
    loss_and_gradients,
    losses_of,
    steady,
)
from torch import Tensor

from glassformer.parts import kernels, use_kernels


def ids(case: Declared, batch: int = 3, length: int = LENGTH, seed: int = 1) -> Tensor:
    """Random token ids."""
    return draw_ids(case.config.vocab_size, batch, length, torch.Generator().manual_seed(seed))


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
    _, expected = loss_and_gradients(model, {"input_ids": x, "labels": x})
    close_gradients(got, expected, 1e-12)


def no_leak_from_the_future(case: Declared) -> None:
    """Editing a token changes no earlier logit, exactly; and does change its own."""
    model, x = steady(build(case)), ids(case)
    for attend in ("reference", "sdpa"):
        if has_attention(model):
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
    if has_attention(model):
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


def loss_is_the_mean_over_counted_tokens(case: Declared) -> None:
    """labels are shifted inside, targets are not; −100 is not counted; nothing counted gives 0; kernels agree."""
    model, x = build(case), ids(case)
    targets = torch.cat([x[:, 1:], torch.full((3, 1), -100)], dim=1)
    targets[0, 3:9] = -100
    labels = torch.cat([x[:, :1], targets[:, :-1]], dim=1)
    log_p = model(x).logits.log_softmax(-1)
    counted = targets != -100
    expected = -log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0][counted].sum() / counted.sum()
    for name in losses_of(model):
        with kernels(model, cross_entropy=name):
            close(model(x, targets=targets).loss, expected, 1e-12, f"{name}: targets")
            close(model(x, labels=labels).loss, expected, 1e-12, f"{name}: labels")
            nothing = model(x, targets=torch.full_like(x, -100)).loss
            nothing.backward()
            assert nothing == 0
            assert all((grad == 0).all() for grad in gradients(model).values())


def greedy_equals_hugging_face(case: Declared) -> None:
    """Greedy decoding of a padded batch writes the tokens that transformers writes."""
    if case.theirs is None or "dynamic" in case.name:
        return
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = both(case, folder)
    x = ids(case, batch=2, length=9)
    present = torch.ones_like(x)
    present[1, :4] = 0
    options: dict[str, Any] = dict(max_new_tokens=12, do_sample=False)
    expected = theirs.generate(x, attention_mask=present, pad_token_id=0, eos_token_id=None, **options)
    assert torch.equal(ours.generate(x, attention_mask=present, **options), expected)


DECODER: list[Property] = [
    cache_equals_no_cache,
    padded_cache_equals_alone,
    cache_truncates_and_reorders,
    left_padding_equals_no_padding,
    no_leak_from_the_future,
    gradient_reaches_no_future_token,
    windows_reach_as_far_as_their_layers,
    loss_is_the_mean_over_counted_tokens,
    greedy_equals_hugging_face,
]
