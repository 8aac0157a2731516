"""What each kind of part costs in one forward pass: operations, bytes moved, and what is kept for the backward pass.

A model's wiring is its own, so nothing here knows it: the model runs on the meta device, where tensors have shapes and
no memory, with kernels that compute nothing and write down what they would cost by the equations below. A tensor that
several parts keep is counted once, as it lies in memory once.

Letters: r rows (batch · tokens), i and o the widths in and out of a product, h heads, g key heads, k and w the widths
of a head's keys and values, t queries, s keys, f the hidden width, e bytes of a number. A multiply-add is 2 FLOPs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.models.heads import HeadTransform
from glassformer.ops.attend import QUICK, is_narrow
from glassformer.ops.attend_window import BLOCK
from glassformer.ops.mask import Mask
from glassformer.parts import (
    Attention,
    Embedding,
    FeedForward,
    GatedFeedForward,
    LatentAttention,
    LayerNorm,
    LearnedPosition,
    Linear,
    MixtureOfExperts,
    PatchEmbedding,
    RMSNorm,
    Rotary,
    TiedLinear,
    ZeroCenteredRMSNorm,
    relu,
)
from glassformer.parts.experts import GroupedRouter, TopKRouter
from glassformer.tracing.ledger import KeptMemory, Ledger

SMALL_WEIGHTS = 512 * 1024  # ops/attend.py: up to this many bytes of one head's weights `auto` forms them on a CPU


def linear_flops(rows: int, in_dim: int, out_dim: int) -> int:
    """2 r i o: each of r·o numbers is a sum of i products. The gradients of x and of W cost as much each."""
    return 2 * rows * in_dim * out_dim


def attention_flops(batch: int, heads: int, queries: int, keys: int, key_dim: int, value_dim: int) -> int:
    """2 b h t s (k + w): scores, then the weighted sum. What a mask hides is counted too, as PyTorch's counter does."""
    return 2 * batch * heads * queries * keys * (key_dim + value_dim)


def weights_bytes(q: Tensor, k: Tensor) -> int:
    """b h t s e: the weights where they are formed; as many again of dropout's factors where there is any."""
    return q[..., 0].numel() * k.shape[2] * q.element_size()


def cache_bytes(layers: int, batch: int, kv_heads: int, room: int, key_dim: int, value_dim: int, size: int) -> int:
    """layers · b · g · room · (k + w) · e: the keys and values of each token; room is the tokens it has room for.

    Latent attention has g = 1 and keeps k + w = latent + rotary widths, for all heads (DeepSeek-V2, section 2.1).
    """
    return layers * batch * kv_heads * room * (key_dim + value_dim) * size


