"""What each kind of model is exported as: functions without state, with an example and a name of each input."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.models.conditional_detr import ConditionalDETR
from glassformer.models.detection import ObjectDetection
from glassformer.models.detr import DETR
from glassformer.models.encoder import Encoder
from glassformer.models.heads import Head
from glassformer.models.language_model import LanguageModel
from glassformer.models.mae import MAE
from glassformer.models.mask2former import Mask2Former, Mask2FormerForUniversalSegmentation
from glassformer.models.segformer_heads import SegFormerForSemanticSegmentation
from glassformer.models.sequence_to_sequence import SequenceToSequenceModel
from glassformer.models.video import VideoClassification, VideoEncoder
from glassformer.models.videomae import VideoMAE
from glassformer.models.vision import ImageClassification, ImageEncoder

PAST = 3  # tokens in the example's cache
KINDS_HELD = ("key", "value")
ROWS = {0: "batch_size", 1: "sequence_length"}
SOURCE = {0: "batch_size", 1: "encoder_sequence_length"}


@dataclass(frozen=True)
class Program:
    """One ONNX file to be: the function, an example of each input, and the names of the outputs.

    `inputs` holds (name, tensor, {place: size}); what a size with "?" may be the exporter finds out.
    """

    file: str
    function: nn.Module
    inputs: tuple[tuple[str, Tensor, dict[int, str]], ...]
    outputs: tuple[str, ...]


# -- encoders ----------------------------------------------------------------------------------------------------------


class Reading(nn.Module):
    """The tensors that an encoder, or a head on one, gives, as a tuple."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        out = self.model(**dict(zip(self.names, inputs, strict=True)))
        return tuple(value for value in out if isinstance(value, Tensor))


def encoder(model: Encoder | Head) -> list[Program]:
    """The one program of an encoder, with or without a head."""
    body = model.encoder if isinstance(model, Head) else model
    names = ("input_ids", "attention_mask", "token_type_ids")[: 2 + (body.num_segments > 1)]
    example = torch.ones(2, 5, dtype=torch.int64)
    return [one_program(model, tuple((name, example.clone(), ROWS) for name in names))]


# -- models that look at pictures --------------------------------------------------------------------------------------


def looks_at_pictures(model: Any, size: tuple[int, int] | None = None) -> list[Program]:
    """The one program of a model that reads pictures or clips, with or without a head."""
    example, sizes = pictures(model, size)
    return [one_program(model, (("pixel_values", example, sizes),))]


