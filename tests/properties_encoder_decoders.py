"""What holds for encoder-decoders: the source and its padding, the decoder's cache and causality, generation."""

import copy
import tempfile
from typing import Any

import torch
from declaration import IGNORE, Declared, Inputs
from properties import (
    KERNELS,
    LEFT,
    RIGHT,
    Property,
    both,
    build,
    close,
    close_gradients,
    has_attention,
    loss_and_gradients,
    losses_of,
    run,
)
from torch import Tensor

from glassformer.generation import stream
from glassformer.parts import kernels, use_kernels


def sources(case: Declared, batch: int = 3, seed: int = 1) -> Inputs:
    """Inputs without labels, the middle row's source padded on the left."""
    inputs = {name: value for name, value in case.inputs(batch, seed).items() if name != "labels"}
    mask = torch.ones_like(inputs["input_ids"])
    mask[1, LEFT] = 0
    return inputs | {"attention_mask": mask}


def decoded_with_a_cache_equals_whole(case: Declared) -> None:
    """Token by token with the cache, and in chunks, equals one pass over the target, the source encoded once."""
    model, inputs = build(case), sources(case)
    target, mask = inputs["decoder_input_ids"], inputs["attention_mask"]
    whole = model(**inputs)
    encoded = whole.encoder_last_hidden_state
    for steps in ([1] * 11, [4, 1, 6], [10, 1], [1, 10]):
        cache = model.new_cache(3, 11)
        common = {"attention_mask": mask, "encoder_output": encoded, "cache": cache}
        parts = [model(decoder_input_ids=part, **common).logits for part in target.split(steps, 1)]
        assert cache.length == 11
        close(torch.cat(parts, 1), whole.logits, 1e-13, f"in steps of {steps}")


def cached_context_is_read_and_not_made_again(case: Declared) -> None:
    """The keys and values of the encoder's output are computed at the first step; another output is refused."""
    model, inputs = build(case), sources(case)
    encoded = model.encode(inputs["input_ids"])
    cache, calls = model.new_cache(3, 11), []
    for name, module in model.named_modules():
        if name.endswith("cross_attention.key"):
            module.register_forward_hook(lambda *_: calls.append(1))
    ids = inputs["decoder_input_ids"]
    for i in range(4):
        model(decoder_input_ids=ids[:, i : i + 1], encoder_output=encoded, cache=cache)
    assert len(calls) == case.config.num_decoder_layers
    try:
        model(decoder_input_ids=ids[:, 4:5], encoder_output=encoded + 1, cache=cache)
    except ValueError as error:
        assert "a new context needs a new cache" in str(error)  # noqa: PT017
    else:
        raise AssertionError("keys and values of another source were used")


def cache_truncates_and_reorders(case: Declared) -> None:
    """After `truncate`, decoding goes on from there; after `reorder`, each row is the one it was told to be."""
    model, inputs = build(case), sources(case)
    ids, encoded = inputs["decoder_input_ids"], model.encode(inputs["input_ids"][:1])
    cache = model.new_cache(3, 11)
    full = model(decoder_input_ids=ids, encoder_output=encoded, cache=cache).logits
    cache.truncate(5)
    again = model(decoder_input_ids=ids[:, 5:], encoder_output=encoded, cache=cache).logits
    close(again, full[:, 5:], 1e-13, "after truncate")
    cache.truncate(5)
    chosen = torch.tensor([2, 0, 2])
    cache.reorder(chosen)
    again = model(decoder_input_ids=ids[chosen, 5:], encoder_output=encoded, cache=cache).logits
    close(again, full[chosen, 5:], 1e-13, "after reorder")


def targets_that_share_a_source_equal_each_with_its_own(case: Declared) -> None:
    """One encoder output for several rows of targets is the same as a copy for each, under every kernel."""
    model, inputs = build(case), sources(case, batch=6)
    mask, ids = inputs["attention_mask"][:2], inputs["decoder_input_ids"]
    encoded = model.encode(inputs["input_ids"][:2], mask)
    expected = model.decode(ids, encoded.repeat_interleave(3, 0), mask.repeat_interleave(3, 0))
    for name in KERNELS:
        with kernels(model, attend=name):
            close(model.decode(ids, encoded, mask), expected, 1e-12, name)


def encoder_output_handed_in_equals_computed(case: Declared) -> None:
    """`encoder_output` in place of the source gives the same logits, bit for bit."""
    model, inputs = build(case), sources(case)
    out = model(**inputs)
    del inputs["input_ids"]
    assert torch.equal(model(**inputs, encoder_output=out.encoder_last_hidden_state).logits, out.logits)


