"""A captured step gives the bits of the step itself, for as long as Python would have done the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from declaration import Declared
from declared_decoders import DECODERS
from declared_encoder_decoders import ENCODER_DECODERS
from properties import build
from properties_decoders import ids
from properties_encoder_decoders import sources
from torch import Tensor, nn

from glassformer.generation import capture
from glassformer.generation import step as stepping
from glassformer.generation.length import Asked, Length
from glassformer.generation.options import make_options
from glassformer.generation.step import CapturedStep, one_step
from glassformer.models import GPT2, T5, GPT2Config, Mistral, MistralConfig, T5Config
from glassformer.parts import KeyValueCache, use_kernels

ON_VALUES = ("mixtral", "deepseek", "bigram")  # they choose experts by value; or there is nothing before the last token
CAPTURABLE = [case for case in DECODERS if not case.name.startswith(ON_VALUES)]


@pytest.fixture(autouse=True)
def _programs_for_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (capture, stepping):
        monkeypatch.setattr(module, "WORTH", 6)


class Row:
    """A cache that counts."""

    def __init__(self, capacity: int = 200) -> None:
        self.length, self.capacity = 0, capacity

    def advance(self, t: int) -> None:
        self.length = self.length + t


def stepped(step: Callable[..., Tensor], x: Tensor, present: Tensor | None, start: int) -> list[Tensor]:
    """`start` tokens, then one at a time."""
    with torch.inference_mode():
        ends = [start, *range(start + 1, x.shape[1] + 1)]
        spans = zip([0, *ends], ends, strict=False)
        return [step(x[:, a:b], None if present is None else present[:, :b]) for a, b in spans]


def plain(model: Any, cache: Any) -> Callable[..., Tensor]:
    return lambda x, mask: model.hidden(x, mask, cache=cache)[:, -1]


def same(case_or_model: Any, x: Tensor, present: Tensor | None, start: int = 3) -> CapturedStep:
    """Compare the two bit for bit; returns the captured one."""
    model = case_or_model
    rows, total = x.shape
    captured, cache = one_step(model, model.new_cache(rows, total)), model.new_cache(rows, total)
    assert isinstance(captured, CapturedStep)
    both = zip(stepped(captured, x, present, start), stepped(plain(model, cache), x, present, start), strict=True)
    for i, (ours, expected) in enumerate(both):
        assert torch.equal(ours, expected), f"step {i}"
    assert captured.cache.length == cache.length == total
    assert type(captured.cache.length) is int
    return captured


@pytest.mark.parametrize("case", CAPTURABLE, ids=lambda case: case.name)
def test_every_decoder_says_the_same_captured_with_padding_and_without(case: Declared) -> None:
    model, x = build(case).eval(), ids(case, batch=2, length=22)
    present = torch.ones_like(x, dtype=torch.bool)
    present[1, :2] = False
    for mask in (None, present):
        captured = same(model, x, mask)
        assert (captured.program is not None) == (case.name != "mistral")  # its window is left at once


@pytest.mark.parametrize("case", [case for case in DECODERS if case not in CAPTURABLE], ids=lambda case: case.name)
def test_what_depends_on_values_is_left_as_it_is(case: Declared) -> None:
    same(build(case).eval(), ids(case, batch=2, length=22), None)


@pytest.mark.parametrize(
    "case", [case for case in ENCODER_DECODERS if hasattr(case.model, "generate")], ids=lambda case: case.name
)
def test_every_encoder_decoder_says_the_same_captured(case: Declared) -> None:
    model, inputs = build(case).eval(), sources(case)
    given = (inputs["input_ids"], inputs["attention_mask"])
    for options in ({}, {"num_beams": 3}):
        options = options | {"max_new_tokens": 22, "eos_token_id": 2}
        expected = model.generate(*given, **options, capture=False)
        assert torch.equal(model.generate(*given, **options), expected)
    prompt = model.prompt(*given, make_options(None, {"max_new_tokens": 22}))
    assert same(prompt.decoder, ids(case, length=22), None, start=1).program is not None


def programs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Where programs begin and end, as they are made."""
    made: list[tuple[int, int]] = []

    def noted(*args: Any) -> Any:
        made.append((program := real(*args))[1:3])
        return program

    real = stepping.program
    monkeypatch.setattr(stepping, "program", noted)
    return made


