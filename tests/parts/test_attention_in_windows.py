"""Attention in windows, gathered or a few pictures at a time, is attention between splitting and joining."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from glassformer.models.swin import SwinConfig, SwinStage
from glassformer.ops.mask import Mask
from glassformer.parts import Attention, ScaledUnitNorm, UnitNorm, WindowBias, Windows, attend_in_windows, by_parts
from glassformer.parts import attention_in_windows as inside


def plainly(attention: Attention, x: Tensor, windows: Windows, mask: Mask, bias: Tensor) -> Tensor:
    return windows.join(attention(windows.split(x), mask=mask, score_bias=bias))


@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (9, 13), (5, 4)])
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("change", [None, "replaced", "heard", "float64"])
def test_what_is_gathered_equals_what_is_split_and_joined(
    rows: int, columns: int, shift: int, normed: bool, change: str | None
) -> None:
    norms: Any = dict(query_norm=ScaledUnitNorm(2), key_norm=UnitNorm(), biased="qvo") if normed else {}
    attention: Any = Attention(12, 2, **norms).eval()
    x, windows, bias = torch.randn(3, rows, columns, 12), Windows(rows, columns, 4, shift), WindowBias(2, 4)
    for parameter in (*attention.parameters(), bias.table):
        torch.nn.init.normal_(parameter)  # biases too: they are what a place beyond the edge has for a key
    if change == "replaced":  # not a product with the others any more
        attention.key = torch.nn.Sequential(attention.key)
    if change == "heard":
        attention.key.register_forward_hook(lambda *_: None)
    if change == "float64":
        attention, x, bias = attention.double(), x.double(), bias.double()
    mask = windows.mask(3, x.device)
    expected = plainly(attention, x, windows, mask, bias(4))
    with torch.no_grad():
        assert inside._gathers(attention, x) is (change != "heard")
        out = attend_in_windows(attention, x, windows, mask, bias(4))
    assert out.shape == x.shape
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_a_layer_that_is_heard_is_given_windows() -> None:
    attention, heard = Attention(8, 2).eval(), []
    attention.query.register_forward_hook(lambda layer, args, out: heard.append(args[0].shape))
    with torch.no_grad():
        attend_in_windows(attention, torch.randn(2, 8, 8, 8), Windows(8, 8, 4), Mask(), torch.zeros(1, 2, 16, 16))
    assert heard == [(8, 16, 8)]


def calls_of(stage: SwinStage, x: Tensor, monkeypatch: pytest.MonkeyPatch, within: Callable[[], Any]) -> list[int]:
    """The pictures that a stage is given, call by call, where two fit the caches; what it gives stays the same."""
    calls: list[int] = []
    monkeypatch.setattr(by_parts, "NUMBERS", 2 * x[0].numel())
    right = stage.masks
    monkeypatch.setattr(stage, "masks", lambda windows, some: (calls.append(len(some)), right(windows, some))[1])
    expected = SwinStage.forward.__wrapped__(stage, x)  # type: ignore[attr-defined]
    calls.clear()
    with within():
        torch.testing.assert_close(stage(x), expected, rtol=1e-5, atol=1e-6)
    return calls


def test_pictures_are_taken_a_few_at_a_time_only_where_nothing_is_learned_or_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = SwinStage(SwinConfig(dim=12, depths=(1,), num_heads=(2,), window_size=4), 0).eval()
    x = torch.randn(5, 8, 9, 12)
    assert calls_of(stage, x, monkeypatch, torch.no_grad) == [2, 2, 1]
    assert calls_of(stage, x[:2], monkeypatch, torch.no_grad) == [2]
    assert calls_of(stage, x, monkeypatch, torch.enable_grad) == [5]
    assert calls_of(stage.train(), x, monkeypatch, torch.no_grad) == [5]
    stage.eval().blocks[0].register_forward_hook(lambda *_: None)  # type: ignore[union-attr]
    assert calls_of(stage, x, monkeypatch, torch.no_grad) == [5]
