"""Sliding-window attention equals attention under the dense mask of the same window."""

import pytest
import torch
from torch import Tensor

from glassformer.ops import attend_window
from glassformer.ops.attend import reference
from glassformer.ops.mask import Mask
from glassformer.parts import Attention, KeyValueCache, Rotary, SlidingWindowAttention


def layers(window_size: int, **options: object) -> tuple[SlidingWindowAttention, Attention]:
    """Ours, and a plain attention with the same weights and the reference kernel."""
    ours = SlidingWindowAttention(24, 4, window_size, **options).double()
    plain = Attention(24, 4, kernel=reference, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.3)
    plain.load_state_dict(ours.attention.state_dict())
    return ours, plain


def dense(n: int, window_size: int, causal: bool) -> Mask:
    """The window written out, place by place."""
    visible = torch.tensor([[abs(i - j) < window_size and (j <= i or not causal) for j in range(n)] for i in range(n)])
    return Mask.dense(visible[None, None])


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("n", "window_size"), [(37, 5), (37, 1), (16, 8), (3, 8), (1, 1), (24, 9)])
def test_values_and_gradients_equal_the_dense_mask(
    n: int, window_size: int, causal: bool, num_kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend_window, "BLOCK", 8)
    ours, plain = layers(window_size, num_kv_heads=num_kv_heads)
    x = torch.randn(2, n, 24, dtype=torch.float64, requires_grad=True)
    present = torch.arange(n) >= torch.tensor([[0], [n // 2]])
    for padding in (Mask(), Mask.padding(present)):
        out = ours(x, mask=(Mask.causal() if causal else Mask()) & padding)
        expected = plain(x, mask=dense(n, window_size, causal) & padding)
        assert (out - expected).abs().max() < 1e-13
        weight = torch.randn_like(out)
        found = torch.autograd.grad(out, [x, *ours.parameters()], weight)
        wanted = torch.autograd.grad(expected, [x, *plain.parameters()], weight)
        for gradient, other in zip(found, wanted, strict=True):
            assert (gradient - other).abs().max() <= 1e-12 * other.abs().max().clamp(min=1)


def test_rotation_and_cache_go_through_it() -> None:
    ours, plain = layers(4, num_kv_heads=2)
    x, rotary = torch.randn(1, 11, 24, dtype=torch.float64), Rotary(6)
    whole = plain(x, mask=dense(11, 4, True), rotate=rotary(torch.arange(11)))
    cache = KeyValueCache(1, 1, 2, 11, 6, dtype=torch.float64, device="cpu")
    outs: list[Tensor] = []
    for start, end in ((0, 6), (6, 7), (7, 11)):
        rotate = rotary(torch.arange(start, end))
        outs.append(ours(x[:, start:end], mask=Mask.causal(), rotate=rotate, cache=cache.layers[0]))
        cache.advance(end - start)
    assert (torch.cat(outs, 1) - whole).abs().max() < 1e-13


def test_a_window_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="window size is 0"):
        SlidingWindowAttention(24, 4, 0)
