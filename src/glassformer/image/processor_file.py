"""`preprocessor_config.json`, read and written: what Hugging Face's image processors call our processor's fields.

Strict both ways, as the models' config tables are: what a file says beyond what is implemented here raises. Read are
the files of today and those of the feature extractors before them (one number for a size, `max_size`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glassformer.checkpoints.config import words
from glassformer.checkpoints.folders import CONFIG, read_json, write_json
from glassformer.checkpoints.hub import resolve
from glassformer.foundation.suggest import did_you_mean
from glassformer.image.processor import RESAMPLE, ImageProcessor, ShortestEdge

FILE = "preprocessor_config.json"
FILE_OF_CLIPS = "video_preprocessor_config.json"
HALVES = [0.5, 0.5, 0.5]
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
EDGES = {"shortest_edge": 800, "longest_edge": 1333}

COMMON: Mapping[str, Any] = {
    "do_resize": True,
    "resample": 2,
    "do_center_crop": False,
    "crop_size": None,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": HALVES,
    "image_std": HALVES,
}
"""What every processor of theirs has, and what it is where the file does not say."""

IGNORED = words("""
    do_convert_rgb default_to_square format do_convert_annotations ignore_index num_labels processor_class _max_size
    image_processor_type feature_extractor_type data_format input_data_format device return_tensors disable_grouping
    video_processor_type _valid_processor_keys model_input_names video_metadata return_metadata
