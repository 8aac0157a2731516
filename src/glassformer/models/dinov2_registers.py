"""Registers (Darcet et al. 2023): DINOv2 with some tokens that stand for no patch, where it may keep its notes."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import ConfigTable
from glassformer.checkpoints.table import Table
from glassformer.models import dinov2
from glassformer.models.dinov2 import DINOv2Block, DINOv2Config, hide
from glassformer.models.outputs import EncoderOutput
from glassformer.models.vision import CLASSES, ImageClassification, ImageEncoder, check_classes, check_patches
from glassformer.parts import Dropout, GridPosition, LayerNorm, PatchEmbedding


@dataclass(frozen=True, kw_only=True)
class DINOv2WithRegistersConfig:
    """Section 3.1 of the paper; the defaults are ViT-B/14 with 4 registers. Other settings are `DINOv2Config`'s.

    Without registers patches of high norm, in dull places, are taken for notes (section 2.1): maps show them as specks.
    """

    image_size: int = 518
    patch_size: int = 14
    channels: int = 3
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    num_registers: int = 4
    hidden_ratio: int = 4
    gated: bool = False
    activation: str = "gelu"
    norm_eps: float = 1e-6
    attention_bias: bool = True
    initial_scale: float = 1.0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    path_dropout: float = 0.0
    num_classes: int = 1000
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.patch_size < 1 or self.image_size < 1 or self.image_size % self.patch_size:
            raise ValueError(f"patch_size={self.patch_size} does not divide image_size={self.image_size}")
        if self.num_registers < 1:
            raise ValueError(f"num_registers={self.num_registers}; expected 1 or more, for without any it is a DINOv2")
        check_classes(self.num_classes, self.labels)


def _with_registers(config: DINOv2Config) -> DINOv2WithRegistersConfig:
    shared = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "mask_token"}
    return DINOv2WithRegistersConfig(**shared)


SIZES = {
    name.replace("dinov2", "dinov2-with-registers"): _with_registers(config) for name, config in dinov2.SIZES.items()
}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    return ConfigTable(
        config=DINOv2WithRegistersConfig,
        model_type="dinov2_with_registers",
        architectures=(architecture,),
        names={**dinov2.NAMES, "num_register_tokens": "num_registers"},
        defaults={**dinov2.DEFAULTS, "patch_size": 16, "num_register_tokens": 4},
        ignored=dinov2.OF_BACKBONES,
        compounds=(CLASSES,),
    )


def encoder_table(config: DINOv2WithRegistersConfig, theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files: DINOv2's, and the registers."""
    registers = {f"{theirs}embeddings.register_tokens": f"{ours}registers"}
    return {**dinov2.encoder_table(config, theirs, ours), **registers}


class DINOv2WithRegisters(ImageEncoder):
    """DINOv2 whose class token is followed by registers, that have no position and are not read out (figure 6)."""

    config_table = config_table("Dinov2WithRegistersModel")
    table = staticmethod(encoder_table)

    def __init__(self, config: DINOv2WithRegistersConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = PatchEmbedding(config.channels, config.patch_size, config.dim)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        self.registers = nn.Parameter(torch.randn(1, config.num_registers, config.dim) * 0.02)
        self.mask_token = nn.Parameter(torch.zeros(1, config.dim))
        self.position = GridPosition(config.image_size // config.patch_size, config.dim, before=1, antialias=True)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(DINOv2Block(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.dim, config.norm_eps)

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor | None = None) -> EncoderOutput:
        """As `ImageEncoder.forward`. Patches at which `bool_masked_pos` (b, t) is true are hidden: the mask token."""
        self.check(pixel_values)
        hidden = self.hidden(pixel_values.to(self.patches.weight.dtype), bool_masked_pos)
        return EncoderOutput(hidden, self.pooled(hidden))

    def hidden(self, pixel_values: Float[Tensor, "b c y x"], masked: Tensor | None = None) -> Float[Tensor, "b t d"]:
        grid = self.patches(pixel_values)
        x = hide(grid.flatten(1, 2), masked, self.mask_token)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.position(*grid.shape[1:3])
        x = self.dropout(torch.cat([x[:, :1], self.registers.expand(x.shape[0], -1, -1), x[:, 1:]], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def pooled(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        return hidden[:, 0]

    def check_size(self, rows: int, columns: int) -> None:
        check_patches(rows, columns, self.config.patch_size)


class DINOv2WithRegistersForImageClassification(ImageClassification):
    """A linear head on the class token and the mean of the patches; what the registers hold is not read."""

    config_table = config_table("Dinov2WithRegistersForImageClassification")
    table = staticmethod(
        lambda config: {**encoder_table(config, "dinov2_with_registers.", "encoder."), "classifier": "head"}
    )

    def __init__(self, config: DINOv2WithRegistersConfig) -> None:
        encoder = DINOv2WithRegisters(config)
        encoder.mask_token.requires_grad = False  # nothing is hidden here
        super().__init__(encoder, 2 * config.dim)

    def features(self, encoded: EncoderOutput) -> Float[Tensor, "b e"]:
        hidden, first = encoded.last_hidden_state, 1 + self.config.num_registers
        return torch.cat([hidden[:, 0], hidden[:, first:].mean(1)], dim=1)


HEADS = {"image_classification": DINOv2WithRegistersForImageClassification}
"""Task -> class."""
