"""DeiT (Touvron et al. 2021): a ViT that also learns from a teacher, through a token of its own."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import ConfigTable
from glassformer.checkpoints.table import Table
from glassformer.models import vit
from glassformer.models.outputs import DistillationOutput, EncoderOutput
from glassformer.models.vision import (
    ImageClassification,
    ImageEncoder,
    check_classes,
    check_patches,
    check_told,
    class_loss,
)
from glassformer.parts import Dropout, GridPosition, LayerNorm, Linear, PatchEmbedding


@dataclass(frozen=True, kw_only=True)
class DeiTConfig:
    """Table 1 of the paper; the defaults are DeiT-B with its distillation token. Settings are those of `ViTConfig`."""

    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    norm_eps: float = 1e-12
    attention_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    num_classes: int = 1000
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.patch_size < 1 or self.image_size < 1 or self.image_size % self.patch_size:
            raise ValueError(f"patch_size={self.patch_size} does not divide image_size={self.image_size}")
        check_classes(self.num_classes, self.labels)


SIZES = {  # table 1; the one for 384 × 384 pixels: section 5.2
    "deit-tiny-distilled-patch16-224": DeiTConfig(dim=192, num_heads=3, hidden_dim=768),
    "deit-small-distilled-patch16-224": DeiTConfig(dim=384, num_heads=6, hidden_dim=1536),
    "deit-base-distilled-patch16-224": DeiTConfig(),
    "deit-base-distilled-patch16-384": DeiTConfig(image_size=384),
}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it: as ViT's."""
    return replace(vit.config_table(architecture), config=DeiTConfig, model_type="deit", unsayable={})


def encoder_table(theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files: ViT's, and one token more."""
    token = {f"{theirs}embeddings.distillation_token": f"{ours}distillation_token"}
    return {**vit.encoder_table(theirs, ours), **token}


ENCODER = encoder_table("deit.", "encoder.")
TABLE: Table = {**encoder_table(), "pooler.dense": "pooler.dense"}
HEAD_TABLE: Table = {**ENCODER, "classifier": "head"}
TEACHER_TABLE: Table = {**ENCODER, "{cls,distillation}_classifier": "{head,distillation_head}"}


class DeiT(ImageEncoder):
    """ViT with two tokens in front of the patches: one for the class, one for what a teacher says (figure 2)."""

    config_table = config_table("DeiTModel")
    table = TABLE
    optional = ("pooler",)

    def __init__(self, config: DeiTConfig, *, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.patches = PatchEmbedding(config.channels, config.patch_size, config.dim)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        self.distillation_token = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        self.position = GridPosition(config.image_size // config.patch_size, config.dim, before=2)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(vit.ViTBlock(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.dim, config.norm_eps)
        self.pooler = vit.ViTPooler(config.dim) if pooler else None

    def hidden(self, pixel_values: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t d"]:
        grid = self.patches(pixel_values)
        tokens = torch.cat([self.class_token, self.distillation_token], dim=1).expand(grid.shape[0], -1, -1)
        x = torch.cat([tokens, grid.flatten(1, 2)], dim=1)
        x = self.dropout(x + self.position(*grid.shape[1:3]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def pooled(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"] | None:
        return None if self.pooler is None else self.pooler(hidden[:, 0])

    def check_size(self, rows: int, columns: int) -> None:
        check_patches(rows, columns, self.config.patch_size)


class DeiTForImageClassification(ImageClassification):
    """A linear head on the class token alone."""

    config_table = config_table("DeiTForImageClassification")
    table = HEAD_TABLE

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__(DeiT(config, pooler=False), config.dim)

    def features(self, encoded: EncoderOutput) -> Float[Tensor, "b d"]:
        return encoded.last_hidden_state[:, 0]


class DeiTForImageClassificationWithTeacher(ImageClassification):
    """A linear head on each of the two tokens; what the model says is the mean of both (section 4, "Classification").

    loss = ½ cross_entropy(class logits, labels) + ½ cross_entropy(distillation logits, teacher's labels)  (equation 3)

    or, of soft labels, the second term τ² cross_entropy(distillation logits / τ, softmax(teacher's / τ))  (equation 2).
    """

    config_table = config_table("DeiTForImageClassificationWithTeacher")
    table = TEACHER_TABLE

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__(DeiT(config, pooler=False), config.dim)
        self.distillation_head = Linear(config.dim, config.num_classes)
        self.temperature = 1.0  # τ of soft labels: set by who teaches, no part of the model that is kept

    def features(self, encoded: EncoderOutput) -> Float[Tensor, "b d"]:
        return encoded.last_hidden_state[:, 0]

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, pixel_values: Tensor, labels: Tensor | None = None, teacher_labels: Tensor | None = None
    ) -> DistillationOutput:
        """Logits (b, n) of both heads and their mean; with `labels`, (b,) or parts of classes (b, n), the loss too.

        `teacher_labels` (b,) are the classes that the teacher decides for (its hard labels), or floats (b, n), its
        probabilities at `temperature`. Without them the second head learns from `labels` too, as where no teacher is at
        hand. −100 counts in neither.
        """
        check_told(labels, pixel_values.shape[0], self.config.num_classes)
        check_told(teacher_labels, pixel_values.shape[0], self.config.num_classes, name="teacher_labels")
        if teacher_labels is not None and labels is None:
            raise ValueError("teacher_labels are given without labels; the loss is of both")
        hidden = self.encoder(pixel_values).last_hidden_state
        of_class: Tensor = self.head(hidden[:, 0])
        of_teacher: Tensor = self.distillation_head(hidden[:, 1])
        loss = None
        if labels is not None:
            alone = teacher_labels is None
            heard = class_loss(of_teacher, labels) if alone else self.learned(of_teacher, teacher_labels)
            loss = (class_loss(of_class, labels) + heard) / 2
        return DistillationOutput(loss, (of_class + of_teacher) / 2, of_class, of_teacher)

    def learned(self, logits: Float[Tensor, "b n"], told: Tensor) -> Float[Tensor, ""]:
        """Equation 3 of classes; equation 2 of probabilities, but for the teacher's own entropy, which has no slope."""
        warmth = self.temperature if told.is_floating_point() else 1.0
        return warmth**2 * class_loss(logits / warmth, told)


HEADS = {
    "image_classification": DeiTForImageClassification,
    "distilled_image_classification": DeiTForImageClassificationWithTeacher,
}
"""Task -> class."""
