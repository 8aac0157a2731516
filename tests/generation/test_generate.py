"""Continuations equal those of transformers, and do not depend on batch, padding, cache or what else is asked."""

from pathlib import Path
from typing import Any

import pytest
import torch
from declaration import VOCAB, Declared
from declared_decoders import DECODERS
from properties import build, redraw
from properties_decoders import ids
from torch import Tensor
from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor

from glassformer.generation import GenerationOptions, generate, stream
from glassformer.models import GPT2, GPT2Config
from glassformer.models.language_model import LanguageModel
from glassformer.ops import linear_largest, machine
from glassformer.ops.linear import linear_kernel
from glassformer.ops.linear_largest import Largest
from glassformer.parts import use_kernels
from glassformer.parts.linear import TiedLinear

BY_NAME = {case.name: case for case in DECODERS}
WITH_PEER = [BY_NAME[name] for name in ("gpt2", "llama-grouped-biased")]
ATTENDING = [BY_NAME[name] for name in ("gpt", "gpt2", "llama", "llama-yarn")]
MANY_ENDS = {"num_beams": 2, "num_return_sequences": 2, "eos_token_id": [*range(0, 60, 3)]}
UNEQUAL = [[5, 9, 2, 40, 7, 7, 31], [3], [12, 60, 0, 8]]


def each(cases: list[Declared]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[LanguageModel, Any]]:
    """Each case with a peer: ours and theirs, with the same weights, at a scale where every token is another."""
    out = {}
    for case in WITH_PEER:
        assert case.theirs is not None
        theirs = redraw(case.theirs()).eval()
        folder: Path = tmp_path_factory.mktemp(case.name)
        theirs.save_pretrained(folder)
        out[case.name] = case.model.from_pretrained(folder), theirs
    return out


def small(case: Declared) -> LanguageModel:
    return build(case, torch.float32)


# Equal to transformers


@each(WITH_PEER)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.4},
        {"eos_token_id": [3, 17, 20, 41]},
        {"num_beams": 4},
        {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 2.0},
        {"num_beams": 3, "num_return_sequences": 2, "length_penalty": -1.0, "eos_token_id": [3, 17, 20, 41]},
        {"num_beams": 4, "num_return_sequences": 4, "eos_token_id": [*range(0, 60, 5)]},
        # Where length is rewarded it matters when a search ends, and that nothing is added after its end.
        {"num_beams": 3, "num_return_sequences": 3, "eos_token_id": [*range(0, 60, 4)], "length_penalty": 3.0},
        MANY_ENDS | {"early_stopping": True, "length_penalty": 2.0},
        MANY_ENDS | {"early_stopping": "never", "length_penalty": 1.5},
        {"num_beams": 2, "repetition_penalty": 1.4, "eos_token_id": 7},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 0.7},
        {"no_repeat_ngram_size": 3, "num_beams": 3, "min_length": 14, "eos_token_id": [*range(0, 60, 4)]},
        {"min_new_tokens": 6, "eos_token_id": [*range(0, 60, 3)]},
    ],
    ids=str,
)
def test_greedy_and_beam_search_write_the_tokens_of_transformers(
    case: Declared, options: dict, pairs: dict[str, tuple[LanguageModel, Any]]
) -> None:
    ours, theirs = pairs[case.name]
    theirs.generation_config.eos_token_id = None
    for seed in range(3):
        x = ids(case, batch=5, length=8, seed=seed)
        # Not 0, in place of which their beam search writes the end token.
        both = {"max_new_tokens": 14, "pad_token_id": 2, **options}
        expected = theirs.generate(x, attention_mask=torch.ones_like(x), do_sample=False, **both)
        assert torch.equal(ours.generate(x, **both), expected)


