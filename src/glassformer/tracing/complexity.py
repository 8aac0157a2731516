"""Where attention becomes the dearer half of a block: time against length, beside O(n²d) and O(nd²)."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.parts import MixtureOfExperts
from glassformer.tracing.depth import stacks_of


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """What a block computes for n tokens: attention of `num_heads` heads, and products with `matrices` (out, in)."""

    name: str
    num_heads: int
    head_dim: int
    matrices: tuple[tuple[int, int], ...]

    def attention_flops(self, n: float) -> float:
        """Q Kᵀ and the weights times V: 4 n² h k, without a mask."""
        return 4 * n * n * self.num_heads * self.head_dim

    def product_flops(self, n: float) -> float:
        """2 n for each number of the matrices; 24 n d² of a block that is 4 d wide inside."""
        return 2 * n * self._numbers

    @property
    def crossing(self) -> float:
        """The length from which attention computes more than the products do; 6 d for the block of the paper."""
        return self._numbers / (2 * self.num_heads * self.head_dim)

    @property
    def _numbers(self) -> int:
        return sum(rows * columns for rows, columns in self.matrices)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Seconds of both halves of a block, measured at some lengths."""

    shape: BlockShape
    lengths: tuple[int, ...]
    attention: tuple[float, ...]
    products: tuple[float, ...]

    def rates(self) -> tuple[float, float]:
        """FLOP/s of attention and of the products at the longest length, where neither waits for anything else."""
        n = self.lengths[-1]
        return self.shape.attention_flops(n) / self.attention[-1], self.shape.product_flops(n) / self.products[-1]

    @property
    def crossing(self) -> float:
        """The length at which both take as long: between measured lengths where they cross for good, on the logarithmic
        scales; else where the formulas, at the rates of the longest length, meet."""
        gaps = [math.log(a / p) for a, p in zip(self.attention, self.products, strict=True)]
        below = [i for i, gap in enumerate(gaps[:-1]) if gap < 0 <= gaps[i + 1]]
        if below and gaps[-1] >= 0:
            i = below[-1]
            left, right = math.log(self.lengths[i]), math.log(self.lengths[i + 1])
            return math.exp(left + (right - left) * -gaps[i] / (gaps[i + 1] - gaps[i]))
        fast, slow = self.rates()
        return self.shape.crossing * fast / slow

    @property
    def is_measured(self) -> bool:
        """Whether the crossing lies between measured lengths."""
        return self.lengths[0] <= self.crossing <= self.lengths[-1]


def paper_block(dim: int = 256, num_heads: int = 4) -> BlockShape:
    """The block of Vaswani et al. 2017: four projections, and a feed-forward layer 4 d wide."""
    matrices = ((dim, dim),) * 4 + ((4 * dim, dim), (dim, 4 * dim))
    return BlockShape(name=f"a block {dim} wide", num_heads=num_heads, head_dim=dim // num_heads, matrices=matrices)


def shape_of(model: nn.Module) -> BlockShape:
    """The shape of a model's last block; of experts those that one token meets.

    Raises ValueError for a model without blocks, or whose config does not say its heads.
    """
    path, stack = list(stacks_of(model).items())[-1]
    block, config = stack[-1], getattr(model, "config", None)
    heads, width = _heads(block, config)
    if not heads or not width:
        raise ValueError(f"neither {path}.{len(stack) - 1} nor the config of {type(model).__name__} says how many "
                         "heads there are, and how wide")  # fmt: skip
    idle: set[int] = set()
    for part in block.modules():
        if isinstance(part, MixtureOfExperts):
            chosen: Any = part.router.num_chosen
            idle |= {id(p) for expert in list(part.experts)[chosen:] for p in expert.parameters()}
    shapes = [tuple(p.shape) for p in block.parameters() if p.ndim == 2 and id(p) not in idle]
    return BlockShape(name=f"{path}.{len(stack) - 1}", num_heads=heads, head_dim=width, matrices=tuple(shapes))  # pyright: ignore


def _heads(block: nn.Module, config: Any) -> tuple[int | None, int | None]:
    """How many heads, and how wide each."""
    for part in block.modules():
        heads, width = getattr(part, "num_heads", None), getattr(part, "head_dim", None)
        if isinstance(heads, int) and isinstance(width, int):
            return heads, width
    named = {name: getattr(config, name, None) for name in ("num_heads", "num_attention_heads", "n_head")}
    heads = next((value for value in named.values() if isinstance(value, int)), None)
    widths = [getattr(config, name, 0) for name in ("dim", "hidden_size", "d_model", "n_embd")]
    dim = next((width for width in widths if width), 0)
    width = getattr(config, "head_dim", None) or (dim // heads if heads else None)
    return heads, width


def measured(
    shape: BlockShape, *, lengths: Sequence[int] | None = None, seconds: float = 6.0, device: Any = "cpu"
) -> Curves:
    """Run both halves of a block on random numbers, forward, in float32, and take the least time of each length.

    Without `lengths`: powers of √2 from 64 until the crossing of the formulas is passed twice over, or `seconds` have
    gone by (then the crossing is extrapolated). Raises ValueError for fewer than two lengths.
    """
    if lengths is not None and (len(lengths) < 2 or sorted(set(lengths)) != list(lengths) or lengths[0] < 1):
        raise ValueError(f"lengths are {list(lengths)}; expected two or more, growing, from 1 on")
    tried = list(lengths) if lengths is not None else [round(64 * 2 ** (i / 2)) for i in range(24)]
    found: list[tuple[int, float, float]] = []
    end, last = time.perf_counter() + seconds, 0.0
    with torch.inference_mode():
        weights = [torch.randn(size, device=device) * 0.02 for size in shape.matrices]
        for n in tried:
            begun = time.perf_counter()
            enough = found and (found[-1][0] > 2 * shape.crossing or begun + 2 * last > end)
            if lengths is None and len(found) > 3 and enough:
                break
            found.append((n, *_both(shape, weights, n, device)))
            last = time.perf_counter() - begun
    return Curves(shape=shape, lengths=tuple(n for n, _, _ in found), attention=tuple(a for _, a, _ in found),
                  products=tuple(p for _, _, p in found))  # fmt: skip


def _both(shape: BlockShape, weights: list[Tensor], n: int, device: Any) -> tuple[float, float]:
    q, k, v = (torch.randn(1, shape.num_heads, n, shape.head_dim, device=device) for _ in range(3))
    rows = {weight.shape[1]: torch.randn(n, weight.shape[1], device=device) for weight in weights}

    def products() -> None:
        for weight in weights:
            F.linear(rows[weight.shape[1]], weight)

    return _least(lambda: F.scaled_dot_product_attention(q, k, v), device), _least(products, device)


def _least(run: Callable[[], Any], device: Any, rounds: int = 3) -> float:
    run()
    best = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        run()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - begun)
    return best