def no_leak_from_the_future_of_the_target(case: Declared) -> None:
    """Editing a target token changes no earlier logit, exactly, and its own; editing the source changes all."""
    model, inputs = build(case), sources(case)
    target = inputs["decoder_input_ids"]
    for attend in ("reference", "sdpa") if has_attention(model) else ():
        use_kernels(model, attend=attend)
        before = model(**inputs).logits
        for place in (1, 5, 10):
            edited = target.clone()
            edited[:, place] = (edited[:, place] + 1) % case.config.vocab_size
            after = model(**inputs | {"decoder_input_ids": edited}).logits
            assert torch.equal(after[:, :place], before[:, :place]), f"{attend}: token {place} reaches back"
            assert (after[:, place] != before[:, place]).any(-1).all(), f"{attend}: {place} does not see itself"
        other = inputs["input_ids"].clone()
        other[:, 16] = (other[:, 16] + 1) % case.config.vocab_size
        after = model(**inputs | {"input_ids": other}).logits
        assert (after != before).any(-1).all(), f"{attend}: the target does not see the source"


def padded_sources_equal_unpadded(case: Declared) -> None:
    """Pads of the source change nothing, on the right, and on the left where positions are distances."""
    model, inputs = build(case), sources(case)
    ids, target = inputs["input_ids"], inputs["decoder_input_ids"]
    expected = model(ids[:, :12], decoder_input_ids=target).logits
    mask = torch.ones_like(ids)
    mask[:, 12:] = 0
    close(model(ids, mask, target).logits, expected, 1e-13, "pads on the right")
    if not model.has_position_table:
        close(model(ids.roll(5, 1), mask.roll(5, 1), target).logits, expected, 1e-13, "pads on the left")


def padded_targets_equal_unpadded(case: Declared) -> None:
    """`decoder_attention_mask` hides a target's padding: what stands there is not seen, with and without a cache."""
    model, inputs = build(case), sources(case)
    target = inputs["decoder_input_ids"]
    mask = torch.ones_like(target)
    mask[2, :3] = 0
    other = torch.where(mask.bool(), target, (target + 7) % case.config.vocab_size)
    assert not torch.equal(other, target)
    expected = model(**inputs, decoder_attention_mask=mask).logits
    visible = mask.bool()
    again = model(**inputs | {"decoder_input_ids": other}, decoder_attention_mask=mask).logits
    close(again[visible], expected[visible], 1e-13, "what stands at padding")
    cache, encoded = model.new_cache(3, 11), model.encode(inputs["input_ids"], inputs["attention_mask"])
    parts = [
        model(
            attention_mask=inputs["attention_mask"], decoder_input_ids=other[:, start:stop], encoder_output=encoded,
            decoder_attention_mask=mask[:, :stop], cache=cache,
        ).logits
        for start, stop in ((0, 6), (6, 7), (7, 11))
    ]  # fmt: skip
    close(torch.cat(parts, 1)[visible], expected[visible], 1e-13, "with a cache")


def labels_alone_are_shifted_behind_the_start_token(case: Declared) -> None:
    """Without decoder_input_ids the decoder reads the labels, shifted; the loss is the mean of those that count."""
    model, inputs = build(case), case.inputs()
    labels = inputs["labels"]
    labels[1, 3:5] = IGNORE
    shifted = torch.cat([torch.full((3, 1), case.config.decoder_start_token_id), labels[:, :-1]], 1)
    shifted[shifted == IGNORE] = case.config.pad_token_id
    source = {"input_ids": inputs["input_ids"]}
    log_p = model(**source, decoder_input_ids=shifted).logits.log_softmax(-1)
    counted = labels != IGNORE
    expected = -log_p.gather(-1, labels.clamp(min=0)[..., None])[..., 0][counted].mean()
    for name in losses_of(model):
        with kernels(model, cross_entropy=name):
            loss, grads = loss_and_gradients(model, source | {"labels": labels})
            close(loss, expected.detach(), 1e-12, f"{name}: loss")
            _, others = loss_and_gradients(model, source | {"labels": labels, "decoder_input_ids": shifted})
            close_gradients(grads, others, 1e-12, name)


def labels_alone_equal_hugging_face(case: Declared) -> None:
    """Loss and logits from the labels alone, −100 among them, are transformers' own."""
    if case.theirs is None:
        return
    inputs = case.inputs()
    del inputs["decoder_input_ids"]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        theirs, ours = both(case, folder)
        expected = theirs(**inputs)
        got = run(ours, inputs)
        close(got["loss"], expected.loss, 1e-5, "loss")
        close(ours(**inputs).logits, expected.logits, 1e-5, "logits")


GENERATIONS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.4},
    {"eos_token_id": [3, 17, 20, 41]},
    {"num_beams": 4},
    {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 2.0, "eos_token_id": [*range(3, 60, 4)]},
    {"num_beams": 3, "num_return_sequences": 2, "length_penalty": -1.0, "eos_token_id": [3, 17, 20, 41]},
    {"num_beams": 3, "early_stopping": True, "length_penalty": 2.0, "eos_token_id": [*range(3, 60, 4)]},
    {"num_beams": 3, "early_stopping": "never", "length_penalty": 1.5, "eos_token_id": [*range(3, 60, 4)]},
    {"num_beams": 2, "early_stopping": "never", "length_penalty": 0.0, "repetition_penalty": 1.3, "eos_token_id": 7},
]