def detector(model: Any, size: tuple[int, int] | None = None) -> list[Program]:
    """The one program of a detector, which also reads where a picture is and where it was only filled up."""
    example, sizes = pictures(model, size)
    mask = torch.ones(len(example), *example.shape[2:], dtype=torch.int64)
    mask[1, -example.shape[2] // 3 :] = 0
    places = {place - (place > 1): name for place, name in sizes.items()}  # it has no channels
    return [one_program(model, (("pixel_values", example, sizes), ("pixel_mask", mask, places)))]


def pictures(model: Any, size: tuple[int, int] | None) -> tuple[Tensor, dict[int, str]]:
    """An example of what the model looks at, and which of its sizes are dynamic.

    Rows and columns are those of `size`; where it is None, those that the config names; where it names none, any.
    """
    config, sizes = model.config, {0: "batch_size"}
    eyes = getattr(config, "backbone", config)
    if size is None and hasattr(eyes, "image_size"):
        size = (eyes.image_size, eyes.image_size)
    elif size is None:
        stride = math.prod(eyes.strides) if hasattr(eyes, "strides") else eyes.stride
        size = (4 * stride + 3, 5 * stride + 1)  # odd, and of more than one place on every grid
        sizes |= {2: "?height", 3: "?width"}
    frames = (config.num_frames,) if isinstance(model, VideoEncoder | VideoClassification) else ()
    shape = (2, *frames, eyes.channels, *size)
    return torch.linspace(-1, 1, math.prod(shape)).reshape(shape), sizes


def one_program(model: nn.Module, inputs: tuple[tuple[str, Tensor, dict[int, str]], ...]) -> Program:
    """The tensors that the model gives for these inputs, under its own names."""
    names = tuple(name for name, _, _ in inputs)
    with torch.no_grad():
        out = model(**{name: example for name, example, _ in inputs})
    outputs = tuple(field.name for field in fields(out) if isinstance(getattr(out, field.name), Tensor))
    return Program("model.onnx", Reading(model, names), inputs, outputs)


# -- decoders ----------------------------------------------------------------------------------------------------------


class PastLayer:
    """One layer of a cache that is a value: what is appended is joined to the past, nothing is written in place."""

    def __init__(self, key: Tensor, value: Tensor, context: tuple[Tensor, Tensor] | None) -> None:
        self.key, self.value, self.context = key, value, context

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The past with `k` and `v` behind it."""
        self.key, self.value = torch.cat([self.key, k], dim=2), torch.cat([self.value, v], dim=2)
        return self.key, self.value

    def remember(self, _: Tensor, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The keys and values of the source: those that came in, or those made now."""
        self.context = make() if self.context is None else self.context
        return self.context


class PastCache:
    """What `KeyValueCache` is to a model, for a program without state: the past comes in and goes out."""

    def __init__(self, past: Sequence[Tensor], context: Sequence[Tensor] = ()) -> None:
        pairs = list(zip(past[::2], past[1::2], strict=True))
        contexts = list(zip(context[::2], context[1::2], strict=True)) or [None] * len(pairs)
        self.layers = [PastLayer(*own, other) for own, other in zip(pairs, contexts, strict=True)]
        self.length = past[0].shape[2]

    def require(self, t: int) -> None:
        """There is always room."""

    def advance(self, t: int) -> None:
        """The layers have grown by themselves."""

    def present(self, *, with_context: bool = False) -> tuple[Tensor, ...]:
        """What the next call takes as its past."""
        each = ((layer.key, layer.value, *((layer.context or ()) if with_context else ())) for layer in self.layers)
        return tuple(tensor for layer in each for tensor in layer)


class DecoderStep(nn.Module):
    """Logits, and the cache as it is after these tokens."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        cache: Any = PastCache(past)
        hidden = self.model.hidden(input_ids, attention_mask, cache=cache)
        return self.model.head(hidden), *cache.present()


def decoder(model: LanguageModel) -> list[Program]:
    """The one program of a decoder. Raises ValueError for one without a cache."""
    if not hasattr(model.config, "num_layers"):
        raise ValueError(f"{type(model).__name__} has no attention and no cache; there is nothing to export")
    t, past = 2, past_of(model, "")
    inputs = (
        ("input_ids", torch.zeros(2, t, dtype=torch.int64), ROWS),
        ("attention_mask", torch.ones(2, PAST + t, dtype=torch.int64), {0: "batch_size", 1: "?"}),
        *((f"past_key_values.{name}", tensor, sizes) for name, tensor, sizes in past),
    )
    outputs = ("logits", *(f"present.{name}" for name, _, _ in past))
    return [Program("model.onnx", DecoderStep(model), inputs, outputs)]


def past_of(model: Any, middle: str) -> list[tuple[str, Tensor, dict[int, str]]]:
    """An example of what the cache of each layer holds: "0.key", "0.value", "1.key", …"""
    held = model.new_cache(2, PAST).layers
    sizes = {0: "batch_size", 2: "past_sequence_length"}
    return [(f"{i}.{middle}{kind}", getattr(layer, kind), sizes) for i, layer in enumerate(held) for kind in KINDS_HELD]


# -- encoder-decoders --------------------------------------------------------------------------------------------------


class SourceReading(nn.Module):
    """What the encoder makes of the source."""

    def __init__(self, model: SequenceToSequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model.encode(input_ids, attention_mask)


class FirstStep(nn.Module):
    """The first tokens of the target: logits, and the keys and values of both the target and the source."""

    def __init__(self, model: SequenceToSequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, encoded: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        empty = [tensor[:1, :, :0].expand(input_ids.shape[0], -1, -1, -1) for _, tensor, _ in past_of(self.model, "")]
        cache: Any = PastCache(empty)
        hidden = self.model.decode(input_ids, encoded, attention_mask, cache=cache)
        return self.model.head(hidden), *cache.present(with_context=True)


class NextStep(nn.Module):
    """Further tokens of the target, given the keys and values of what came before and of the source."""

    def __init__(self, model: SequenceToSequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        own = [tensor for i, tensor in enumerate(past) if i % 4 < 2]
        context = [tensor for i, tensor in enumerate(past) if i % 4 >= 2]
        cache: Any = PastCache(own, context)
        hidden = self.model.decode(input_ids, context[0][:, 0], attention_mask, cache=cache)
        return self.model.head(hidden), *cache.present()


def encoder_decoder(model: SequenceToSequenceModel) -> list[Program]:
    """The three programs of an encoder-decoder."""
    s, t, own = 5, 2, past_of(model, "decoder.")
    source, target = torch.ones(2, s, dtype=torch.int64), torch.ones(2, t, dtype=torch.int64)
    with torch.no_grad():
        encoded = model.encode(source)
        context = [
            (name.replace("decoder", "encoder"), tensor[:, :, :1].repeat(1, 1, s, 1), {0: "batch_size", 2: SOURCE[1]})
            for name, tensor, _ in own
        ]
    layers = range(0, len(own), 2)
    past = [each for i in layers for each in (*own[i : i + 2], *context[i : i + 2])]
    mask = ("encoder_attention_mask", source, SOURCE)
    return [
        Program("encoder_model.onnx", SourceReading(model),
                (("input_ids", source, SOURCE), ("attention_mask", source.clone(), SOURCE)), ("last_hidden_state",)),
        Program("decoder_model.onnx", FirstStep(model),
                (("input_ids", target, ROWS), ("encoder_hidden_states", encoded, SOURCE), mask),
                ("logits", *(f"present.{name}" for name, _, _ in past))),
        Program("decoder_with_past_model.onnx", NextStep(model),
                (("input_ids", target, ROWS), mask, *((f"past_key_values.{n}", x, sizes) for n, x, sizes in past)),
                ("logits", *(f"present.{name}" for name, _, _ in own))),
    ]  # fmt: skip


KINDS: dict[type, Any] = {
    LanguageModel: decoder,
    Encoder: encoder,
    Head: encoder,
    SequenceToSequenceModel: encoder_decoder,
    ImageEncoder: looks_at_pictures,
    ImageClassification: looks_at_pictures,
    SegFormerForSemanticSegmentation: looks_at_pictures,
    Mask2Former: looks_at_pictures,
    Mask2FormerForUniversalSegmentation: looks_at_pictures,
    DETR: detector,
    ConditionalDETR: detector,
    ObjectDetection: detector,
}
"""Kind of model -> what makes its programs."""


def programs(model: nn.Module, picture_size: tuple[int, int] | None = None) -> list[Program]:
    """What a model is exported as, for pictures of so many rows and columns; None: see `pictures`.

    Raises ValueError for a kind that is not exported, and for a size that it cannot read.
    """
    if isinstance(model, MAE | VideoMAE):
        raise ValueError(f"{type(model).__name__} draws what is hidden from it, which is how it is trained; export its "
                         "`encoder`, or a classifier on it")  # fmt: skip
    make = next((make for kind, make in KINDS.items() if isinstance(model, kind)), None)
    if make is None:
        raise ValueError(f"{type(model).__name__} is not exported; these are: {', '.join(k.__name__ for k in KINDS)}")
    if make in (looks_at_pictures, detector):
        return make(model, picture_size)
    if picture_size is not None:
        raise ValueError(f"{type(model).__name__} looks at no pictures; picture_size={picture_size} has no place")
    return make(model)
