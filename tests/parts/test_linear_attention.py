"""Linear attention equals the same thing written as an n × n matrix, in whatever pieces it is computed."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu
from torch.utils._python_dispatch import TorchDispatchMode

from glassformer.ops.mask import Mask
from glassformer.parts import LinearAttention, LinearState, linear_attention


def layer(num_heads: int = 3, dim: int = 12, **options: object) -> LinearAttention:
    made = LinearAttention(dim, num_heads, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


def quadratic(made: LinearAttention, x: Tensor, context: Tensor, visible: Tensor) -> Tensor:
    """Every weight φ(q_i)·φ(k_j) written out, hidden ones 0, each row divided by its sum."""
    q, k, v = (
        y.unflatten(-1, (made.num_heads, -1)).transpose(1, 2)
        for y in (made.query(x), made.key(context), made.value(context))
    )
    weights = ((elu(q) + 1) @ (elu(k) + 1).mT) * visible
    total = weights.sum(-1, keepdim=True)
    weights = torch.where(total > 0, weights / total.where(total > 0, 1.0), 0.0)
    return made.output((weights @ v).transpose(1, 2).flatten(2))


def same(made: LinearAttention, ours: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    leaves, weight = [*inputs, *made.parameters()], torch.randn_like(expected)
    assert (ours - expected).abs().max() <= 1e-10
    pairs = zip(torch.autograd.grad(ours, leaves, weight), torch.autograd.grad(expected, leaves, weight), strict=True)
    for gradient, wanted in pairs:
        assert (gradient - wanted).abs().max() <= 1e-10 * wanted.abs().max().clamp(min=1)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 27])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padding", [False, True])
def test_values_and_gradients_equal_the_quadratic_form(
    n: int, causal: bool, padding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_attention, "CHUNK", 8)
    made, x = layer(), normal(2, n, 12)
    mask, visible = Mask(), torch.ones(1, 1, n, n).bool()
    if causal:
        mask, visible = mask & Mask.causal(), visible.tril()
    if padding:
        present = torch.arange(n) >= torch.tensor([[n // 3], [n]])  # the second row is all padding
        mask, visible = mask & Mask.padding(present), visible & present[:, None, None]
    same(made, made(x, mask=mask), quadratic(made, x, x, visible), [x])


def test_it_attends_to_another_context_of_another_width() -> None:
    made, x, context = layer(context_dim=5, biased="ko"), normal(2, 4, 12), normal(2, 9, 5)
    same(made, made(x, context), quadratic(made, x, context, torch.ones(4, 9).bool()), [x, context])


@pytest.mark.parametrize("steps", [[1] * 20, [5, 1, 9, 5], [20], [19, 1]])
def test_state_in_and_state_out_equal_the_whole(steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_attention, "CHUNK", 4)
    made, x = layer(), normal(2, 20, 12)
    present = torch.arange(20) >= torch.tensor([[0], [6]])
    state: LinearState | None = None
    outs = []
    for part, here in zip(x.split(steps, dim=1), present.split(steps, dim=1), strict=True):
        out, state = made.extend(part, state, mask=Mask.padding(here))
        assert (state.total.shape, state.norm.shape) == ((2, 3, 4, 4), (2, 3, 4)), "of one size, however many tokens"
        outs.append(out)
    same(made, torch.cat(outs, 1), made(x, mask=Mask.causal() & Mask.padding(present)), [x])


def test_a_later_token_changes_no_earlier_output() -> None:
    made, x = layer(), normal(1, 150, 12)
    edited = x.detach().clone()
    edited[:, 100] += 1
    before, after = made(x, mask=Mask.causal()), made(edited, mask=Mask.causal())
    assert torch.equal(after[:, :100], before[:, :100])
    assert (after[:, 100:] != before[:, 100:]).any(-1).all()


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor made inside it."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.numel = max(self.numel, out.numel() if isinstance(out, Tensor) else 0)
        return out


@pytest.mark.parametrize("mask", [Mask(), Mask.causal()])
def test_nothing_formed_grows_faster_than_the_sequence(mask: Mask) -> None:
    made, sizes = layer(num_heads=2, dim=8), []
    for n in (1024, 2048):
        with Largest() as largest:
            made(normal(1, n, 8), mask=mask).sum().backward()
        sizes.append(largest.numel)
    assert sizes[1] <= 2 * sizes[0]
    assert sizes[1] <= 2 * 2048 * linear_attention.CHUNK


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_single_precision(dtype: torch.dtype) -> None:
    made, x = layer().to(dtype), torch.randn(1, 4000, 12).to(dtype)
    out = made(x, mask=Mask.causal())
    assert out.dtype == dtype
    exact = made.double()(x.double(), mask=Mask.causal())
    assert (out.double() - exact).abs().max() < 0.03 * exact.abs().max()


def test_what_it_cannot_do_is_named(no_shape_checks: None) -> None:
    made, x = layer(), normal(2, 6, 12)
    with pytest.raises(ValueError, match="a window mask is none that linear attention has sums for"):
        made(x, mask=Mask.causal() & Mask.window(2))
    with pytest.raises(ValueError, match="a causal mask orders one sequence, and another context is given"):
        made(x, x, mask=Mask.causal())
    with pytest.raises(ValueError, match="padding mask of 3 rows meets a batch of 2"):
        made(x, mask=Mask.padding(torch.ones(3, 6).bool()))
    with pytest.raises(ValueError, match="num_heads=5 does not divide dim=12"):
        LinearAttention(12, 5)
    with pytest.raises(ValueError, match="biased='qx' names no projection"):
        LinearAttention(12, 3, biased="qx")