def generation_equals_hugging_face(case: Declared) -> None:
    """Greedy and beam search write transformers' tokens, for sources padded on the left, on the right, and whole.

    Behind its end a target is padding; their beam search writes the end token there where padding is 0.
    """
    if case.theirs is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = both(case, folder)
    x = case.inputs()["input_ids"]
    mask = torch.ones_like(x)
    mask[0, LEFT], mask[1, RIGHT] = 0, 0
    for options in GENERATIONS:
        pad = {"pad_token_id": 2} if "num_beams" in options else {}
        expected = theirs.generate(x, attention_mask=mask, do_sample=False, max_new_tokens=12, **options, **pad)
        got = ours.generate(x, mask, max_new_tokens=12, **options, **pad)
        assert torch.equal(got, expected), f"{options}: {got.tolist()}, theirs {expected.tolist()}"


def generation_alone_equals_in_a_batch(case: Declared) -> None:
    """A source's target, greedy, by beams or drawn from its own seed, does not depend on what is beside it."""
    model, ids = build(case, torch.float32), case.inputs()["input_ids"].tolist()
    lists = [ids[0], ids[1][:6], ids[2][:11]]
    for options in ({}, {"num_beams": 3}, {"do_sample": True, "seed": 3, "top_k": 9}):
        together = model.generate(lists, max_new_tokens=9, **options)
        assert (together[:, 0] == case.config.decoder_start_token_id).all()
        for row, source in enumerate(lists):
            own = options | ({"seed": 3 + row} if "seed" in options else {})
            alone = model.generate(source, max_new_tokens=9, **own)[0]
            assert torch.equal(together[row, : len(alone)], alone), f"row {row}, {options}"
            assert (together[row, len(alone) :] == case.config.pad_token_id).all()


def targets_end_as_the_config_says(case: Declared) -> None:
    """A target ends with the config's end token, then comes padding; a forced first or last token is there."""
    model, x = build(case, torch.float32), case.inputs()["input_ids"]
    free = model.generate(x, max_new_tokens=9)
    pad, end = case.config.pad_token_id, int(free[0, 4])
    model.config = copy.copy(case.config)
    object.__setattr__(model.config, "eos_token_id", end)
    place = int((free[0, 1:] == end).int().argmax()) + 1
    for options in ({}, {"do_sample": True, "top_k": 1}):
        got = model.generate(x, max_new_tokens=9, **options)[0]
        assert torch.equal(got[: place + 1], free[0, : place + 1])
        assert (got[place + 1 :] == pad).all()
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        object.__setattr__(model.config, name, 33)
    for options in ({"max_new_tokens": 6}, {"max_length": 7}, {"max_new_tokens": 6, "num_beams": 3}):
        got = model.generate(x, **options)
        assert (got[:, 1] == 33).all(), options
        whole = got[(got[:, 1:-1] != end).all(1)]  # those that did not end before
        assert (whole[:, 6:] == 33).all(), options


def samples_follow_the_distribution_of_a_whole_pass(case: Declared) -> None:
    """Every drawn token is what its number picks of the model's own distribution at its place, no cache in between."""
    model, x = build(case, torch.float32), case.inputs()["input_ids"][:2]
    drawn: list[Tensor] = []

    def look(ids: Tensor, logits: Tensor) -> Tensor:
        drawn.append(logits)
        return logits

    out = model.generate(
        x, do_sample=True, seed=0, max_new_tokens=6, num_return_sequences=2, processors=(look,), temperature=0.7
    )
    whole = model(x.repeat_interleave(2, 0), decoder_input_ids=out[:, :-1]).logits
    seen = torch.stack(drawn, 1)
    going = (out[:, :-1] != case.config.eos_token_id).cumprod(1).bool()[:, : seen.shape[1]]
    close(seen[going], whole[:, : seen.shape[1]][going], 1e-5, "logits that were drawn from")
    assert len({tuple(row) for row in out.tolist()}) > 2, "the samples of one source are all the same"


def streaming_gives_what_generate_gives(case: Declared) -> None:
    """`stream` yields the columns of `generate` behind the start token, one by one."""
    model, x = build(case, torch.float32), case.inputs()["input_ids"]
    columns = torch.stack(list(stream(model, x, max_new_tokens=8)), 1)
    assert torch.equal(columns, model.generate(x, max_new_tokens=8)[:, 1:])


ENCODER_DECODER: list[Property] = [
    decoded_with_a_cache_equals_whole,
    cached_context_is_read_and_not_made_again,
    cache_truncates_and_reorders,
    targets_that_share_a_source_equal_each_with_its_own,
    encoder_output_handed_in_equals_computed,
    no_leak_from_the_future_of_the_target,
    padded_sources_equal_unpadded,
    padded_targets_equal_unpadded,
    labels_alone_are_shifted_behind_the_start_token,
    labels_alone_equal_hugging_face,
    generation_equals_hugging_face,
    generation_alone_equals_in_a_batch,
    targets_end_as_the_config_says,
    samples_follow_the_distribution_of_a_whole_pass,
    streaming_gives_what_generate_gives,
]