@each(WITH_PEER)
def test_a_processor_of_transformers_may_be_used(case: Declared, pairs: dict[str, tuple[LanguageModel, Any]]) -> None:
    ours, theirs = pairs[case.name]
    x, own = ids(case, batch=2, length=5), NoRepeatNGramLogitsProcessor(1)
    expected = theirs.generate(
        x, attention_mask=torch.ones_like(x), max_new_tokens=20, do_sample=False, pad_token_id=0, eos_token_id=None,
        logits_processor=LogitsProcessorList([own]),
    )  # fmt: skip
    assert torch.equal(ours.generate(x, max_new_tokens=20, processors=(own,)), expected)


# Each row by itself


@each(ATTENDING)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"eos_token_id": [*range(0, 60, 7)]},
        {"repetition_penalty": 1.5},
        {"num_beams": 3, "eos_token_id": [1, 2, 3]},
    ],
    ids=str,
)
def test_prompts_of_unequal_lengths_are_continued_as_each_is_alone(case: Declared, options: dict) -> None:
    model = small(case)
    together = model.generate(UNEQUAL, max_new_tokens=16, pad_token_id=0, **options)
    longest = max(map(len, UNEQUAL))
    for row, prompt in zip(together, UNEQUAL, strict=True):
        alone = model.generate(prompt, max_new_tokens=16, pad_token_id=0, **options)[0]
        assert row[: longest - len(prompt)].tolist() == [0] * (longest - len(prompt))
        real = row[longest - len(prompt) :]
        assert torch.equal(real[: len(alone)], alone)
        assert (real[len(alone) :] == 0).all(), "a finished row must say padding"


def test_rows_finish_at_different_times_and_then_say_padding() -> None:
    model = small(BY_NAME["gpt2"])
    free = model.generate(UNEQUAL, max_new_tokens=16)[:, 7:]
    eos = int(free[0, 4])
    out = model.generate(UNEQUAL, max_new_tokens=16, eos_token_id=eos, pad_token_id=1)[:, 7:]
    ends = [row.tolist().index(eos) if eos in row else 16 for row in free]
    assert len(set(ends)) > 1, "this seed no longer shows what it should"
    for row, unstopped, end in zip(out, free, ends, strict=True):
        assert torch.equal(row[: end + 1], unstopped[: end + 1][: len(row)])
        assert (row[end + 1 :] == 1).all()


def test_generation_stops_when_all_rows_have_finished() -> None:
    model = small(BY_NAME["gpt2"])
    free = model.generate(UNEQUAL[:1], max_new_tokens=16)[0].tolist()
    eos, end = next((token, place) for place, token in enumerate(free) if place > 8 and token not in free[7:place])
    out = model.generate(UNEQUAL[:1], max_new_tokens=16, eos_token_id=eos)
    assert out.tolist() == [free[: end + 1]]


