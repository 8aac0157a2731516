"""ResNet (He et al. 2016): convolutions that learn what to add to their input; the eyes of DETR and its kin."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import Compound, ConfigTable, Values
from glassformer.checkpoints.table import DROP, Table
from glassformer.models.vision import CLASSES, ImageClassification, StagedEncoder, check_classes
from glassformer.parts.activation import relu
from glassformer.parts.batch_norm import NormedConvolution

Norm = Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Table 1 of the paper; the defaults are ResNet-50, and ImageNet's classes.

    `dims` are the channels that the stages give, `depths` their blocks. A block is a "bottleneck" (1 × 1, 3 × 3, 1 × 1,
    the middle one four times narrower) or "basic" (two 3 × 3). Each stage but the first halves the picture, the first
    too with `halve_first`: in the 3 × 3 convolution of its first bottleneck, or, with `halve_early`, as in the paper,
    in the 1 × 1 before it.
    """

    channels: int = 3
    stem_dim: int = 64
    dims: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    block: str = "bottleneck"
    halve_first: bool = False
    halve_early: bool = False
    num_classes: int = 1000
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.dims or len(self.dims) != len(self.depths) or min(*self.dims, *self.depths) < 1:
            raise ValueError(f"dims={self.dims} and depths={self.depths} describe no stages; give both for each stage")
        if self.block not in ("bottleneck", "basic"):
            raise ValueError(f"block={self.block!r} is unknown; expected 'bottleneck' or 'basic'")
        if self.block == "bottleneck" and any(dim % 4 for dim in self.dims):
            raise ValueError(f"dims={self.dims} cannot all be made four times narrower, as a bottleneck is")
        check_classes(self.num_classes, self.labels)

    @property
    def stride(self) -> int:
        """How many pixels a place of the last grid stands for, each way."""
        return 4 * 2 ** (len(self.dims) - 1 + self.halve_first)


SIZES = {  # table 1
    "resnet-18": ResNetConfig(block="basic", dims=(64, 128, 256, 512), depths=(2, 2, 2, 2)),
    "resnet-34": ResNetConfig(block="basic", dims=(64, 128, 256, 512)),
    "resnet-50": ResNetConfig(),
    "resnet-101": ResNetConfig(depths=(3, 4, 23, 3)),
    "resnet-152": ResNetConfig(depths=(3, 8, 36, 3)),
}


def _load_stages(theirs: dict[str, Any]) -> dict[str, Any]:
    dims, depths = theirs.get("hidden_sizes", [256, 512, 1024, 2048]), theirs.get("depths", [3, 4, 6, 3])
    for name, value in (("hidden_sizes", dims), ("depths", depths)):
        if not isinstance(value, list) or any(type(number) is not int or number < 1 for number in value):
            raise ValueError(f"config.json has {name}={value!r}; expected whole numbers, 1 or more")
    return {"dims": tuple(dims), "depths": tuple(depths)}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    return ConfigTable(
        config=ResNetConfig,
        model_type="resnet",
        architectures=(architecture,),
        names={
            "num_channels": "channels",
            "embedding_size": "stem_dim",
            "layer_type": Values("block", {"bottleneck": "bottleneck", "basic": "basic"}),
            "downsample_in_first_stage": "halve_first",
            "downsample_in_bottleneck": "halve_early",
        },
        defaults={"num_channels": 3, "embedding_size": 64, "layer_type": "bottleneck",
                  "downsample_in_first_stage": False, "downsample_in_bottleneck": False},
        fixed={"hidden_act": "relu"},
        ignored={"out_features", "out_indices", "stage_names"},  # which of its stages a detector asks for
        compounds=(
            Compound(("hidden_sizes", "depths"), ("dims", "depths"), _load_stages,
                     lambda config: {"hidden_sizes": list(config.dims), "depths": list(config.depths)}),
            CLASSES,
        ),
    )  # fmt: skip


def encoder_table(theirs: str = "", ours: str = "", *, counted: bool = True) -> Table:
    """The names in Hugging Face's files, behind prefixes on either side; frozen norms have counted no batches."""
    block, own = f"{theirs}encoder.stages.*.layers.*.", f"{ours}stages.*.blocks.*."
    places = {
        f"{theirs}embedder.embedder.": f"{ours}stem.",
        f"{block}shortcut.": f"{own}shortcut.",
        f"{block}layer.*.": f"{own}convolutions.*.",
    }
    statistics = "{running_mean,running_var,num_batches_tracked}" if counted else "{running_mean,running_var}"
    table: dict[str, Any] = {}
    for their_place, our_place in places.items():
        table[f"{their_place}{{convolution,normalization}}"] = f"{our_place}{{convolution,norm}}"
        table[f"{their_place}normalization.{statistics}"] = f"{our_place}norm.{statistics}"
    return table