class CountedLinear:
    """y = x Wᵀ + b: 2 r i o FLOPs; reads r i + i o, writes r o; keeps x.

    On a CPU that learns, products of one x are one (`Measured.together`), whose stacked weight is kept beside them. And
    a feed-forward layer is one step of autograd there (`ops/sublayers.py`): while the gradient of its first product is
    made, the activations of its second, `arrays` as large as y, are there still.
    """

    def __init__(self, ledger: Ledger, name: str, kind: str, arrays: int = 0) -> None:
        self.ledger, self.name, self.kind, self.arrays = ledger, name, kind, arrays

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        narrow = torch.bfloat16 if self.ledger.autocast else x.dtype
        y = x.new_empty((*x.shape[:-1], weight.shape[0]), dtype=narrow)
        self.ledger.add(self.name, self.kind, linear_flops(x[..., 0].numel(), weight.shape[1], weight.shape[0]),
                        x.nbytes + weight.nbytes + y.nbytes)  # fmt: skip
        beside = self.arrays * y.nbytes if self.ledger.device == "cpu" else 0
        self.ledger.keep(x if x.dtype == narrow else torch.empty_like(x, dtype=narrow), beside=beside)
        self.ledger.learned += weight.nbytes
        return y

    def together(self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Several products of one x."""
        if self.ledger.device != "cpu" or not torch.is_grad_enabled():
            return tuple(self(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))
        stacked = torch.cat([weight.detach() for weight in weights])
        self.ledger.keep(stacked)
        return self(x, stacked, None).split([len(weight) for weight in weights], dim=-1)


class CountedAttend:
    """softmax(scale · q kᵀ) v: `attention_flops`; reads q, k, v, writes the output; keeps, beside q, k and v,

    formed     b h t s weights (`weights_bytes`)
    tiled      nothing: without gradients scores are formed for a tile at a time, which does not leave the cache
    fused      the output, b h t numbers in float32 (the logarithm of each row's sum: Dao et al. 2022, section 3.1),
               and t s of a mask that is more than causal, or h t s of a bias
    windowed   the same for each block of queries, with copies of the keys and values within its reach

    Which of them it is, `glassformer.ops.attend.auto` decides; on a GPU it is always the fused one.
    """

    def __init__(self, ledger: Ledger, name: str, *, automatic: bool) -> None:
        self.ledger, self.name, self.automatic = ledger, name, automatic

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Mask, score_bias: Tensor | None, scale: float, dropout: float
    ) -> tuple[Tensor, None]:
        """An output that holds nothing, and no weights."""
        (b, h, t, width), s, size = q.shape, k.shape[2], q.element_size()
        automatic = self.automatic and self.ledger.device == "cpu"
        small = t > 1 and t * s * size <= SMALL_WEIGHTS
        learned = score_bias is not None and score_bias.requires_grad
        tiled = automatic and not small and t > 1 and q.dtype in QUICK and not torch.is_grad_enabled()
        narrow = automatic and not small and not tiled and is_narrow(mask, t, s)
        formed = automatic and not tiled and not narrow and (small or dropout > 0 or learned)
        flops = attention_flops(b, h, t, s, width, v.shape[-1])
        weights = 2 * b * h * t * s * size if formed else 0  # written once, read once
        self.ledger.add(self.name, "attention scores", flops, 2 * q.nbytes + k.nbytes + v.nbytes + weights)
        if formed:
            for x in (q, k, v):
                self.ledger.keep(x.reshape(-1, x.shape[2], x.shape[3]))
            if dropout:
                self.ledger.keep_bytes(weights_bytes(q, k))
            out = q.new_empty(b, h, t, v.shape[-1])
            bias = score_bias.nbytes if learned and score_bias is not None else 0  # its gradient grows layer by layer
            self.ledger.keep_bytes(weights_bytes(q, k), beside=out.nbytes + _sizes(q, k, v) + bias)
            return out, None
        if tiled or narrow:
            if narrow:
                self._keep_blocks(q, k, v, mask)
            return q.new_empty(b, t, h, v.shape[-1]).transpose(1, 2), None
        alike = self.ledger.device == "cpu" and q.is_contiguous()  # there the output lies in memory as q does
        out = q.new_empty(b, h, t, v.shape[-1]) if alike else q.new_empty(b, t, h, v.shape[-1]).transpose(1, 2)
        for x in (q, k, v, out):
            self.ledger.keep(x)
        self.ledger.keep_bytes(4 * b * h * t, beside=_sizes(q, k, v))
        if score_bias is not None:
            self.ledger.keep_bytes(score_bias.shape[0] * h * t * s * size)
        elif mask.terms and not mask.is_causal:
            self.ledger.keep_bytes(t * s * size)
        return out, None

    def _keep_blocks(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> None:
        (b, h, t, _), (_, g, s, _), size = q.shape, k.shape, q.element_size()
        self.ledger.keep(q)
        for start in range(0, t, BLOCK):
            rows = min(BLOCK, t - start)
            seen = mask.reach(range(s - t + start, s - t + start + rows), s)
            copied = min(-(-seen.stop // BLOCK) * BLOCK, s) - seen.start // BLOCK * BLOCK  # whole pieces are joined
            self.ledger.keep_bytes(b * g * copied * (k.shape[3] + v.shape[3]) * size)
            self.ledger.keep_bytes(b * h * rows * (v.shape[3] * size + 4) + rows * (seen.stop - seen.start) * size)


def _sizes(*tensors: Tensor) -> int:
    """Bytes of them all, a shared row as often as it is read."""
    return sum(x.numel() * x.element_size() for x in tensors)


def count_norm(ledger: Ledger, name: str, kind: str, part: Any, x: Tensor, y: Tensor) -> None:
    """Some 5 FLOPs a number, which are not counted beside the products. Reads and writes r d; keeps

    LayerNorm   x, and a mean and a deviation in float32 for each row
    RMSNorm     x in float32, 1 / √(mean(x²) + ε) for each row, and x times it
    """
    rows = x[..., 0].numel()
    ledger.add(name, kind, 0, x.nbytes + y.nbytes)
    if isinstance(part, LayerNorm):
        ledger.keep(x)
        ledger.keep_bytes(8 * rows)
        return
    wide = max(4, x.element_size())
    if x.element_size() == wide:
        ledger.keep(x)
    else:
        ledger.keep_bytes(x.numel() * wide)
    ledger.keep_bytes(4 * rows)
    ledger.keep_bytes(x.numel() * (wide if isinstance(part, ZeroCenteredRMSNorm) else x.element_size()))


def count_feed_forward(ledger: Ledger, name: str, kind: str, part: Any, x: Tensor, y: Tensor) -> None:
    """down(activation(up(x))): the products are counted by themselves, 2 · 2 r d f. Keeps the activation's input, r f;
    of a ReLU its output, which the next product keeps anyway unless dropout stands between."""
    rows = x[..., 0].numel() * part.down.weight.shape[1]
    dropped = part.training and part.dropout.p > 0
    ledger.add(name, kind, 0, 2 * rows * y.element_size())
    if part.activation is not relu or dropped:
        ledger.keep_bytes(rows * y.element_size())


def count_gated(ledger: Ledger, name: str, kind: str, part: Any, x: Tensor, y: Tensor) -> None:
    """down(activation(gate(x)) · up(x)): the products are counted by themselves, 3 · 2 r d f. Keeps gate(x), its
    activation and up(x), 3 r f (of a ReLU only two of them)."""
    rows = x[..., 0].numel() * part.down.weight.shape[1]
    ledger.add(name, kind, 0, 5 * rows * y.element_size())
    for _ in range(1 if part.activation is relu else 2):
        ledger.keep_bytes(rows * y.element_size())
    ledger.keep_bytes(rows * y.element_size(), beside=rows * y.element_size())  # of the product, and of both factors


def count_embedding(ledger: Ledger, name: str, kind: str, part: Any, ids: Tensor, y: Tensor) -> None:
    """Reads and writes r d; keeps the ids."""
    ledger.add(name, kind, 0, ids.nbytes + 2 * y.nbytes)
    ledger.keep(ids)


def count_rotary(ledger: Ledger, name: str, kind: str, part: Any, positions: Tensor, y: Any) -> None:
    """The table of cosines, and that of sines: t k numbers each, made once, by the first block that turns by them."""
    ledger.keep_bytes(2 * positions.numel() * part.head_dim * ledger.size, block=0)


def count_dropout(ledger: Ledger, name: str, kind: str, part: Any, x: Tensor, y: Tensor) -> None:
    """Keeps a factor for each number: as wide as the numbers on a CPU, a byte on a GPU."""
    if part.training and part.p > 0:
        ledger.add(name, kind, 0, 2 * x.nbytes)
        ledger.keep_bytes(x.nbytes if ledger.device == "cpu" else x.numel())


def count_patches(ledger: Ledger, name: str, kind: str, part: Any, image: Tensor, y: Tensor) -> None:
    """A product of patches of i = c p² pixels: 2 r i d FLOPs, and no gradient of the picture. Keeps the patches."""
    rows, width = y[..., 0].numel(), part.weight[0].numel()
    ledger.add(name, kind, linear_flops(rows, width, y.shape[-1]),
               image.nbytes + part.weight.nbytes + y.nbytes, learns_input=False)  # fmt: skip
    ledger.keep(torch.empty(image.nbytes, dtype=torch.uint8, device="meta"))  # bytes, that have no gradient
    ledger.learned += part.weight.nbytes


def count_router(ledger: Ledger, name: str, kind: str, part: Any, x: Tensor, y: Any) -> None:
    """x Wᵀ for each of n experts, 2 r d n FLOPs. Keeps x, the probabilities in float32, and the choice."""
    rows, experts = x.shape[0], part.weight.shape[0]
    ledger.add(name, kind, linear_flops(rows, x.shape[1], experts), x.nbytes + part.weight.nbytes)
    ledger.keep(x)
    ledger.keep_bytes(4 * rows * experts + 12 * y.chosen.numel())


def count_absorbed(ledger: Ledger, name: str, part: Any, given: Any, named: dict[str, Any], y: Tensor) -> None:
    """Latent attention with a cache forms no keys and values; instead Kᵀ q and V c of each head, 2 r h l (k + w) FLOPs,
    l the width of the latent: as many as forming them for r rows."""
    if named.get("cache") is not None:
        flops = 2 * y[..., 0].numel() * part.num_heads * part.latent_dim * (part.head_dim + part.value_dim)
        ledger.add(name, "attention", flops, part.key_value_up.weight.nbytes)


def count_transform(ledger: Ledger, name: str, kind: str, part: Any, x: Tensor, y: Tensor) -> None:
    """norm(activation(dense(x))): beside the product and the norm, keeps the activation's input, r d."""
    ledger.keep_bytes(y.nbytes)


COUNTED: tuple[tuple[Any, Callable[..., None]], ...] = (
    (LayerNorm | RMSNorm | ZeroCenteredRMSNorm, count_norm),
    (FeedForward, count_feed_forward),
    (GatedFeedForward, count_gated),
    (Embedding | LearnedPosition, count_embedding),
    (Rotary, count_rotary),
    (nn.Dropout, count_dropout),
    (PatchEmbedding, count_patches),
    (TopKRouter | GroupedRouter, count_router),
    (HeadTransform, count_transform),
)
KINDS: tuple[tuple[Any, str], ...] = (  # of what stands inside, and is nothing by itself
    (MixtureOfExperts, "experts"),
    (Attention | LatentAttention, "attention"),
    (FeedForward | GatedFeedForward, "feed-forward"),
    (LayerNorm | RMSNorm | ZeroCenteredRMSNorm, "norm"),
    (Embedding | LearnedPosition | PatchEmbedding, "embedding"),
    (nn.Dropout, "dropout"),
)


def kinds_of(model: nn.Module) -> dict[str, str]:
    """Each module's name -> its kind: its own, or that of the outermost part that it stands in."""
    kinds: dict[str, str] = {}
    for name, part in model.named_modules():
        above = kinds.get(name.rpartition(".")[0], "other")
        own = next((kind for types, kind in KINDS if isinstance(part, types)), None)
        if name == "head" or name.startswith("head."):
            own = "head"
        kinds[name] = above if above != "other" else own or "other"
    return kinds


def dispatched(ledger: Ledger, name: str) -> Callable[..., Tensor]:
    """All experts together do what one would with all the chosen tokens, c of them for each: r c (3 · 2 d f) FLOPs.

    On a CPU each group is filled up to a multiple of 32 (`parts.experts.rounded`), by half of that on average.

    Every expert that is chosen is read. Kept beside what the experts keep: their outputs, plain and weighted, 2 r c d;
    which token each row is, where it goes and how it is weighted.
    """

    def dispatch(x: Tensor, routing: Any, experts: list[nn.Module]) -> Tensor:
        rows = routing.chosen.numel()
        if ledger.device == "cpu" and rows > 16 * len(experts):
            rows += 16 * len(experts)
        ledger.turns = len(experts)
        y = experts[0](x.new_empty(rows, x.shape[1]))
        ledger.turns = 1
        one = sum(weight.nbytes for weight in experts[0].parameters())
        ledger.add(name, "experts", 0, (min(len(experts), rows) - 1) * one + 2 * y.nbytes)
        ledger.keep(y)
        ledger.keep_bytes(y.nbytes)
        ledger.keep_bytes(20 * rows)
        return torch.empty_like(x)

    return dispatch


@contextmanager
def counting(model: nn.Module, ledger: Ledger, blocks: list[nn.Module]) -> Iterator[None]:
    """While entered, a forward pass of the model (a skeleton, which it changes) is written down."""
    kinds, handles = kinds_of(model), []
    first = [f"{name}.up" for name, part in model.named_modules() if isinstance(part, FeedForward)]
    for name, part in model.named_modules():
        held: Any = part
        if isinstance(part, Linear | TiedLinear):
            held.kernel = CountedLinear(ledger, name, kinds[name], 2 if name in first else 0)
        elif isinstance(part, Attention | LatentAttention):
            automatic = getattr(held.kernel, "__name__", "") in ("auto", "products")
            held.kernel = CountedAttend(ledger, name, automatic=automatic)
            if isinstance(part, LatentAttention):
                handles.append(part.register_forward_hook(partial(count_absorbed, ledger, name), with_kwargs=True))
        elif isinstance(part, MixtureOfExperts):
            held.dispatch = dispatched(ledger, name)
        for types, count in COUNTED:
            if isinstance(part, types):

                def hook(part: Any, given: Any, y: Any, count: Any = count, name: str = name) -> None:
                    count(ledger, name, kinds[name], part, given[0], y)

                handles.append(part.register_forward_hook(hook))
    for i, block in enumerate(blocks):

        def enter(_: Any, given: Any, named: Any, i: int = i) -> None:
            for x in (*given, *named.values()):
                if isinstance(x, Tensor):
                    storage = x.untyped_storage()
                    ledger.inputs.setdefault(storage._cdata, KeptMemory(storage, storage.nbytes(), i, ledger.learned))
            ledger.block = i

        def leave(_: Any, given: Any, y: Any) -> None:
            ledger.block = None

        handles += [block.register_forward_pre_hook(enter, with_kwargs=True), block.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