def test_padding_ids_of_the_caller_are_given_back_and_change_nothing() -> None:
    model = small(BY_NAME["gpt2"])
    x, mask = torch.tensor([[50, 51, 3, 4], [1, 2, 3, 4]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    out = model.generate(x, attention_mask=mask, max_new_tokens=6, repetition_penalty=1.5)
    assert torch.equal(out[:, :4], x)
    assert torch.equal(out[:1, 2:], model.generate([[3, 4]], max_new_tokens=6, repetition_penalty=1.5))


def test_processors_see_no_padding_among_what_has_been_said() -> None:
    model, seen = small(BY_NAME["gpt2"]), []

    def look(ids: Tensor, logits: Tensor) -> Tensor:
        seen.append([set(row.tolist()) for row in ids])
        return logits

    for beams in ({}, {"num_beams": 2}):
        model.generate([[50, 51, 52], [3]], max_new_tokens=1, pad_token_id=9, processors=(look,), **beams)
    assert seen == [[{50, 51, 52}, {3}], [{50, 51, 52}] * 2 + [{3}] * 2]


@each(ATTENDING)
def test_logits_under_left_padding_equal_those_without(case: Declared) -> None:
    model, seen = small(case), []

    def keep(_: Tensor, logits: Tensor) -> Tensor:
        seen.append(logits.clone())
        return logits

    model.generate(UNEQUAL, max_new_tokens=10, processors=(keep,))
    together, scale = torch.stack(seen, 1), torch.stack(seen).abs().max()
    for row, prompt in zip(together, UNEQUAL, strict=True):
        seen.clear()
        model.generate(prompt, max_new_tokens=10, processors=(keep,))
        assert (torch.cat(seen) - row).abs().max() <= 8e-6 * scale


# The loop itself


@each(DECODERS)
def test_greedy_equals_the_argmax_of_whole_forward_passes(case: Declared) -> None:
    model = small(case)
    x = ids(case, batch=2, length=5)
    out = model.generate(x, max_new_tokens=12)
    for _ in range(12):
        x = torch.cat([x, model(x).logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert torch.equal(out, x)


def test_of_equal_logits_the_smallest_id_is_chosen() -> None:
    model = small(BY_NAME["bigram"])
    with torch.no_grad():
        model.embed.weight.zero_()
        model.embed.weight[:, 5:9] = 1.0
    assert model.generate([3], max_new_tokens=4).tolist() == [[3, 5, 5, 5, 5]]


def test_stream_and_callback_give_the_columns_of_generate() -> None:
    model, heard = small(BY_NAME["llama"]), []
    whole = model.generate(UNEQUAL, max_new_tokens=8, on_token=heard.append)
    assert torch.equal(torch.stack(heard, 1), whole[:, 7:])
    assert torch.equal(torch.stack(list(stream(model, UNEQUAL, max_new_tokens=8)), 1), whole[:, 7:])


def test_the_head_sees_one_position_a_step_and_the_prompt_is_read_once() -> None:
    model, hidden, heads = small(BY_NAME["gpt2"]), [], []
    model.norm.register_forward_hook(lambda _, inputs, out: hidden.append(out.shape[1]))
    model.head.register_forward_hook(lambda _, inputs, out: heads.append(out.shape))
    model.generate([1, 2, 3, 4, 5], max_new_tokens=4)
    assert hidden == [5, 1, 1, 1]
    assert heads == [(1, VOCAB)] * 4


def test_max_length_counts_the_prompt() -> None:
    model = small(BY_NAME["gpt2"])
    assert torch.equal(model.generate([1, 2, 3], max_length=10), model.generate([1, 2, 3], max_new_tokens=7))


def test_dropout_is_off_while_generating_and_modes_come_back() -> None:
    model = small(BY_NAME["gpt2"])
    expected = model.generate([1, 2, 3], max_new_tokens=8)
    model.train()
    model.blocks[1].eval()
    assert torch.equal(model.generate([1, 2, 3], max_new_tokens=8), expected)
    assert model.training
    assert model.blocks[0].dropout.training
    assert not model.blocks[1].dropout.training
    partly = stream(model, [1, 2, 3], max_new_tokens=8)
    next(partly)
    partly.close()
    assert model.training


def test_what_is_generated_may_be_trained_on() -> None:
    model = build(BY_NAME["gpt2"], torch.float32).train()
    for options in ({}, {"num_beams": 2}, {"do_sample": True, "seed": 0}):
        for prompts in ([[1, 2, 3], [4]], [[1, 2]]):
            out = model.generate(prompts, max_new_tokens=5, **options)
            loss = model(out, labels=out).loss
            assert loss is not None
            loss.backward()
    for token in stream(model, [1, 2, 3], max_new_tokens=2):
        assert torch.is_grad_enabled(), "no mode of generation may hold for the caller between two tokens"
        model(token[None], targets=token[None]).loss.backward()


# Sliding


def test_a_slid_context_is_the_second_half_of_what_was_seen() -> None:
    model = small(BY_NAME["gpt2"])
    limit = model.config.max_positions
    out = model.generate([[1, 2, 3]], max_new_tokens=2 * limit, slide_context=True)[0]
    first = 0
    for length in range(3, len(out)):
        if length - first > limit:
            first = length - limit // 2
        assert model(out[None, first:length]).logits[0, -1].argmax() == out[length], length


def test_sliding_changes_nothing_while_the_context_fits() -> None:
    model = small(BY_NAME["gpt2"])
    options = {"max_new_tokens": model.config.max_positions - 3}
    assert torch.equal(model.generate([1, 2, 3], slide_context=True, **options), model.generate([1, 2, 3], **options))


# Bad input


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("prompt", "options", "error", "message"),
    [
        ([], {}, ValueError, "prompt 0 is empty"),
        ([[1, 2], []], {}, ValueError, "prompt 1 is empty"),
        (torch.zeros(1, 0, dtype=torch.int64), {}, ValueError, "the prompt is empty: input_ids has shape (1, 0)"),
        (torch.zeros(1, 2, 3, dtype=torch.int64), {}, ValueError, "input_ids has shape (1, 2, 3)"),
        (torch.zeros(1, 2), {}, TypeError, "input_ids has dtype torch.float32"),
        ([1, 2.5], {}, TypeError, "a prompt holds 2.5, a float"),
        ("text", {}, TypeError, "the prompt is text; encode it"),
        (
            [1, VOCAB],
            {},
            ValueError,
            f"prompt 0 holds the id {VOCAB} at place 1; the vocabulary has {VOCAB} ids, 0 to 60",
        ),
        ([[1], [-1]], {}, ValueError, "prompt 1 holds the id -1 at place 0"),
        ([1] * 40, {"max_new_tokens": 9}, ValueError, "a prompt of 40 tokens and 9 new ones exceed the model's 48 pos"),
        ([1] * 49, {"slide_context": True}, ValueError, "the prompt has 49 tokens"),
        ([1] * 9, {"max_new_tokens": None, "max_length": 9}, ValueError, "max_length is 9, and the prompt alone has 9"),
        ([1], {"eos_token_id": VOCAB}, ValueError, "eos_token_id is 61; the vocabulary has 61 ids"),
        ([1], {"eos_token_id": [1, -1]}, ValueError, "eos_token_id is -1"),
        ([1], {"pad_token_id": 99}, ValueError, "pad_token_id is 99"),
        ([1], {"attention_mask": torch.ones(1, 1)}, ValueError, "lists of ids are padded here"),
        (torch.ones(2, 3).long(), {"attention_mask": torch.ones(2, 4)}, ValueError, "attention_mask has shape (2, 4)"),
        (torch.ones(1, 3).long(), {"attention_mask": torch.tensor([[1, 1, 0]])}, ValueError, "pad prompts on the left"),
        (torch.ones(1, 3).long(), {"attention_mask": torch.zeros(1, 3)}, ValueError, "prompt 0 is empty"),
        ([1], {"tempreture": 1.0}, TypeError, "unknown generation option 'tempreture' (did you mean 'temperature'?)"),
        ([1], {"generator": torch.Generator()}, ValueError, "a generator is given beside nothing to draw"),
        ([1], {"generator": torch.Generator(), "do_sample": True, "seed": 1}, ValueError, "beside seed=1; give one"),
        ([1], {"num_beams": 2, "on_token": print}, ValueError, "beams are known only at the end"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_raises_a_sentence_before_any_work(prompt, options: dict, error: type, message: str) -> None:
    model = small(BY_NAME["gpt2"])
    model.hidden = None  # type: ignore[assignment]  # any work would fail in another way
    with pytest.raises(error) as caught:
        generate(model, prompt, **{"max_new_tokens": 3} | options)
    assert message in str(caught.value)


def test_stream_raises_at_the_call() -> None:
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        stream(small(BY_NAME["gpt2"]), [], max_new_tokens=3)


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"num_beams": 2}], ids=str)
def test_logits_that_are_no_numbers_stop_generation(options: dict) -> None:
    model = small(BY_NAME["gpt2"])
    with torch.no_grad():
        model.norm.bias[0] = float("nan")
    with pytest.raises(ValueError, match="the largest logit of row 0 is nan, so no token can be chosen"):
        model.generate([1, 2], max_new_tokens=3, **options)


def test_a_processor_that_removes_every_token_is_named() -> None:
    with pytest.raises(ValueError, match="a processor removed every token"):
        small(BY_NAME["gpt2"]).generate(
            [1], max_new_tokens=3, do_sample=True, processors=(lambda ids, logits: logits - float("inf"),)
        )


def test_given_options_serve_many_calls() -> None:
    model, options = small(BY_NAME["llama"]), GenerationOptions(max_new_tokens=4)
    assert torch.equal(model.generate([1], options=options), model.generate([1], max_new_tokens=4))
    assert model.generate([1], options=options, max_new_tokens=6).shape == (1, 7)


def test_an_end_that_may_not_come_is_asked_for_in_reason() -> None:
    model = build(BY_NAME["gpt2"])
    with pytest.raises(ValueError, match="before it has 13 tokens, but there is room for 12, of which"):
        model.generate([[3] * 8], max_new_tokens=4, min_new_tokens=5, eos_token_id=1)
    with pytest.raises(ValueError, match="no eos_token_id is given to end it"):
        model.generate([[3] * 8], max_new_tokens=4, min_length=10)
    with pytest.raises(ValueError, match="the prompt has 60 tokens and the model 48 positions; shorten it to 47, or"):
        model.generate([[3] * 60], max_new_tokens=4, slide_context=True)


@pytest.mark.parametrize("options", [{"repetition_penalty": 3.0}, {"do_sample": True, "seed": 0}, {}])
def test_all_logits_are_computed_where_more_is_asked_of_them_than_which_is_the_largest(
    options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_largest, "WORTH", 0)
    monkeypatch.setattr(machine, "int8_pays", lambda: True)
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=5000, max_positions=64, dim=32, num_layers=2, num_heads=4)).eval()
    model.embed.weight.data.mul_(8)
    asked: list[Any] = []
    largest = Largest.__call__
    monkeypatch.setattr(Largest, "__call__", lambda *args: asked.append(1) or largest(*args))
    ours = model.generate([[1, 2, 3]], max_new_tokens=20, **options)
    assert bool(asked) != bool(options)
    use_kernels(model, linear="onednn")  # has no such way
    assert torch.equal(model.generate([[1, 2, 3]], max_new_tokens=20, **options), ours)


@pytest.mark.parametrize("bias", [False, True])
def test_the_most_probable_token_is_the_same_where_most_logits_are_not_computed(
    bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_largest, "WORTH", 0)
    monkeypatch.setattr(machine, "int8_pays", lambda: True)
    torch.manual_seed(0)
    model: Any = GPT2(GPT2Config(vocab_size=5000, max_positions=64, dim=32, num_layers=2, num_heads=4)).eval()
    if bias:
        model.head = TiedLinear(model.embed, bias=True)
        model.head.bias.data.normal_(std=0.1)
    model.embed.weight.data.mul_(8)
    prompts: Any = [[1, 2, 3], [7]]
    options: Any = {"max_new_tokens": 40, "eos_token_id": 4}
    found: list[Any] = []
    largest = Largest.__call__
    monkeypatch.setattr(Largest, "__call__", lambda *args: found.append(largest(*args)) or found[-1])
    ours = model.generate(prompts, **options)
    assert sum(place is not None for place in found) > 30
    model.head.kernel = linear_kernel("onednn")  # has no such way
    assert torch.equal(model.generate(prompts, **options), ours)
    assert torch.equal(model.generate(prompts, capture=False, **options), ours)
    model.head.kernel = linear_kernel("measured")
    logits: list[Any] = []
    model.head.register_forward_hook(lambda *_: logits.append(1))
    assert torch.equal(model.generate(prompts, **options), ours)
    assert len(logits) == ours.shape[1] - 3  # who listens hears each step
