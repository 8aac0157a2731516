"""`glassformer predict --model FOLDER picture.png`, or a clip"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from glassformer.cli.models import Opened


@dataclass(frozen=True, kw_only=True)
class Predict:
    """What a model sees in pictures or clips: classes, boxes or masks, as a table and drawn.

    Writes a picture of each prediction: predictions/NAME.png.
    """

    pictures: Positional[tuple[Path, ...]]
    """picture files: png, jpg, webp, …; or, for a model that reads them, clips: mp4, webm, mov, …"""
    model: str
    """a run folder, a Hugging Face folder, or a hub id"""
    output: Path = Path("predictions")
    """the folder for the pictures of the predictions"""
    top: int | None = None
    """of a classifier: classes to name; 5 if not given"""
    threshold: float | None = None
    """of a model that finds objects: how sure it must be of one; 0.5 if not given"""
    attention: bool = False
    """draw where the model looks, too: predictions/NAME-attention.png"""
    device: str = "auto"
    """auto, cpu, cuda"""
    json: bool = False
    """print JSON"""


OPTIONS = {
    "image_classification": ("top",),
    "distilled_image_classification": ("top",),
    "object_detection": ("threshold",),
    "universal_segmentation": ("threshold",),
    "semantic_segmentation": (),
    "video_classification": ("top",),
}
"""What a model's head is for -> the options that have a meaning for it."""


def run(options: Predict, _: list[str]) -> None:
    """Predict, print, draw."""
    from rich.console import Console

    from glassformer.cli.models import open_model
    from glassformer.image.files import write_image

    check(options)
    pictures = [read(path) for path in options.pictures]
    opened = open_model(options.model, device=options.device)
    found, targets = predict(opened, pictures, options), targets_of(options)
    looked = [where_it_looks(opened, picture) for picture in pictures] if options.attention else []
    options.output.mkdir(parents=True, exist_ok=True)
    for path, picture, prediction, target in zip(options.pictures, pictures, found, targets, strict=True):
        write_image(target, prediction.draw(shown(picture), title=path.name))
    for target, picture in zip(targets, looked, strict=False):
        write_image(target.with_stem(f"{target.stem}-attention"), picture)
    pairs = list(zip(options.pictures, found, targets, strict=True))
    if options.json:
        print(json.dumps({str(path): each.rows() for path, each, _ in pairs}, indent=2))
        return
    console = Console(highlight=False)
    for path, each, target in pairs:
        console.print(table_of(path.name, each.rows()))
        console.print(str(target), markup=False, soft_wrap=True)


def read(path: Path) -> "Tensor":
    """A picture (3, y, x), or a clip (t, 3, y, x): a GIF is read as a picture, its first."""
    from glassformer.image.files import SUFFIXES, read_image
    from glassformer.video.files import SUFFIXES as CLIPS
    from glassformer.video.files import read_clip

    suffix = path.suffix.lower()
    return read_clip(path) if suffix in CLIPS and suffix not in SUFFIXES else read_image(path)


def shown(picture: "Tensor") -> "Tensor":
    """A picture as it is, of a clip nine frames."""
    from glassformer.video.files import filmstrip
    from glassformer.video.processor import evenly

    return picture if picture.ndim == 3 else filmstrip(evenly(picture, min(len(picture), 9)), columns=3)


def check(options: Predict) -> None:
    """Raise ValueError for options that cannot be, before a model is read."""
    if not options.pictures:
        raise ValueError("no picture is given; expected one or more files")
    if options.top is not None and options.top < 1:
        raise ValueError(f"--top is {options.top}; expected 1 or more")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise ValueError(f"--threshold is {options.threshold}; expected a number between 0 and 1")
    if options.output.is_file():
        raise FileExistsError(f"--output {options.output} is a file; expected a folder")


def predict(opened: "Opened", pictures: "list[Tensor]", options: Predict) -> list[Any]:
    """The predictions, of the kind that the model's head makes. Raises ValueError for a model that makes none."""
    from glassformer import prediction
    from glassformer.prediction.pictures import head_of

    kinds = {
        "image_classification": prediction.predict_image_classes,
        "distilled_image_classification": prediction.predict_image_classes,
        "object_detection": prediction.predict_boxes,
        "semantic_segmentation": prediction.predict_class_maps,
        "universal_segmentation": prediction.predict_masks,
        "video_classification": prediction.predict_clip_classes,
    }
    head, name = head_of(opened.model), type(opened.model).__name__
    if head not in kinds:
        raise ValueError(f"{name} predicts nothing of pictures; models that do are for {', '.join(kinds)}")
    given = {key: getattr(options, key) for key in ("top", "threshold") if getattr(options, key) is not None}
    for key, value in given.items():
        if key not in OPTIONS[head]:
            raise ValueError(f"--{key} {value} has no effect: {name} is for {head.replace('_', ' ')}")
    return kinds[head](opened.model, opened.processor(), pictures, **given)


def where_it_looks(opened: "Opened", picture: "Tensor") -> "Tensor":
    """The model's attention over the picture. ValueError for a clip, and for a model without maps of attention."""
    from glassformer.tracing.looking_plots import attention_picture

    if picture.ndim != 3:
        raise ValueError("--attention draws pictures; of a clip there is no map over one")
    return attention_picture(opened.model, opened.processor(), picture)


def targets_of(options: Predict) -> list[Path]:
    """A file for each picture's prediction; those of one name are numbered."""
    seen: dict[str, int] = {}
    targets = []
    for path in options.pictures:
        count = seen[path.stem] = seen.get(path.stem, 0) + 1
        targets.append(options.output / (f"{path.stem}.png" if count == 1 else f"{path.stem}-{count}.png"))
    for target, path in zip(targets, options.pictures, strict=True):
        if target.exists() and target.samefile(path):
            raise ValueError(f"{target} is the picture itself; choose another --output")
    return targets


def table_of(title: str, rows: list[dict[str, Any]]) -> "Table":
    """What was found in a picture; its name, and "nothing", where that is all."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=None)
    if not rows:
        table.add_column("nothing")
    for name in rows[0] if rows else ():
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in rows:
        table.add_row(*(escape(text_of(name, value)) for name, value in row.items()))
    return table


def text_of(name: str, value: Any) -> str:
    """One entry of the table."""
    if name in ("probability", "share"):
        return f"{value:.1%} {'█' * round(20 * value):<20}"
    if isinstance(value, float):
        return f"{value:.3f}"
    return " ".join(f"{edge:g}" for edge in value) if isinstance(value, list) else str(value)