def timm_table(theirs: str, ours: str, *, basic: bool, stages: int) -> Table:
    """The names that timm has for the same, in the files of detectors whose backbone is timm's."""
    stage, own = f"{theirs}layer{_braced(1, stages)}.*.", f"{ours}stages.{_braced(0, stages)}.blocks.*."
    count = 2 if basic else 3
    places = {  # convolution and norm -> ours
        (f"{theirs}conv1", f"{theirs}bn1"): f"{ours}stem.",
        (f"{stage}conv{_braced(1, count)}", f"{stage}bn{_braced(1, count)}"): f"{own}convolutions.{_braced(0, count)}.",
        (f"{stage}downsample.0", f"{stage}downsample.1"): f"{own}shortcut.",
    }
    table: dict[str, Any] = {}
    for (convolution, norm), our_place in places.items():
        table |= {convolution: f"{our_place}convolution", norm: f"{our_place}norm", f"{norm}.num_batches_tracked": DROP}
        table[f"{norm}.{{running_mean,running_var}}"] = f"{our_place}norm.{{running_mean,running_var}}"
    return table


def _braced(first: int, count: int) -> str:
    return "{" + ",".join(str(first + i) for i in range(count)) + "}"


TABLE = encoder_table()
HEAD_TABLE: Table = {**encoder_table("resnet.", "encoder."), "classifier.1": "head"}


class ResNetBlock(nn.Module):
    """relu(convolutions(x) + shortcut(x))  (equations 1 and 2); the shortcut is x itself where the shapes agree."""

    def __init__(self, config: ResNetConfig, channels: int, dim: int, stride: int, norm: Norm) -> None:
        super().__init__()
        if config.block == "basic":
            steps = [(channels, dim, 3, stride), (dim, dim, 3, 1)]
        else:
            early, late = (stride, 1) if config.halve_early else (1, stride)
            steps = [(channels, dim // 4, 1, early), (dim // 4, dim // 4, 3, late), (dim // 4, dim, 1, 1)]
        self.convolutions = nn.ModuleList(
            NormedConvolution(before, after, size, stride=by, norm=norm, activation=relu)
            for before, after, size, by in steps
        )
        same = channels == dim and stride == 1
        self.shortcut = None if same else NormedConvolution(channels, dim, 1, stride=stride, norm=norm)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d rows columns"]:
        *first, last = self.convolutions
        inner = x
        for convolution in first:
            inner = convolution(inner)
        return last(inner, x if self.shortcut is None else self.shortcut(x))


class ResNetStage(nn.Module):
    """Blocks at one resolution; the first of them comes from the one before."""

    def __init__(self, config: ResNetConfig, stage: int, norm: Norm) -> None:
        super().__init__()
        channels, dim = (config.stem_dim, *config.dims)[stage : stage + 2]
        stride = 2 if stage or config.halve_first else 1
        self.blocks = nn.ModuleList(
            ResNetBlock(config, *((dim, dim, 1) if i else (channels, dim, stride)), norm)
            for i in range(config.depths[stage])
        )

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d rows columns"]:
        for block in self.blocks:
            x = block(x)
        return x


class ResNet(StagedEncoder):
    """A strided 7 × 7 convolution and a maximum over 3 × 3, then the stages (table 1).

    As for every image encoder here, the hidden states are places in a row, (b, y · x, d), and the pooled vector their
    mean (b, d); Hugging Face's have the shapes (b, d, y, x) and (b, d, 1, 1). `grids` gives every stage's.
    """

    config_table = config_table("ResNetModel")
    table = TABLE

    def __init__(self, config: ResNetConfig, *, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.config = config
        self.stem = NormedConvolution(config.channels, config.stem_dim, 7, stride=2, norm=norm, activation=relu)
        self.stages = nn.ModuleList(ResNetStage(config, stage, norm) for stage in range(len(config.dims)))

    @property
    def patches(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The layer that reads the pixels."""
        return self.stem.convolution

    def grids(self, pixel_values: Float[Tensor, "b c y x"]) -> list[Float[Tensor, "b d rows columns"]]:
        """What each stage gives, the finest first."""
        x = F.max_pool2d(self.stem(pixel_values), 3, stride=2, padding=1)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def hidden(self, pixel_values: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t d"]:
        return self.grids(pixel_values)[-1].flatten(2).transpose(1, 2)


class ResNetForImageClassification(ImageClassification):
    """A linear head on the mean over the last grid."""

    config_table = config_table("ResNetForImageClassification")
    table = HEAD_TABLE

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(ResNet(config), config.dims[-1])


HEADS = {"image_classification": ResNetForImageClassification}
"""Task -> class."""
