"""What models give back: small dataclasses whose names are Hugging Face's where the thing is the same."""

from abc import ABC
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch.export
from jaxtyping import Float, Int
from torch import Tensor


class Output(ABC):  # noqa: B024 - no method to fill in: what differs is the fields
    """Also answers `out["loss"]`, and unpacks like a tuple of what is there."""

    def __getitem__(self, name: str) -> Any:
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        if name not in names:
            raise KeyError(f"{type(self).__name__} has no {name!r}; it has {names}")
        return getattr(self, name)

    def __iter__(self) -> Iterator[Any]:
        values = (getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]
        return (value for value in values if value is not None)


@dataclass
class CausalLMOutput(Output):
    """Of a decoder. `auxiliary_loss` is what experts ask for beside the task; the loss counts it by the config."""

    loss: Float[Tensor, ""] | None = None
    logits: Float[Tensor, "b t v"] | None = None
    auxiliary_loss: Float[Tensor, ""] | None = None


@dataclass
class EncoderOutput(Output):
    """Of an encoder without a head: a vector for each token (or patch), and one for the whole where it makes one."""

    last_hidden_state: Float[Tensor, "b t d"]
    pooler_output: Float[Tensor, "b d"] | None = None


@dataclass
class PredictionOutput(Output):
    """Of a head that predicts classes: of each token (b, t, n), or of the whole input (b, n)."""

    loss: Float[Tensor, ""] | None = None
    logits: Float[Tensor, "b *t n"] | None = None


@dataclass
class SegmentationOutput(Output):
    """Of a head that predicts a class for each pixel, on a grid coarser than the picture."""

    loss: Float[Tensor, ""] | None = None
    logits: Float[Tensor, "b n y x"] | None = None


@dataclass
class DistillationOutput(Output):
    """Of a classifier that learned from a teacher too: the mean of what its two heads say, and what each says."""

    loss: Float[Tensor, ""] | None = None
    logits: Float[Tensor, "b n"] | None = None
    cls_logits: Float[Tensor, "b n"] | None = None
    distillation_logits: Float[Tensor, "b n"] | None = None


@dataclass
class ReconstructionOutput(Output):
    """Of a masked autoencoder: each patch's pixels as it draws them, which were hidden (1), and the order they had."""

    loss: Float[Tensor, ""] | None = None
    logits: Float[Tensor, "b t p"] | None = None
    mask: Float[Tensor, "b t"] | None = None
    ids_restore: Int[Tensor, "b t"] | None = None


@dataclass
class UniversalSegmentationOutput(Output):
    """Of a set of masks: for each query a class, the last being "nothing", and where it is, on a coarser grid; and the
    grids that the queries read, coarsest first."""

    loss: Float[Tensor, ""] | None = None
    class_queries_logits: Float[Tensor, "b q n"] | None = None
    masks_queries_logits: Float[Tensor, "b q y x"] | None = None
    transformer_decoder_last_hidden_state: Float[Tensor, "b q d"] | None = None
    pixel_decoder_hidden_states: tuple[Float[Tensor, "b d _ _"], ...] | None = None


@dataclass
class PreTrainingOutput(Output):
    """Of BERT as it was trained: the masked tokens' logits, and those of whether the second text follows the first."""

    loss: Float[Tensor, ""] | None = None
    prediction_logits: Float[Tensor, "b t v"] | None = None
    seq_relationship_logits: Float[Tensor, "b n"] | None = None


@dataclass
class SpanOutput(Output):
    """Of extractive question answering: for each token, whether the answer begins or ends there."""

    loss: Float[Tensor, ""] | None = None
    start_logits: Float[Tensor, "b t"] | None = None
    end_logits: Float[Tensor, "b t"] | None = None


@dataclass
class DetectionOutput(Output):
    """Of a detector: for each query the classes' logits and a box, `cx cy w h` in parts of the picture; and what the
    encoder says of each place of its grid, row by row."""

    loss: Float[Tensor, ""] | None = None
    logits: Float[Tensor, "b q n"] | None = None
    pred_boxes: Float[Tensor, "b q 4"] | None = None
    last_hidden_state: Float[Tensor, "b q d"] | None = None
    encoder_last_hidden_state: Float[Tensor, "b s d"] | None = None


@dataclass
class SequenceToSequenceOutput(Output):
    """Of an encoder-decoder; what the encoder found can be handed in again, as `encoder_output`."""

    loss: Float[Tensor, ""] | None = None
    logits: Float[Tensor, "b t v"] | None = None
    encoder_last_hidden_state: Float[Tensor, "b s d"] | None = None


for _kind in Output.__subclasses__():
    torch.export.register_dataclass(_kind, serialized_type_name=f"glassformer.{_kind.__name__}")
