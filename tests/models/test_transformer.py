"""Over vectors the Transformer is torch.nn.Transformer: values, gradients, masks, names, dropout, first weights."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer import transformer as face
from glassformer.checkpoints.table import Split
from glassformer.models import transformer_blocks
from glassformer.ops.mask import Mask
from glassformer.parts import dropout, use_kernels
from glassformer.transformer import Transformer

DIM, HEADS, BATCH, SOURCE, TARGET = 16, 4, 3, 7, 5
Masks = dict[str, Any]
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")


def both(**options: Any) -> tuple[nn.Transformer, Transformer]:
    """Torch's and ours with the same weights, each drawn at a scale where it matters, in float64."""
    shape = dict(d_model=DIM, nhead=HEADS, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=24, dropout=0.0)
    theirs = nn.Transformer(**shape | options, dtype=torch.float64)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    ours = Transformer(**shape | options, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def vectors(batch_first: bool = False) -> tuple[Tensor, Tensor]:
    """A source and a target that take gradients."""
    made = (torch.randn(length, BATCH, DIM, dtype=torch.float64) for length in (SOURCE, TARGET))
    src, tgt = (x.transpose(0, 1).contiguous() if batch_first else x for x in made)
    return src.requires_grad_(), tgt.requires_grad_()


def pads(length: int, *, left: bool = False) -> Tensor:
    """True at the padding of row 1, and of one place of row 2."""
    hidden = torch.zeros(BATCH, length, dtype=torch.bool)
    hidden[1, slice(0, 3) if left else slice(length - 3, length)] = True
    hidden[2, 0 if left else -1] = True
    return hidden


def near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def agree(theirs: nn.Transformer, ours: Transformer, src: Tensor, tgt: Tensor, **masks: Any) -> None:
    """The same output, and the same gradient of every parameter, of the inputs and of float masks."""
    leaves = [src, tgt, *(mask for mask in masks.values() if isinstance(mask, Tensor) and mask.requires_grad)]
    direction = torch.randn_like(tgt)
    found = []
    for model in (theirs, ours):
        out = model(src, tgt, **masks)
        found.append((out, torch.autograd.grad((out * direction).sum(), [*leaves, *model.parameters()])))
    near(found[1][0], found[0][0])
    for one, other in zip(found[1][1][: len(leaves)], found[0][1][: len(leaves)], strict=True):
        near(one, other)
    gradients = copy.deepcopy(ours)
    names = [name for name, _ in theirs.named_parameters()]
    gradients.load_state_dict(dict(zip(names, found[0][1][len(leaves) :], strict=True)))
    for (name, expected), grad in zip(gradients.named_parameters(), found[1][1][len(leaves) :], strict=True):
        if not name.endswith("key.bias"):  # softmax does not see it: 0 but for rounding
            near(grad, expected.detach())


MASKS: dict[str, Callable[[], Masks]] = {
    "none": dict,
    "causal floats": lambda: {"tgt_mask": Transformer.generate_square_subsequent_mask(TARGET, dtype=torch.float64)},
    "causal booleans": lambda: {"tgt_mask": torch.ones(TARGET, TARGET, dtype=torch.bool).triu(1)},
    "causal, and said so": lambda: {
        "src_mask": Transformer.generate_square_subsequent_mask(SOURCE, dtype=torch.float64), "src_is_causal": True,
        "tgt_mask": Transformer.generate_square_subsequent_mask(TARGET, dtype=torch.float64), "tgt_is_causal": True,
    },
    "padding on the right": lambda: {
        "src_key_padding_mask": pads(SOURCE), "memory_key_padding_mask": pads(SOURCE),
        "tgt_key_padding_mask": pads(TARGET),
    },
    "padding on the left": lambda: {
        "src_key_padding_mask": pads(SOURCE, left=True), "memory_key_padding_mask": pads(SOURCE, left=True),
    },
    "padding of memory alone": lambda: {"memory_key_padding_mask": pads(SOURCE)},
    "causal and padding": lambda: {
        "tgt_mask": torch.ones(TARGET, TARGET, dtype=torch.bool).triu(1), "tgt_key_padding_mask": pads(TARGET),
        "src_key_padding_mask": pads(SOURCE),
    },
    "what memory shows each query": lambda: {
        "memory_mask": torch.ones(TARGET, SOURCE, dtype=torch.bool).triu(3),
    },
    "floats that are added": lambda: {
        "src_mask": torch.randn(SOURCE, SOURCE, dtype=torch.float64, requires_grad=True),
        "tgt_mask": torch.randn(TARGET, TARGET, dtype=torch.float64).masked_fill(
            torch.ones(TARGET, TARGET, dtype=torch.bool).triu(1), -torch.inf
        ),
        "memory_mask": torch.randn(TARGET, SOURCE, dtype=torch.float64),
    },
    "floats as padding": lambda: {
        "src_key_padding_mask": torch.randn(BATCH, SOURCE, dtype=torch.float64).masked_fill(pads(SOURCE), -torch.inf),
    },
    "a mask for each head": lambda: {
        "src_mask": torch.rand(BATCH * HEADS, SOURCE, SOURCE) < 0.3,
        "memory_mask": torch.randn(BATCH * HEADS, TARGET, SOURCE, dtype=torch.float64),
    },
}  # fmt: skip


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_every_mask_means_what_torch_means(masks: Callable[[], Masks], norm_first: bool) -> None:
    agree(*both(norm_first=norm_first), *vectors(), **masks())


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_masks_whose_values_are_not_looked_at_mean_the_same(
    masks: Callable[[], Masks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator, where looking would wait for it."""
    monkeypatch.setattr(face, "looks", lambda like: False)
    agree(*both(), *vectors(), **masks())


@pytest.mark.parametrize(
    "options",
    [dict(zip(("norm_first", "batch_first", "bias"), choice, strict=True))
     for choice in itertools.product([False, True], repeat=3)]
    + [{"activation": "gelu"}, {"activation": F.silu}, {"layer_norm_eps": 0.1}, {"num_encoder_layers": 1, "nhead": 1}],
    ids=lambda options: ", ".join(f"{name}={getattr(value, '__name__', value)}" for name, value in options.items()),
)  # fmt: skip
def test_every_option_gives_torchs_values_and_gradients(options: dict[str, Any]) -> None:
    masks = MASKS["causal and padding"]()
    agree(*both(**options), *vectors(options.get("batch_first", False)), **masks)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_source_and_a_target_need_no_batch(batch_first: bool) -> None:
    theirs, ours = both(batch_first=batch_first)
    src, tgt = (x.detach()[:, 0].requires_grad_() for x in vectors())
    hidden = torch.tensor([False] * 5 + [True] * 2)
    agree(theirs, ours, src, tgt)
    masks = {"src_key_padding_mask": hidden, "memory_key_padding_mask": hidden}
    agree(theirs, ours, src, tgt, **masks, tgt_mask=torch.ones(TARGET, TARGET, dtype=torch.bool).triu(1))
    agree(theirs, ours, src, tgt, src_mask=torch.randn(HEADS, SOURCE, SOURCE, dtype=torch.float64))
    assert ours(src, tgt).shape == tgt.shape


def test_a_model_may_be_as_deep_and_wide_as_the_paper_says_and_takes_time_first() -> None:
    model = Transformer()
    assert (model.d_model, model.nhead, len(model.encoder.blocks), len(model.decoder.blocks)) == (512, 8, 6, 6)
    theirs = nn.Transformer()
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert model.eval()(torch.rand(10, 2, 512), torch.rand(20, 2, 512)).shape == (20, 2, 512)


def test_weights_go_to_torch_and_back_under_its_names() -> None:
    theirs, ours = both()
    names = ours.torch_state_dict()
    assert names.keys() == theirs.state_dict().keys()
    assert all(torch.equal(names[name], tensor) for name, tensor in theirs.state_dict().items())
    other = nn.Transformer(DIM, HEADS, 2, 2, 24, dtype=torch.float64)
    other.load_state_dict(names)
    again = copy.deepcopy(ours)
    again.load_state_dict(ours.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))


def test_torchs_weights_are_found_inside_a_larger_model() -> None:
    theirs, ours = both()
    outer = nn.ModuleDict({"inner": ours, "last": nn.Linear(DIM, 2, dtype=torch.float64)})
    state = {f"inner.{name}": tensor * 2 for name, tensor in theirs.state_dict().items()}
    outer.load_state_dict(state | {f"last.{n}": t for n, t in outer["last"].state_dict().items()})
    key = theirs.encoder.layers[0].self_attn.in_proj_weight[DIM : 2 * DIM]
    near(ours.encoder.blocks[0].attention.key.weight, 2 * key)
    with pytest.raises(RuntimeError, match="Missing key"):
        outer.load_state_dict({name: tensor for name, tensor in state.items() if "linear1" not in name})


def test_a_query_from_which_everything_is_hidden_gets_nothing_and_finite_gradients() -> None:
    """As with torch's fused attention; `nn.MultiheadAttention`, asked for its weights, gives NaN."""
    theirs, ours = both()
    src, tgt = vectors()
    everything = torch.zeros(BATCH, SOURCE, dtype=torch.bool)
    everything[1] = True
    for masks in ({"memory_key_padding_mask": everything}, {"src_key_padding_mask": everything},
                  {"tgt_mask": torch.eye(TARGET, dtype=torch.float64)[:, 2:3].expand(TARGET, TARGET) == 1},
                  {"memory_mask": torch.arange(TARGET)[:, None].expand(TARGET, SOURCE) == 2}):  # fmt: skip
        agree(theirs, ours, src, tgt, **masks)
    out = ours(src, tgt, memory_key_padding_mask=everything)
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out.sum(), [src, tgt, *ours.parameters()]))
    with torch.no_grad():  # 0 from attention leaves the bias behind it
        for block in ours.decoder.blocks:
            block.cross_attention.value.weight.zero_()
            block.cross_attention.value.bias.zero_()
    near(out[:, 1], ours(src, tgt)[:, 1])


def test_dropout_stands_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every dropout a halving, so that its place shows: of the weights, in the feed-forward, after sub-layers."""

    def halve(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return x * 0.5 if training and p > 0 else x

    def attention(
        q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, dropout_p: float = 0.0, *_: Any, **__: Any
    ) -> Tensor:
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return halve(weights, dropout_p) @ v

    monkeypatch.setattr(F, "dropout", halve)
    monkeypatch.setattr(dropout, "dropout", halve)
    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    monkeypatch.setattr(torch._C._nn, "scaled_dot_product_attention", attention)
    src, tgt = vectors()
    for norm_first in (False, True):
        theirs, ours = both(dropout=0.3, norm_first=norm_first)
        use_kernels(ours, attend="reference")
        still = ours.eval()(src, tgt)
        near(ours.train()(src, tgt), theirs.train()(src, tgt))
        assert not torch.allclose(ours(src, tgt), still)


def test_first_weights_are_spread_as_torchs() -> None:
    theirs, ours = nn.Transformer(48, 4, 1, 1, 96), Transformer(48, 4, 1, 1, 96)
    for name, drawn in ours.torch_state_dict().items():
        expected = theirs.state_dict()[name]
        if "norm" in name or not expected.any():
            assert torch.equal(drawn, expected), name
        else:  # both uniform: the largest of many is near the bound
            assert drawn.abs().max().item() == pytest.approx(expected.abs().max().item(), rel=0.12), name
            assert drawn.mean().abs() < 0.1 * drawn.abs().max(), name


@pytest.mark.parametrize("name", ["causal and padding", "floats that are added"])
def test_compiled_gives_what_is_computed_eagerly(name: str) -> None:
    _, ours = both()
    src, tgt = (x.detach() for x in vectors())
    masks = MASKS[name]()
    compiled = torch.compile(ours.eval(), fullgraph=True, backend="aot_eager")
    near(compiled(src, tgt, **masks), ours(src, tgt, **masks))


def test_causal_without_a_mask_is_the_causal_mask() -> None:
    _, ours = both()
    src, tgt = vectors()
    masks = {"tgt_mask": torch.ones(TARGET, TARGET, dtype=torch.bool).triu(1)}
    near(ours(src, tgt, tgt_is_causal=True), ours(src, tgt, **masks))
    seen = torch.ones(TARGET, SOURCE, dtype=torch.bool).triu(1)
    near(ours(src, tgt, memory_is_causal=True), ours(src, tgt, memory_mask=seen))


def _no_last_norm(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: transformer_blocks.EncoderStack, x: Tensor, **options: Any) -> Tensor:
        for block in self.blocks:
            x = block(x, **options)
        return x + 0 * self.norm(x)

    patch.setattr(transformer_blocks.EncoderStack, "forward", wrong)


def _other_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(face, "pre_norm", transformer_blocks.post_norm)


def _true_shows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(face, "_read", lambda mask, like: (mask, None))


def _target_padding_on_memory(patch: pytest.MonkeyPatch) -> None:
    right = transformer_blocks.DecoderBlock.forward
    wrong = lambda self, *x, **o: right(self, *x, **o | {"context_mask": Mask()})  # noqa: E731
    patch.setattr(transformer_blocks.DecoderBlock, "forward", wrong)


def _keys_before_queries(patch: pytest.MonkeyPatch) -> None:
    swapped = Split("decoder.blocks.*.attention.{key,query,value}.weight")
    patch.setitem(face.TABLE, "decoder.layers.*.self_attn.in_proj_weight", swapped)


MISTAKES = [_no_last_norm, _other_order, _true_shows, _target_padding_on_memory, _keys_before_queries]


@pytest.mark.parametrize("plant", MISTAKES, ids=lambda plant: plant.__name__)
def test_a_planted_mistake_is_noticed(plant: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    masks = MASKS["padding on the right"]() | MASKS["causal booleans"]()
    agree(*both(norm_first=True), *vectors(), **masks)
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="not close"):
        agree(*both(norm_first=True), *vectors(), **masks)


WRONG: list[tuple[Masks, type[Exception], str]] = [
    ({"src_mask": torch.zeros(3, 3)}, ValueError, r"src_mask has shape \(3, 3\); expected \(7, 7\) or \(12, 7, 7\)"),
    (
        {"tgt_mask": torch.zeros(5, 5, dtype=torch.long)},
        TypeError,
        "tgt_mask has dtype torch.int64; expected",
    ),
    ({"memory_key_padding_mask": torch.zeros(3, 5)}, ValueError, r"expected \(3, 7\)"),
    ({"tgt_mask": torch.zeros(5, 5), "tgt_is_causal": True}, ValueError, "tgt_mask is not the causal mask"),
]


@pytest.mark.parametrize(("masks", "error", "words"), WRONG)
def test_a_mask_that_does_not_fit_is_refused(masks: Masks, error: type[Exception], words: str) -> None:
    _, ours = both()
    with pytest.raises(error, match=words):
        ours(*vectors(), **masks)


def test_what_does_not_fit_is_refused() -> None:
    _, ours = both()
    src, tgt = vectors()
    with pytest.raises(ValueError, match=r"expected \(time, batch, width\), or \(time, width\), with width 16"):
        ours(src[..., :8], tgt)
    with pytest.raises(ValueError, match="not of the same batch"):
        ours(src[:, :2], tgt)
    with pytest.raises(ValueError, match=r"no activation 'rel' .did you mean 'relu'"):
        Transformer(activation="rel")
    with pytest.raises(TypeError, match=r"takes no 'dtypes' .did you mean 'dtype'"):
        Transformer(dtypes=torch.float64)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="num_heads=3 does not divide dim=16"):
        Transformer(16, 3)
    with pytest.raises(TypeError, match=r"no 'custom_encoder'; set model.encoder, called as EncoderStack is"):
        Transformer(custom_encoder=None)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match=r"src has dtype torch.float32; expected torch.float64, as the weights have"):
        ours(src.float(), tgt)
    with pytest.raises(ValueError, match=r"tgt has shape \(0, 3, 16\); expected at least one vector"):
        ours(src, tgt[:0])
    with pytest.raises(ValueError, match="are not of the same batch"):
        ours.decode(tgt, ours.encode(src)[:, :2])


@pytest.mark.parametrize("sizes", [{"num_encoder_layers": -1}, {"d_model": 0}, {"dim_feedforward": 0}, {"nhead": 2.0}])
def test_what_is_no_size_is_refused_by_its_name(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(sizes))}=.* is no size"):
        Transformer(**sizes)


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_halves_alone_are_torchs_encoder_and_decoder(batch_first: bool) -> None:
    theirs, ours = both(batch_first=batch_first)
    src, tgt = (x.transpose(0, 1) if batch_first else x for x in vectors())
    masks = MASKS["causal and padding"]()
    hidden, causal = masks["src_key_padding_mask"], masks["tgt_mask"]
    memory = theirs.encoder(src, src_key_padding_mask=hidden)
    ours_memory = ours.encode(src, src_key_padding_mask=hidden)
    kept = ~hidden if batch_first else ~hidden.T
    torch.testing.assert_close(ours_memory[kept], memory[kept])
    torch.testing.assert_close(
        ours.decode(tgt, ours_memory, causal, memory_key_padding_mask=hidden),
        theirs.decoder(tgt, memory, causal, memory_key_padding_mask=hidden),
    )
