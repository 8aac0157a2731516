"""The attention layer: its wiring against the equation, its choices at the call, its refusals."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glassformer.ops.attend import ATTEND, auto, reference
from glassformer.ops.mask import Mask
from glassformer.parts import Attention, CrossAttention, KeyValueCache, RMSNorm, Rotary

B, T, D, H = 2, 6, 16, 4


def layer(**options: Any) -> Attention:
    attention = Attention(D, H, **options).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    return attention


def some(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def by_equation(attention: Attention, x: Tensor, context: Tensor, mask: Mask = Mask(), rotate: Any = None) -> Tensor:
    """One head at a time, as the paper writes it."""

    def project(linear: Any, y: Tensor) -> Tensor:
        return y @ linear.weight.mT + (0 if linear.bias is None else linear.bias)

    k = attention.head_dim
    q, keys, values = (project(p, y).split(k, dim=-1) for p, y in
                       [(attention.query, x), (attention.key, context), (attention.value, context)])  # fmt: skip
    group, outs = len(q) // len(keys), []
    for head in range(len(q)):
        one, other = attention.query_norm(q[head]), attention.key_norm(keys[head // group])
        if rotate is not None:
            one, other = rotate(one[:, None])[:, 0], rotate(other[:, None])[:, 0]
        scores = attention.scale * one @ other.mT
        visible = mask.visible(scores.shape[1], scores.shape[2], x.device)
        if visible is not None:
            scores = scores.masked_fill(~visible[:, 0], -torch.inf)
        outs.append(scores.softmax(-1) @ values[head // group])
    return project(attention.output, torch.cat(outs, dim=-1))


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", [name for name in ATTEND if name != "flex"])
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("biased", ["qkvo", "", "qk"])
def test_self_attention_is_the_equation_head_by_head(kernel: str, num_kv_heads: int, biased: str) -> None:
    attention = layer(num_kv_heads=num_kv_heads, biased=biased, kernel=ATTEND[kernel])
    x = some(B, T, D)
    close(attention(x, mask=Mask.causal()), by_equation(attention, x, x, Mask.causal()))
    shapes = {name: tuple(parameter.shape) for name, parameter in attention.named_parameters()}
    width = num_kv_heads * D // H
    weights = {"query": (D, D), "key": (width, D), "value": (width, D), "output": (D, D)}
    expected = {f"{name}.weight": shape for name, shape in weights.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in weights.items() if name[0] in biased}
    assert shapes == expected


def test_cross_attention_reads_another_sequence_of_another_width() -> None:
    attention = layer(context_dim=7)
    x, context = some(B, T, D), some(B, 9, 7)
    close(attention(x, context), by_equation(attention, x, context))
    present = torch.arange(9) < torch.tensor([[4], [9]])
    close(attention(x, context, mask=Mask.padding(present))[:1], attention(x[:1], context[:1, :4]))


def test_key_and_value_may_differ() -> None:
    attention = layer()
    x, where = some(B, T, D), some(B, T, D)
    expected = by_equation(attention, x + where, x + where)
    assert not torch.allclose(attention(x + where, x + where, x), expected)
    attention.value.weight.data.zero_()
    close(attention(x + where, x + where, x), by_equation(attention, x + where, x))


def test_norms_rotation_scale_and_head_width_enter_where_they_belong() -> None:
    attention = layer(num_kv_heads=2, head_dim=8, scale=0.21, query_norm=RMSNorm(8), key_norm=RMSNorm(8))
    x, rotate = some(B, T, D), Rotary(8)(torch.arange(T))
    close(attention(x, mask=Mask.causal(), rotate=rotate), by_equation(attention, x, x, Mask.causal(), rotate))


def test_score_bias_is_added_to_the_scaled_scores() -> None:
    attention, x = layer(), some(B, T, D)
    bias = torch.zeros(1, 1, T, T, dtype=torch.float64).masked_fill(torch.ones(T, T).triu(1).bool(), -1e9)
    close(attention(x, score_bias=bias), attention(x, mask=Mask.causal()))


@pytest.mark.parametrize("chunks", [[1] * T, [3, 3], [4, 1, 1], [T]])
def test_decoding_in_any_chunks_with_a_cache_equals_the_whole(chunks: list[int]) -> None:
    attention, x = layer(num_kv_heads=2), some(B, T, D)
    rotary = Rotary(D // H)
    whole = attention(x, mask=Mask.causal(), rotate=rotary(torch.arange(T)))
    cache = KeyValueCache(1, B, 2, T, D // H, dtype=torch.float64, device="cpu")
    parts = []
    with torch.no_grad():
        for part in x.split(chunks, dim=1):
            positions = torch.arange(cache.length, cache.length + part.shape[1])
            parts.append(attention(part, mask=Mask.causal(), rotate=rotary(positions), cache=cache.layers[0]))
            cache.advance(part.shape[1])
    close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("chunks", [[1] * T, [4, 1, 1], [1, 5]])
@pytest.mark.parametrize("groups", [2, H])
def test_decoding_in_halves_is_near_the_truth_and_keeps_what_one_token_attends_to_in_float32(
    chunks: list[int], groups: int
) -> None:
    exact, x, context = layer(num_kv_heads=groups), some(B, T, D).bfloat16(), some(B, 5, D).bfloat16()
    exact.bfloat16().double()
    attention = copy.deepcopy(exact).bfloat16()
    cache = KeyValueCache(1, B, groups, T, D // H, dtype=torch.bfloat16, device="cpu")
    parts: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        truth = exact(x.double(), mask=Mask.causal()), exact(x.double(), context.double())
        for part in x.split(chunks, dim=1):
            own = attention(part, mask=Mask.causal(), cache=cache.layers[0])
            parts.append((own, attention(part, context, cache=cache.layers[0])))
            cache.advance(part.shape[1])
    for found, right in zip(zip(*parts, strict=True), truth, strict=True):
        assert {each.dtype for each in found} == {torch.bfloat16}
        assert (torch.cat(found, 1) - right).norm() <= 0.02 * right.norm()
    assert cache.layers[0].key.dtype == (torch.float32 if groups == H else torch.bfloat16)


def test_dropout_acts_in_training_only() -> None:
    attention, x = layer(dropout=0.5), some(B, T, D)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))
    close(attention(x), by_equation(attention, x, x))


def test_the_tap_shows_the_weights_under_the_reference_kernel_and_is_silent_under_others() -> None:
    attention, x = layer(kernel=reference), some(B, T, D)
    seen: list[Tensor] = []
    attention.weights.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    attention(x, mask=Mask.causal())
    assert len(seen) == 1
    assert seen[0].shape == (B, H, T, T)
    close(seen[0].sum(-1), torch.ones(B, H, T, dtype=torch.float64))
    assert (seen[0].triu(1) == 0).all()
    attention.kernel = auto
    attention(x, mask=Mask.causal())
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "num_heads=5 does not divide dim=16"),
        ({"num_heads": 0}, "num_heads=0 does not divide dim=16"),
        ({"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads=3 does not divide num_heads=4"),
        ({"num_heads": 4, "num_kv_heads": 0}, "num_kv_heads=0 does not divide num_heads=4"),
        ({"num_heads": 4, "biased": "qx"}, "biased='qx' names no projection"),
        ({"num_heads": 4, "dropout": 1.0}, r"dropout=1.0 is no share"),
        ({"num_heads": 4, "dropout": -0.1}, r"dropout=-0.1 is no share"),
    ],
)
def test_impossible_sizes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Attention(D, **options)


def test_a_value_without_a_key_and_a_context_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="what is attended to has 7 features; keys are made of 6"):
        CrossAttention(8, 6, 2)(torch.randn(1, 3, 8), torch.randn(1, 5, 7))
    with pytest.raises(ValueError, match="a value is given without a key"):
        layer()(some(B, T, D), value=some(B, T, D))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["auto", "reference", "products", "sdpa"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_attention_compiles_whole_with_its_gradients(kernel: str) -> None:
    attention = layer(num_kv_heads=2, kernel=ATTEND[kernel]).float()
    rotary, x = Rotary(D // H), some(B, T, D).float()

    def loss(x: Tensor, positions: Tensor) -> Tensor:
        return attention(x, mask=Mask.causal(), rotate=rotary(positions)).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True)
    parameters = list(attention.parameters())
    ours, expected = compiled(x, torch.arange(T)), loss(x, torch.arange(T))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    pairs = zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(expected, parameters), strict=True)
    for gradient, theirs in pairs:
        torch.testing.assert_close(gradient, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("kernel", [name for name in ATTEND if name not in ("flex", "windowed")])
@pytest.mark.parametrize("t", [1, T])
def test_rows_that_share_a_context_attend_as_each_with_a_copy_of_it(kernel: str, t: int) -> None:
    attention, x, context = layer(num_kv_heads=2, kernel=ATTEND[kernel]), some(6, t, D), some(2, 9, D)
    present = torch.arange(9) < torch.tensor([[4], [9]])
    seen: list[Tensor] = []
    attention.weights.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    expected = attention(x, context.repeat_interleave(3, 0), mask=Mask.padding(present.repeat_interleave(3, 0)))
    cache = KeyValueCache(1, 6, 2, T, D // H, dtype=torch.float64, device="cpu").layers[0]
    for kept in (None, cache, cache):
        close(attention(x, context, mask=Mask.padding(present), cache=kept), expected)
    for weights in seen[1:]:
        close(weights, seen[0])


def test_a_context_is_not_shared_where_places_of_queries_matter() -> None:
    attention, x, context = layer(), some(4, T, D), some(2, T, D)
    bias = torch.zeros(1, 1, T, T, dtype=torch.float64)
    for options in ({"mask": Mask.causal()}, {"score_bias": bias}):
        with pytest.raises(ValueError, match="4 rows of queries meet 2 of keys"):
            attention(x, context, **options)
    with pytest.raises(ValueError, match="5 rows of queries meet 2 of keys"):
        attention(some(5, T, D), context)