""")
"""Changes nothing of what comes out here: pictures are red, green and blue, targets are made of `Objects`."""


OFF = words("do_sample_frames do_pad do_reduce_labels do_center_crop")
"""May stand in any file as false."""

TYPES = ("image_processor_type", "video_processor_type", "feature_extractor_type")


@dataclass(frozen=True)
class Family:
    """One of their processors: its class, what it takes for granted, and the families of models that come with it."""

    theirs: str
    defaults: Mapping[str, Any]
    models: tuple[str, ...]
    extra: frozenset[str] = field(default=frozenset())
    square: bool = True  # a size that is one number means both edges, not the shorter one
    pads: bool = False

    @property
    def known(self) -> set[str]:
        """The names that its file may have."""
        return {*COMMON, *self.defaults, *self.extra, "size"}


PADDING = words("do_pad pad_and_return_pixel_mask pad_size max_size")
DIVIDED = words("size_divisibility reduce_labels pad_size max_size")
CROP = {"do_center_crop": True, "crop_size": 224}
DETR: Mapping[str, Any] = IMAGENET | {"size": EDGES, "do_pad": True}
MASKFORMER: Mapping[str, Any] = IMAGENET | {"size": EDGES, "size_divisor": 32, "do_reduce_labels": False}

FAMILIES: Mapping[str, Family] = {
    "vit": Family("ViTImageProcessor", {"size": 224}, ("vit", "swin", "swinv2", "vit_mae")),
    "deit": Family("DeiTImageProcessor", CROP | {"size": 256, "resample": 3}, ("deit",)),
    "bit": Family(
        "BitImageProcessor",
        CLIP | CROP | {"size": 224, "resample": 3},
        ("dinov2", "dinov2_with_registers"),
        square=False,
    ),
    "detr": Family("DetrImageProcessor", DETR, ("detr",), PADDING, square=False, pads=True),
    "conditional_detr": Family(
        "ConditionalDetrImageProcessor", DETR, ("conditional_detr", "dab_detr"), PADDING, square=False, pads=True
    ),
    "deformable_detr": Family(
        "DeformableDetrImageProcessor", DETR, ("deformable_detr",), PADDING, square=False, pads=True
    ),
    "segformer": Family(
        "SegformerImageProcessor",
        IMAGENET | {"size": 512, "do_reduce_labels": False},
        ("segformer",),
        words("reduce_labels"),
    ),
    "maskformer": Family("MaskFormerImageProcessor", MASKFORMER, ("maskformer",), DIVIDED, square=False, pads=True),
    "mask2former": Family("Mask2FormerImageProcessor", MASKFORMER, ("mask2former",), DIVIDED, square=False, pads=True),
    "videomae": Family("VideoMAEImageProcessor", CROP | {"size": 224}, ("videomae", "timesformer"), square=False),
    "vivit": Family(
        "VivitImageProcessor",
        CROP | {"size": 256, "rescale_factor": 1 / 127.5, "offset": True},
        ("vivit",),
        square=False,
    ),
}
"""Our name of a family -> theirs."""


def read_image_processor(folder: str | os.PathLike[str]) -> ImageProcessor:
    """The processor of a folder, or of a hub id.

    Raises:
        FileNotFoundError: there is no `preprocessor_config.json`.
        ValueError: it is no JSON, or asks for what is not implemented here; names the attribute.
    """
    path = resolve(folder) / FILE
    if not path.is_file() and path.with_name(FILE_OF_CLIPS).is_file():
        path = path.with_name(FILE_OF_CLIPS)
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {FILE}, which says how pictures are prepared")
    theirs = read_json(path)
    try:
        return from_attributes(theirs, family_of(theirs, path.parent))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def save_image_processor(processor: ImageProcessor, folder: str | os.PathLike[str]) -> Path:
    """Write the file, whole or not at all, and give its path."""
    path = Path(folder) / FILE
    attributes = to_attributes(processor)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, attributes)
    return path


def family_of(theirs: Mapping[str, Any], folder: Path) -> str:
    """The family that a file names, or else the `model_type` of the config beside it."""
    name = next((theirs[key] for key in TYPES if theirs.get(key)), None)
    if name is None:
        model_type = read_json(folder / CONFIG).get("model_type") if (folder / CONFIG).is_file() else None
        for ours, family in FAMILIES.items():
            if model_type in family.models:
                return ours
        raise ValueError(f"it names no image_processor_type, and the model's type {model_type!r} tells none")
    if not isinstance(name, str):
        raise ValueError(f"image_processor_type={name!r}; expected the name of a processor")
    plain = name.replace("FeatureExtractor", "ImageProcessor").replace("VideoProcessor", "ImageProcessor")
    plain = plain.removesuffix("Fast").removesuffix("Pil").replace("Timesformer", "VideoMAE")
    for ours, family in FAMILIES.items():
        if family.theirs == plain:
            return ours
    known = [family.theirs for family in FAMILIES.values()]
    raise ValueError(f"image_processor_type={name!r} is not implemented{did_you_mean(plain, known)}")


def from_attributes(theirs: Mapping[str, Any], family_name: str) -> ImageProcessor:
    """Their attributes as our processor. Raises ValueError for one that is unknown or not implemented."""
    family = FAMILIES[family_name]
    plain = {name for name, value in theirs.items() if value is None or (name in OFF and value is False)}
    if unknown := sorted(set(theirs) - family.known - IGNORED - plain):
        near = did_you_mean(unknown[0], family.known)
        raise ValueError(f"{unknown[0]}={theirs[unknown[0]]!r} is not implemented for a {family.theirs}{near}")
    said = {**COMMON, **family.defaults, **{name: value for name, value in theirs.items() if value is not None}}
    for name, value in said.items():
        if name.startswith("do_") and not isinstance(value, bool):
            raise ValueError(f"{name}={value!r}; expected true or false")
    if theirs.get("ignore_index", 255) not in (255, None):
        raise ValueError(f"ignore_index={theirs['ignore_index']!r} is not implemented; classes are ignored by 255")
    resample = {number: name for name, number in RESAMPLE.items()}
    if said["resample"] not in resample:
        raise ValueError(f"resample={said['resample']!r} is none of Pillow's ways, 0 .. 5")
    normal = {"mean": _three("image_mean", said), "std": _three("image_std", said)} if said["do_normalize"] else {}
    return ImageProcessor(
        size=_size("size", said, family) if said["do_resize"] else None,
        resample=resample[said["resample"]],
        multiple_of=max(said.get("size_divisibility", said.get("size_divisor", 1)), 1) if said["do_resize"] else 1,
        crop=_rows_columns("crop_size", said["crop_size"]) if said["do_center_crop"] else None,
        scale=float(said["rescale_factor"]) if said["do_rescale"] else 1.0,
        shift=-1.0 if said.get("offset") else 0.0,
        pad=family.pads and bool(said.get("pad_and_return_pixel_mask", said.get("do_pad", True))),
        pad_size=_rows_columns("pad_size", said["pad_size"]) if said.get("pad_size") else None,
        reduce_labels=bool(said.get("reduce_labels", said.get("do_reduce_labels", False))),
        family=family_name,
        **(normal or {"mean": None, "std": None}),
    )


def to_attributes(processor: ImageProcessor) -> dict[str, Any]:
    """Our processor as their attributes. Raises ValueError for what the family's file cannot say."""
    if processor.family not in FAMILIES:
        near = did_you_mean(processor.family, FAMILIES)
        raise ValueError(f"family={processor.family!r} has no file of its own{near}")
    family = FAMILIES[processor.family]
    theirs: dict[str, Any] = {
        "image_processor_type": family.theirs,
        "do_resize": processor.size is not None,
        "resample": RESAMPLE[processor.resample],
        "do_rescale": processor.scale != 1,
        "rescale_factor": processor.scale,
        "do_normalize": processor.mean is not None,
    }
    if isinstance(processor.size, ShortestEdge):
        theirs["size"] = {"shortest_edge": processor.size.length}
        if processor.size.longest is not None:
            theirs["size"]["longest_edge"] = processor.size.longest
    elif processor.size is not None:
        theirs["size"] = {"height": processor.size[0], "width": processor.size[1]}
    if processor.mean is not None and processor.std is not None:
        theirs |= {"image_mean": list(processor.mean), "image_std": list(processor.std)}
    if processor.crop is not None or "do_center_crop" in family.defaults:
        theirs["do_center_crop"] = processor.crop is not None
    if processor.crop is not None:
        theirs["crop_size"] = {"height": processor.crop[0], "width": processor.crop[1]}
    if "do_pad" in family.defaults:
        theirs["do_pad"] = processor.pad
    if processor.pad_size is not None:
        theirs["pad_size"] = {"height": processor.pad_size[0], "width": processor.pad_size[1]}
    if "size_divisor" in family.defaults:
        theirs["size_divisor"] = processor.multiple_of
    if "do_reduce_labels" in family.defaults:
        theirs["do_reduce_labels"] = processor.reduce_labels
    if family.defaults is MASKFORMER:
        theirs["ignore_index"] = 255
    if "offset" in family.defaults:
        theirs["offset"] = processor.shift == -1
    if (again := from_attributes(theirs, processor.family)) != processor:
        odd = next(name for name in vars(processor) if getattr(again, name) != getattr(processor, name))
        raise ValueError(f"{odd}={getattr(processor, odd)!r} cannot be said in the file of a {family.theirs}")
    return theirs


def _size(name: str, said: Mapping[str, Any], family: Family) -> tuple[int, int] | ShortestEdge:
    value = said[name]
    longest = said.get("max_size")
    if isinstance(value, int) and not family.square:
        if longest is None and family.pads:
            longest = EDGES["longest_edge"]
        return ShortestEdge(value, longest)
    if isinstance(value, Mapping) and "shortest_edge" in value and set(value) <= {"shortest_edge", "longest_edge"}:
        return ShortestEdge(value["shortest_edge"], value.get("longest_edge", longest))
    return _rows_columns(name, value)


def _rows_columns(name: str, value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        return value["height"], value["width"]
    if isinstance(value, list | tuple) and len(value) == 2:
        return value[0], value[1]
    raise ValueError(f"{name}={value!r} is not implemented; expected a height and a width, or a shortest_edge")


def _three(name: str, said: Mapping[str, Any]) -> tuple[float, float, float]:
    value = said[name]
    three = [float(value)] * 3 if isinstance(value, int | float) else [float(one) for one in value]
    if len(three) != 3:
        raise ValueError(f"{name}={value!r}: expected three numbers, for red, green and blue")
    return three[0], three[1], three[2]
