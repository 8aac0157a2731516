"""What image encoders share, and the head that names what a picture shows."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import Compound
from glassformer.checkpoints.looked import is_finite
from glassformer.checkpoints.pretrained import Pretrained
from glassformer.models.encoder import looks
from glassformer.models.labels import check_labels, load_labels, mean_cross_entropy
from glassformer.models.outputs import EncoderOutput, PredictionOutput
from glassformer.parts import Linear, PatchEmbedding, TubeletEmbedding


class ImageEncoder(Pretrained, nn.Module, ABC):
    """From a picture to vectors: one for each patch (and what else the model reads), and one for the whole.

    A model writes `__init__` (setting `config`, which has `channels`, `patches` and `blocks`), `hidden` and `pooled`.
    """

    config: Any
    blocks: nn.ModuleList
    patches: PatchEmbedding | TubeletEmbedding
    axes: ClassVar[tuple[str, ...]] = ("batch", "channels", "height", "width")

    @abstractmethod
    def hidden(self, pixel_values: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t d"]:
        """The last hidden states."""

    @abstractmethod
    def pooled(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"] | None:
        """One vector made of them; None where the model makes none."""

    def check_size(self, rows: int, columns: int) -> None:
        """Raise ValueError for pictures of a size that the model cannot read."""

    def forward(self, pixel_values: Tensor) -> EncoderOutput:
        """A vector for each token (b, t, d), and one for the whole (b, d).

        Args:
            pixel_values: (b, c, y, x), normalised as the model was trained; floats of another width than the model's
                are cast.

        Raises:
            ValueError, TypeError: for other shapes, channels, sizes or dtypes, and for pixels that are no numbers.
        """
        self.check(pixel_values)
        hidden = self.hidden(pixel_values.to(self.patches.weight.dtype))
        return EncoderOutput(hidden, self.pooled(hidden))

    @property
    def num_parameters(self) -> int:
        """Parameters of the encoder."""
        return sum(parameter.numel() for parameter in self.parameters())

    def check(self, pixels: Tensor) -> None:
        """Raise ValueError or TypeError for pictures that the model cannot read."""
        shape = tuple(pixels.shape)
        if pixels.ndim != len(self.axes) or 0 in shape:
            raise ValueError(f"pixel_values has shape {shape}; expected ({', '.join(self.axes)}), none of them 0")
        if not pixels.is_floating_point():
            raise TypeError(f"pixel_values has dtype {pixels.dtype}; expected floats, scaled as the model was trained")
        if shape[-3] != self.config.channels:
            last = "; channels come before height and width" if shape[-1] == self.config.channels else ""
            raise ValueError(
                f"pixel_values has {shape[-3]} channels in shape {shape}; expected {self.config.channels}{last}"
            )
        self.check_size(shape[-2], shape[-1])
        if looks(pixels) and not is_finite(pixels):
            place = tuple((~pixels.isfinite()).nonzero()[0].tolist())
            raise ValueError(f"pixel_values holds {pixels[place].item()} at {place}; every pixel must be finite")


def class_loss(logits: Float[Tensor, "b n"], labels: Tensor) -> Float[Tensor, ""]:
    """mean over pictures of −Σ_n p_n log softmax(logits)_n, in float32 at least.

    `labels` are classes (b,), where −100 does not count, or floats (b, n), the parts p of several classes: of pictures
    that are mixed, of labels that are smoothed, of a teacher's opinion.
    """
    if not labels.is_floating_point():
        return mean_cross_entropy(logits, labels)
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.to(wide), labels.to(wide))


def check_told(labels: Tensor | None, batch_size: int, num_classes: int, *, name: str = "labels") -> None:
    """Raise ValueError for labels of other shapes, outside the classes, and parts that do not sum to 1."""
    if labels is None or not labels.is_floating_point():
        return check_labels(labels, (batch_size,), num_classes, name=name)
    if tuple(labels.shape) != (batch_size, num_classes):
        raise ValueError(f"{name} have shape {tuple(labels.shape)}; expected {(batch_size, num_classes)}, a part for "
                         f"each class, or {(batch_size,)}, whole numbers")  # fmt: skip
    if looks(labels) and not ((labels >= 0).all() and (labels.sum(-1) - 1).abs().max() < 0.02):
        row = int(((labels < 0).any(-1) | ((labels.sum(-1) - 1).abs() >= 0.02) | labels.isnan().any(-1)).nonzero()[0])
        raise ValueError(f"{name} of picture {row} are {labels[row].tolist()[:10]}; parts are from 0 on and sum to 1")
    return None


class StagedEncoder(ImageEncoder, ABC):
    """One whose blocks stand in `stages`, over grids that shrink: the places of the last, and their mean."""

    stages: nn.ModuleList

    @property
    def blocks(self) -> nn.ModuleList:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The blocks of all stages."""
        return nn.ModuleList(block for stage in self.stages for block in stage.blocks)  # pyright: ignore

    def pooled(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"] | None:
        return hidden.mean(1)


class ImageClassification(Pretrained, nn.Module, ABC):
    """Which of `config.num_classes` classes a picture shows; the encoder is held as `encoder`."""

    encoder: ImageEncoder

    def __init__(self, encoder: ImageEncoder, dim: int) -> None:
        super().__init__()
        self.config = encoder.config
        self.encoder = encoder
        self.head = Linear(dim, self.config.num_classes)

    def features(self, encoded: EncoderOutput) -> Float[Tensor, "b d"]:
        """The vector that the head reads: by default the one for the whole."""
        assert encoded.pooler_output is not None
        return encoded.pooler_output

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> PredictionOutput:
        """Logits (b, n); with `labels`, the mean loss too: (b,), −100 where none counts, or parts of classes (b, n)."""
        check_told(labels, pixel_values.shape[0], self.config.num_classes)
        logits: Tensor = self.head(self.features(self.encoder(pixel_values)))
        return PredictionOutput(None if labels is None else class_loss(logits, labels), logits)

    @property
    def blocks(self) -> nn.ModuleList:
        """The encoder's blocks."""
        return self.encoder.blocks

    @property
    def num_parameters(self) -> int:
        """Parameters, the head's included."""
        return sum(parameter.numel() for parameter in self.parameters())


def check_classes(num_classes: int, labels: tuple[str, ...] | None) -> None:
    """Raise ValueError for fewer than one class, and for names that are not one for each."""
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} leaves nothing to tell apart; expected 1 or more")
    if labels is not None and len(labels) != num_classes:
        raise ValueError(f"{len(labels)} labels name {num_classes} classes; give one for each, or None")


def check_patches(rows: int, columns: int, patch_size: int) -> None:
    """Raise ValueError for pictures that patches do not divide."""
    if rows % patch_size or columns % patch_size:
        raise ValueError(
            f"pictures of {rows} × {columns} pixels are no whole number of patches of {patch_size} × {patch_size}"
        )


def _load_classes(theirs: dict[str, Any]) -> dict[str, Any]:
    labels = load_labels(theirs)["labels"]
    if labels is None:
        return {"num_classes": 2, "labels": None}  # what their configs begin with
    unnamed = all(label == f"LABEL_{i}" for i, label in enumerate(labels))
    return {"num_classes": len(labels), "labels": None if unnamed else labels}


def _save_classes(config: Any) -> dict[str, Any]:
    labels = config.labels or [f"LABEL_{i}" for i in range(config.num_classes)]
    return {"id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)}}  # fmt: skip


CLASSES = Compound(("id2label", "label2id", "num_labels"), ("num_classes", "labels"), _load_classes, _save_classes)
"""How many classes there are, and their names; for the config tables of models that classify."""
