"""Attention drawn over the picture: heads, rollout, and what the queries of a detector read."""

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from glassformer.image.processor import ImageProcessor
from glassformer.models.detection import ObjectDetection
from glassformer.tracing.looking import attention_maps, attention_rollout, cross_attention_maps
from glassformer.tracing.plots import ORANGE, figure, finished

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_HEADS = 8
COLUMNS = 5


def draw_attention(
    model: nn.Module, pixel_values: Float[Tensor, "1 c y x"], picture: Tensor, path: str | None = None, block: int = -1
) -> "Figure":
    """A picture, what of it arrives at the head (rollout, where the model allows it), and where one block's heads look.

    Args:
        model: see `attention_maps`.
        pixel_values: the picture as the model takes it.
        picture: (3, y, x) as it is seen, bytes or floats in [0, 1]; of any size, over which the maps are laid.
        path: where a .png is written.
        block: whose heads are drawn.

    Raises what `attention_maps` raises, and ImportError where matplotlib is missing.
    """
    maps = attention_maps(model, pixel_values, block)[0]
    shown = [("mean of the heads", maps.mean(0))]
    shown += [(f"head {i + 1}", each) for i, each in enumerate(maps[:MOST_HEADS])]
    with suppress(ValueError):  # blocks that read different tokens have none
        shown.insert(0, ("rollout of all blocks", attention_rollout(model, pixel_values)[0]))
    made, axes = _panels(len(shown) + 1)
    _plain(axes[0], picture, "picture")
    image: Any = None
    for axis, (title, each) in zip(axes[1:], shown, strict=False):
        image = _over(axis, picture, each, title)
    _legend(made, axes, image, len(shown) + 1)
    name = f"block {block + 1}" if block >= 0 else "the last block" if block == -1 else f"block {block} from the end"
    left = f", {len(maps) - MOST_HEADS} more not shown" if len(maps) > MOST_HEADS else ""
    made.suptitle(f"Where {type(model).__name__} looks: {len(maps)} heads of {name}{left}")
    return finished(made, path)


def draw_queries(
    model: ObjectDetection,
    pixel_values: Float[Tensor, "1 c y x"],
    picture: Tensor,
    path: str | None = None,
    most: int = 9,
) -> "Figure":
    """What a detector's surest queries read of the picture in the last layer, each with the box that it finds there.

    Arguments and errors are those of `draw_attention` and `cross_attention_maps`.
    """
    maps = cross_attention_maps(model, pixel_values)[0].mean(0)
    was_training = model.training
    try:
        with torch.no_grad():
            out: Any = model.eval()(pixel_values)
    finally:
        model.train(was_training)
    logits, classes = out.logits[0], model.config.num_classes
    # One more than the classes is "nothing", and they share what is certain; else each class is asked for itself.
    sure = logits.softmax(-1)[:, :classes] if logits.shape[-1] > classes else logits.sigmoid()
    surest = sure.max(-1)
    chosen = surest.values.argsort(descending=True)[:most].tolist()
    made, axes = _panels(len(chosen) + 1)
    _plain(axes[0], picture, "picture")
    labels, image = model.config.labels, None
    height, width = picture.shape[-2:]
    for axis, query in zip(axes[1:], chosen, strict=False):
        number = int(surest.indices[query])
        name = labels[number] if labels is not None and number < len(labels) else f"class {number}"
        image = _over(axis, picture, maps[query], f"query {query + 1}: {name} {surest.values[query]:.0%}")
        x, y, w, h = out.pred_boxes[0, query].tolist()
        corner = (x - w / 2) * width - 0.5, (y - h / 2) * height - 0.5
        axis.add_patch(_box(corner, w * width, h * height))
    _legend(made, axes, image, len(chosen) + 1)
    made.suptitle(f"What the surest queries of {type(model).__name__} read, mean of the heads, and their boxes")
    return finished(made, path)


def attention_picture(
    model: nn.Module, processor: ImageProcessor, picture: UInt8[Tensor, "3 y x"], block: int = -1
) -> UInt8[Tensor, "3 y x"]:
    """What `draw_queries` draws of a detector, `draw_attention` of another model, over what the model sees.

    The picture is prepared by the model's processor: resized, cropped. Errors are those of the two.
    """
    device = next(model.parameters()).device
    pixel_values = processor([picture])["pixel_values"].to(device)
    seen = processor.pixels(pixel_values)[0].clamp(0, 1)
    if isinstance(model, ObjectDetection):
        return as_picture(draw_queries(model, pixel_values, seen))
    return as_picture(draw_attention(model, pixel_values, seen, block=block))


def as_picture(made: "Figure", dpi: int = 120) -> UInt8[Tensor, "3 y x"]:
    """A figure as a picture, to be put on a sheet or written with `write_image`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    made.set_dpi(dpi)
    canvas = FigureCanvasAgg(made)
    canvas.draw()
    return torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8).view(
        *reversed(canvas.get_width_height()), 4
    )[..., :3].permute(2, 0, 1).contiguous()  # fmt: skip


def _panels(count: int) -> tuple["Figure", list[Any]]:
    columns = min(range(min(count, COLUMNS), 2, -1), key=lambda columns: -count % columns, default=count)
    rows = math.ceil(count / columns)
    made, axes = figure(rows, columns, (2.3 * columns + 0.9, 2.5 * rows + 0.5))
    flat = list(axes.flat)
    for axis in flat:
        axis.set_axis_off()
    return made, flat


def _plain(axis: Any, picture: Tensor, title: str) -> None:
    seen = picture.float() / 255 if picture.dtype == torch.uint8 else picture.float().clamp(0, 1)
    axis.imshow(seen.permute(1, 2, 0).cpu().numpy())
    axis.set_title(title, fontsize=10)


def _over(axis: Any, picture: Tensor, attention: Float[Tensor, "y x"], title: str) -> Any:
    """A map over the picture in grey; each map has its own scale, and says how far it goes."""
    height, width = picture.shape[-2:]
    seen = picture.float() / 255 if picture.dtype == torch.uint8 else picture.float().clamp(0, 1)
    axis.imshow(seen.mean(0).cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    most = attention.max().clamp(min=1e-12)
    share = F.interpolate((attention.float() / most)[None, None], (height, width), mode="bilinear")[0, 0]
    seen_through = 0.25 + 0.55 * share.clamp(0, 1)  # where nobody looks the picture shows
    image = axis.imshow(share.cpu().numpy(), cmap="viridis", vmin=0, vmax=1, alpha=seen_through.cpu().numpy())
    axis.set_title(f"{title}\nmost: {most * attention.numel():.1f} × even", fontsize=8)
    return image


def _box(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, edgecolor=ORANGE, linewidth=2)


def _legend(made: "Figure", axes: list[Any], image: Any, used: int) -> None:
    from matplotlib.cm import ScalarMappable

    bar = ScalarMappable(image.norm, image.cmap)  # the image's own would take its transparencies
    made.colorbar(bar, ax=axes[:used], label="attention, share of the most", shrink=0.8)