@pytest.mark.parametrize("attend", ["auto", "windowed", "online", "sdpa"])
def test_a_window_ends_one_program_and_begins_another(attend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = MistralConfig(vocab_size=60, max_positions=120, dim=16, num_layers=1, num_heads=4, num_kv_heads=2,
                           hidden_dim=16, window_size=24)  # fmt: skip
    model = use_kernels(Mistral(config).eval(), attend=attend)
    made, x = programs(monkeypatch), torch.randint(60, (2, 120), generator=torch.Generator().manual_seed(0))
    same(model, x, None)
    # At 23 tokens the window leaves the first one behind: what is read begins from then on at a place that moves.
    # `online` counts places by ranges, which make plain numbers of lengths: before the window is full they are refused.
    if attend == "online":
        assert made[0][0] > 23
    else:
        assert made[0][1] in (23, 24)
        assert len(made) > 2
    # And where the cache keeps everything, and the mask alone the window.
    cache = KeyValueCache(1, 2, 2, 120, 4, dtype=torch.float32, device="cpu")
    captured = one_step(model, cache)
    made.clear()
    ours = stepped(captured, x, None, 3)
    for expected, logits in zip(stepped(plain(model, model.new_cache(2, 120)), x, None, 3), ours, strict=True):
        torch.testing.assert_close(logits, expected)
    assert bool(made) == (attend != "online")


def test_a_table_that_is_outgrown_ends_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """T5 keeps the buckets of 256 distances, and makes a longer table beyond."""
    torch.manual_seed(0)
    t5 = T5(T5Config(vocab_size=40, dim=16, num_encoder_layers=1, num_heads=2, head_dim=8, hidden_dim=32))
    made = programs(monkeypatch)
    prompt = t5.eval().prompt([[5, 6, 7]], None, make_options(None, {"max_new_tokens": 290}))
    same(prompt.decoder, torch.randint(40, (1, 290)), None, start=1)
    assert len(made) == 2
    assert made[0][1] <= 257 < made[1][1]


def gpt2() -> GPT2:
    torch.manual_seed(0)
    return GPT2(GPT2Config(vocab_size=60, max_positions=64, dim=32, num_layers=2, num_heads=4)).eval()


def test_a_context_that_slides_is_captured_again() -> None:
    model = gpt2()
    expected = model.generate([[1, 2, 3]], max_new_tokens=150, slide_context=True, capture=False)
    assert torch.equal(model.generate([[1, 2, 3]], max_new_tokens=150, slide_context=True), expected)


def test_rows_that_change_places_between_steps_are_followed() -> None:
    model, x = gpt2(), torch.randint(60, (2, 40), generator=torch.Generator().manual_seed(0))
    caches = [model.new_cache(2, 40) for _ in range(2)]
    steps = [one_step(model, caches[0]), plain(model, caches[1])]
    outs: list[list[Tensor]] = [[], []]
    for i in range(40):
        for step, cache, out in zip(steps, caches, outs, strict=True):
            with torch.inference_mode():
                out.append(step(x[:, i : i + 1], None))
                if i % 5 == 4:
                    cache.reorder(torch.tensor([1, 0]))
                if i == 30:
                    cache.truncate(20)
    assert steps[0].program is not None  # type: ignore[attr-defined]
    assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))


@pytest.mark.parametrize("back", [0, 1, 2])
def test_a_cache_that_is_truncated_between_the_two_captures_is_captured_anew(back: int) -> None:
    model, x = gpt2(), torch.randint(60, (1, 60), generator=torch.Generator().manual_seed(0))
    caches = [model.new_cache(1, 60) for _ in range(2)]
    steps: list[Any] = [one_step(model, caches[0]), plain(model, caches[1])]
    truncated = False
    with torch.inference_mode():
        for i in range(60 - back):
            ours, expected = (step(x[:, i : i + 1], None) for step in steps)
            assert torch.equal(ours, expected), f"step {i}"
            if steps[0]._first is not None and not truncated:
                truncated = True
                for cache in caches:
                    cache.truncate(cache.length - back)
    assert truncated
    assert steps[0].program is not None


def test_a_model_that_is_listened_to_is_called() -> None:
    model, seen = gpt2(), []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not isinstance(one_step(model, None), CapturedStep)
    with torch.overrides.BaseTorchFunctionMode():
        assert not isinstance(one_step(model, None), CapturedStep)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert not isinstance(one_step(model, None), CapturedStep)
    handle.remove()
    assert isinstance(one_step(model, None), CapturedStep)
    assert not isinstance(one_step(model, None, capture=False), CapturedStep)
    model.blocks[1].register_forward_pre_hook(lambda *_: seen.append(1))
    assert not isinstance(one_step(model, None), CapturedStep)
    model.generate([[1, 2]], max_new_tokens=30)
    assert len(seen) >= 30


