"""ViViT (Arnab et al. 2021): a clip as a sequence of tubelets, all of which see each other (model 1, section 3.3)."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, Compound, ConfigTable, Values
from glassformer.checkpoints.table import Table
from glassformer.models import vit
from glassformer.models.video import PLACE_STD, VideoClassification, VideoEncoder, draw_by_width
from glassformer.models.vision import check_classes, check_patches
from glassformer.models.vit import ViTBlock, ViTPooler
from glassformer.parts import Dropout, LayerNorm, TubeletEmbedding


@dataclass(frozen=True, kw_only=True)
class ViViTConfig:
    """Section 4.1 of the paper; the defaults are ViViT-B/16x2: ViT-Base, 32 frames, tubelets of 2 × 16 × 16.

    Frames of other sizes are read too: positions are interpolated within each frame.
    """

    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    num_frames: int = 32
    tubelet_frames: int = 2
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-6
    attention_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    num_classes: int = 400
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for size, part in (("image_size", "patch_size"), ("num_frames", "tubelet_frames")):
            whole, piece = getattr(self, size), getattr(self, part)
            if piece < 1 or whole < 1 or whole % piece:
                raise ValueError(f"{part}={piece} does not divide {size}={whole}")
        check_classes(self.num_classes, self.labels)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tubelets along time, rows and columns."""
        side = self.image_size // self.patch_size
        return self.num_frames // self.tubelet_frames, side, side


SIZES = {  # section 4.1
    "vivit-base-patch16x2": ViViTConfig(),
    "vivit-large-patch16x2": ViViTConfig(dim=1024, num_layers=24, num_heads=16, hidden_dim=4096),
}


def _load_tubelet(theirs: dict[str, Any]) -> dict[str, Any]:
    sizes = theirs.get("tubelet_size", [2, 16, 16])
    if not isinstance(sizes, list | tuple) or [type(size) for size in sizes] != [int] * 3 or sizes[1] != sizes[2]:
        raise ValueError(f"config.json has tubelet_size={sizes!r}; expected frames, rows and as many columns")
    return {"tubelet_frames": sizes[0], "patch_size": sizes[1]}


def _save_tubelet(config: ViViTConfig) -> dict[str, Any]:
    return {"tubelet_size": [config.tubelet_frames, config.patch_size, config.patch_size]}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    theirs = vit.config_table(architecture)
    names = {name: own for name, own in theirs.names.items() if name not in ("patch_size", "encoder_stride")}
    names["hidden_act"] = Values("activation", {"gelu_fast": "gelu_tanh", **ACTIVATION_NAMES})
    defaults = {name: value for name, value in theirs.defaults.items() if name in names}
    return ConfigTable(
        config=ViViTConfig,
        model_type="vivit",
        architectures=(architecture,),
        names={**names, "num_frames": "num_frames"},
        defaults={**defaults, "hidden_act": "gelu_fast", "layer_norm_eps": 1e-6, "num_frames": 32},
        fixed=theirs.fixed,
        ignored={"video_size"},  # what image_size and num_frames say
        compounds=(*theirs.compounds, Compound(
            ("tubelet_size",), ("tubelet_frames", "patch_size"), _load_tubelet, _save_tubelet
        )),
    )  # fmt: skip


TABLE: Table = {**vit.encoder_table(), "pooler.dense": "pooler.dense"}
HEAD_TABLE: Table = {**vit.encoder_table("vivit.", "encoder."), "classifier": "head"}


class TubeletPosition(nn.Module):
    """A learned vector for the class token, and for each tubelet of a clip."""

    def __init__(self, grid: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.grid = grid
        times, rows, columns = grid
        self.weight = nn.Parameter(torch.randn(1, 1 + times * rows * columns, dim) * PLACE_STD)

    def forward(self, rows: int, columns: int) -> Float[Tensor, "1 t d"]:
        """For frames of `rows` × `columns` tubelets; interpolated bicubically where these are others."""
        times, *own = self.grid
        if (rows, columns) == tuple(own):
            return self.weight
        frames = rearrange(self.weight[:, 1:], "1 (t y x) d -> t d y x", t=times, y=own[0])
        there = F.interpolate(frames, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([self.weight[:, :1], rearrange(there, "t d y x -> 1 (t y x) d")], dim=1)


class ViViT(VideoEncoder):
    """Tubelets and the class token with their positions, the blocks, and a last norm."""

    config_table = config_table("VivitModel")
    table = TABLE
    optional = ("pooler",)

    def __init__(self, config: ViViTConfig, *, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.patches = TubeletEmbedding(config.channels, config.tubelet_frames, config.patch_size, config.dim)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.position = TubeletPosition(config.grid, config.dim)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(ViTBlock(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.dim, config.norm_eps)
        self.pooler = ViTPooler(config.dim) if pooler else None
        draw_by_width(self)

    def hidden(self, pixel_values: Float[Tensor, "b t c y x"]) -> Float[Tensor, "b s d"]:
        grid = self.patches(pixel_values)
        x = torch.cat([self.class_token.expand(grid.shape[0], -1, -1), grid.flatten(1, 3)], dim=1)
        x = self.dropout(x + self.position(*grid.shape[2:4]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def pooled(self, hidden: Float[Tensor, "b s d"]) -> Float[Tensor, "b d"] | None:
        return None if self.pooler is None else self.pooler(hidden[:, 0])

    def check_size(self, rows: int, columns: int) -> None:
        check_patches(rows, columns, self.config.patch_size)

    def check_frames(self, frames: int) -> None:
        if frames != self.config.num_frames:
            raise ValueError(f"clips have {frames} frames; expected {self.config.num_frames}")


class ViViTForVideoClassification(VideoClassification):
    """A linear head on the class token."""

    config_table = config_table("VivitForVideoClassification")
    table = HEAD_TABLE

    def __init__(self, config: ViViTConfig) -> None:
        super().__init__(ViViT(config, pooler=False), config.dim)


HEADS = {"video_classification": ViViTForVideoClassification}
"""Task -> class."""
