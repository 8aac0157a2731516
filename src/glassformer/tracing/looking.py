"""Where a model that sees looks: attention as maps over the picture, and rolled out through all blocks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.parts import PatchEmbedding, TubeletEmbedding, Windows
from glassformer.tracing.attention import listening_to_attention


@dataclass(frozen=True)
class Look:
    """One attention layer as it ran: its weights, after the softmax, and the windows in which, where it has windows."""

    name: str
    weights: Float[Tensor, "n h t s"]
    windows: Windows | None = None


@torch.no_grad()
def looks(model: nn.Module, pixel_values: Tensor, **options: Any) -> list[Look]:
    """Every attention layer, in the order in which they ran, of one call in evaluation mode.

    Raises ValueError for a model that has no attention.
    """
    was_training = model.training
    try:
        with listening_to_attention(model) as seen, _listening_to_windows(model) as windows:
            model.eval()(pixel_values, **options)
    finally:
        model.train(was_training)
    return [Look(name, weights, windows.get(name.rpartition(".")[0])) for name, weights in seen.items()]


def attention_maps(
    model: nn.Module, pixel_values: Tensor, block: int = -1, place: tuple[int, int] | None = None, **options: Any
) -> Float[Tensor, "n h *f y x"]:
    """Which places of the grid the heads of one block look at: shares that sum to 1 where only places are looked at.

    Args:
        model: one that sees pictures (b, c, y, x): ViT and its descendants, Swin, SegFormer; or clips (b, f, c, y, x),
            whose maps have frames f, or a row n for each picture where the block reads frame by frame.
        pixel_values: as the model takes them.
        block: of the attention layers, in the order in which they run.
        place: the row and column of the grid from which to look. None: from the class token, where there is one, else
            from everywhere alike.

    Raises:
        IndexError: no such block or place. ValueError: the block does not look at places of the picture.
    """
    found = [look for look in looks(model, pixel_values, **options) if "cross_attention" not in look.name]
    if not -len(found) <= block < len(found):
        raise IndexError(f"block={block} is none of the {len(found)} attention layers")
    look = found[block]
    if look.windows is not None:
        return _in_windows(look, look.windows, place)
    rows, columns = _grid(model, look.name, look.weights.shape[2], pixel_values)
    asked = _asked(look.weights[0, 0, :, 0], rows, columns, place)
    seen = torch.einsum("t,nhts->nhs", asked, look.weights)
    rows, columns = _grid(model, look.name, seen.shape[2], pixel_values)
    frames, before = divmod(seen.shape[2], rows * columns)
    maps = seen[:, :, before:].unflatten(2, (frames, rows, columns))
    return maps[:, :, 0] if frames == 1 else maps


def cross_attention_maps(
    model: nn.Module, pixel_values: Tensor, layer: int = -1, **options: Any
) -> Float[Tensor, "b h q y x"]:
    """Which places of the picture each query of a decoder reads, in one of its layers: of DETR and its like.

    Raises IndexError where there is no such layer; ValueError for a model whose decoder reads no picture.
    """
    found = [look for look in looks(model, pixel_values, **options) if look.name.endswith("cross_attention")]
    if not found:
        raise ValueError(f"{type(model).__name__} has no cross_attention: no queries that read a picture")
    if not -len(found) <= layer < len(found):
        raise IndexError(f"layer={layer} is none of the {len(found)} layers with cross-attention")
    weights = found[layer].weights
    return weights.unflatten(3, _grid(model, found[layer].name, weights.shape[3], pixel_values))


def attention_rollout(
    model: nn.Module, pixel_values: Tensor, *, residual: float = 0.5, **options: Any
) -> Float[Tensor, "b y x"]:
    """How much of each place arrives at what the head reads: the class token, or the mean of the last places.

    R = Ã_L … Ã_1 with Ã = residual · I + (1 − residual) · mean of the heads (Abnar & Zuidema 2020, "Quantifying
    Attention Flow in Transformers", section 3): half of what a block gives is taken to come around it. Rows sum to 1
    again where something else than a place was looked at. Swin's windows are multiplied as they lie in the grid, and
    where its stages merge four places the four are averaged. Maps sum to 1.

    Raises:
        ValueError: a residual outside [0, 1); blocks that do not all read the same tokens, as a masked autoencoder's
            or SegFormer's; clips.
    """
    if not 0 <= residual < 1:
        raise ValueError(f"residual={residual} is no share of what goes around a block; expected 0 or more, below 1")
    if pixel_values.ndim != 4:
        raise ValueError(f"pixel_values has shape {tuple(pixel_values.shape)}; a rollout is of pictures (b, c, y, x)")
    found = looks(model, pixel_values, **options)
    if all(look.windows is not None for look in found):
        return _windowed_rollout(found, len(pixel_values), residual)
    t = found[0].weights.shape[2]
    rows, columns = _grid(model, found[0].name, t, pixel_values)
    flow = torch.eye(t, device=pixel_values.device).expand(len(pixel_values), -1, -1)
    for look in found:
        if look.weights.shape[0::2] != (len(flow), t) or look.weights.shape[3] != t:
            raise ValueError(f"{look.name} has weights of shape {tuple(look.weights.shape)}; a rollout needs blocks "
                             f"that all read the same {t} tokens")  # fmt: skip
        flow = residual * flow + (1 - residual) * look.weights.float().mean(1) @ flow
    before = t - rows * columns
    read = flow[:, 0] if before else flow.mean(1)
    return _shares(read[:, before:].unflatten(1, (rows, columns)))


def _windowed_rollout(found: list[Look], batch: int, residual: float) -> Float[Tensor, "b y x"]:
    first = found[0].windows
    assert first is not None
    cells = first.rows * first.columns
    eye = torch.eye(cells, device=found[0].weights.device).view(1, first.rows, first.columns, cells)
    flow = eye.expand(batch, -1, -1, -1)
    for look in found:
        windows = look.windows
        assert windows is not None
        if flow.shape[1:3] != (windows.rows, windows.columns):  # a stage ended
            flow = F.avg_pool2d(flow.permute(0, 3, 1, 2), 2, ceil_mode=True).permute(0, 2, 3, 1)
        inside = windows.join(look.weights.float().mean(1) @ windows.split(flow))
        flow = residual * flow + (1 - residual) * inside / inside.sum(-1, keepdim=True)
    return _shares(flow.mean((1, 2)).unflatten(1, (first.rows, first.columns)))


def _in_windows(look: Look, windows: Windows, place: tuple[int, int] | None) -> Float[Tensor, "b h y x"]:
    """Attention within windows, laid out over the grid."""
    grid = look.weights.new_zeros(windows.rows * windows.columns)
    asked = _asked(grid, windows.rows, windows.columns, place).view(1, windows.rows, windows.columns, 1)
    inside = windows.split(asked)[..., 0]  # padding asks nothing
    weights = rearrange(look.weights, "(b w) h t s -> b w h t s", w=len(inside))
    seen = torch.einsum("wt,bwhts->bwsh", inside, weights)
    return windows.join(seen.flatten(0, 1)).permute(0, 3, 1, 2)


def _asked(like: Float[Tensor, "t"], rows: int, columns: int, place: tuple[int, int] | None) -> Float[Tensor, "t"]:
    """The weight of each of t tokens as a query: all of it at one, or the same everywhere."""
    t, asked = len(like), torch.zeros_like(like)
    before = t % (rows * columns)
    if place is None:
        return asked.fill_(1 / t) if not before else asked.index_fill_(0, asked.new_zeros(1).long(), 1.0)
    row, column = place
    if not (0 <= row < rows and 0 <= column < columns):
        raise IndexError(f"place={place} is not in the grid of {rows} × {columns}")
    asked[before + row * columns + column] = 1.0
    return asked


def _grid(model: nn.Module, name: str, tokens: int, pixel_values: Tensor) -> tuple[int, int]:
    """The rows and columns of the grid that these tokens stand for; tokens in front of it, and frames, aside.

    By the size of the model's patches; where they overlap, or a convolutional backbone makes them, by the power of two
    by which the picture was made smaller.
    """
    height, width = pixel_values.shape[-2:]
    patches: Any = getattr(model, "patches", getattr(getattr(model, "encoder", None), "patches", None))
    if isinstance(patches, PatchEmbedding | TubeletEmbedding):
        side = patches.weight.shape[-1]
        rows, columns = -(-height // side), -(-width // side)
        if tokens >= rows * columns:
            return rows, columns
        raise ValueError(f"{name} reads {tokens} tokens, fewer than the {rows} × {columns} patches of the picture: it "
                         "does not look at all places")  # fmt: skip
    for stride in (2**i for i in range(9)):
        rows, columns = -(-height // stride), -(-width // stride)
        if rows * columns == tokens:
            return rows, columns
    raise ValueError(f"{name} reads {tokens} tokens, which are no grid of a picture of {height} × {width} pixels")


def _shares(maps: Float[Tensor, "b y x"]) -> Float[Tensor, "b y x"]:
    return maps / maps.sum((1, 2), keepdim=True)


@contextmanager
def _listening_to_windows(model: nn.Module) -> Iterator[dict[str, Windows]]:
    """While entered, what runs leaves the `windows` that a module was called with, by the module's name."""
    seen: dict[str, Windows] = {}

    def tap(name: str) -> Callable[[nn.Module, Any, dict[str, Any]], None]:
        def note(_module: nn.Module, _args: Any, options: dict[str, Any]) -> None:
            if isinstance(options.get("windows"), Windows):
                seen[name] = options["windows"]

        return note

    named = list(model.named_modules())
    handles = [module.register_forward_pre_hook(tap(name), with_kwargs=True) for name, module in named]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