def run(body: Callable[[Row, Tensor], Tensor], steps: int = 60, capacity: int = 200) -> CapturedStep:
    """A step made of `body`, captured, held equal to itself at every length."""
    row = Row(capacity)
    ours, twin = CapturedStep(lambda x: _advancing(body, row, x), row), Row(capacity)
    for i in range(steps):
        x = torch.full((1, 1), float(i % 7))
        assert torch.equal(ours(x), _advancing(body, twin, x)), f"length {i}"
    return ours


def _advancing(body: Callable[[Row, Tensor], Tensor], row: Row, x: Tensor) -> Tensor:
    out = body(row, x)
    row.advance(1)
    return out


KEPT = torch.arange(300.0)


@pytest.mark.parametrize(
    ("body", "captured"),
    {
        "grows": (lambda row, x: x * KEPT[: row.length + 1].sum(), True),
        "shrinks": (lambda row, x: x + KEPT[-row.length : 2 * row.length + 3].sum(), True),
        "branches on the length": (lambda row, x: x * 2 if row.length < 40 else x + row.length, True),
        "the smaller of two": (lambda row, x: x + KEPT[: min(row.length, 33)].sum(), True),
        "the larger of two": (lambda row, x: x + KEPT[max(0, row.length - 20) : row.length].sum(), True),
        "a shape decides": (lambda row, x: x * 2 if KEPT[: row.length].shape[0] > 30 else x, True),
        "every 16th": (lambda row, x: x + (-row.length % 16), False),
        "halves": (lambda row, x: x + KEPT[: row.length // 2].sum(), False),
        "squares": (lambda row, x: x + row.length * row.length, False),
        "a value is read": (lambda row, x: x * float(x.sum()), False),
        "a list of values": (lambda row, x: x + sum(KEPT[: row.length + 1].tolist()), False),
        "a look that stays": (lambda row, x: x * 2 if bool((x >= 0).all()) else x, True),
        "a look that turns": (lambda row, x: x * 2 if x[0, 0] < 5 else x * 3, None),
        "more calls now and then": (lambda row, x: x + 1 if row.length % 2 else (x + 1) * 2, False),
        "in place": (lambda row, x: x.clone().add_(1).mul_(row.length), True),
        "several results": (lambda row, x: torch.cat(x.expand(4, 1).split([1, 2, 1]))[: row.length + 1].sum(), True),
    }.values(),
)  # fmt: skip
def test_steps_of_all_kinds(body: Callable[[Row, Tensor], Tensor], captured: bool | None) -> None:
    program = run(body).program
    assert captured is None or (program is not None) == captured


def test_the_program_can_be_read() -> None:
    program = run(lambda row, x: (x * KEPT[row.length : row.length + 2]).sum()).program
    assert program is not None
    lines = program.source.splitlines()
    assert lines[1] == "    t1 = c1(c0, slice(n, n + 2, None))  # __getitem__"
    assert lines[2] == "    t2 = c2(x0, t1)  # mul"
    assert lines[-1] == "    return t3"


def test_a_short_run_is_not_captured() -> None:
    for steps in range(8, 14):
        ours = run(lambda row, x: x + KEPT[: row.length].sum(), steps, capacity=steps)
        assert (ours.program is not None) == (steps >= 11)


def test_a_length_is_a_number_that_writes_down_what_is_asked() -> None:
    watch: set[Asked] = set()
    n = Length(10, 1, watch)
    assert (n + 2, 2 + n, n - 3, 30 - n, -n, n * 2, 2 * n, n - n) == (12, 12, 7, 20, -10, 20, 20, 0)
    slopes = [getattr(x, "slope", 0) for x in (n + 2, 30 - n, -n, 2 * n, n + n, n - n)]
    assert slopes == [1, -1, -1, 2, 2, 0]
    watch.clear()
    assert (n < 20, n * 2 > 30, n // 4, int(max(n, 5)), f"{n}") == (True, False, 2, 10, "10")
    assert [all(asked.holds(steps) for asked in watch) for steps in range(4)] == [True, True, False, False]
    assert (10.0 / n, float(n), 2**n) == (1.0, 10.0, 1024)
    assert all(asked.holds(0) for asked in watch)


@pytest.mark.parametrize(
    "lengths", [[*range(12, 20), *range(3, 30)], [3, 4, 3, 5, 6, 7, 8, 9, 3, 4, 5, 6, 7, 8, 9, 10]]
)
def test_a_program_serves_no_length_below_its_own_and_no_two_captures_that_do_not_follow(lengths: list[int]) -> None:
    row = Row()
    ours = CapturedStep(lambda x: x * (2 if row.length < 10 else 3) + KEPT[: row.length].sum(), row)
    for n in lengths:
        row.length, x = n, torch.ones(1, 1)
        assert torch.equal(ours(x), x * (2 if n < 10 else 3) + KEPT[:n].sum()), f"length {n}"
