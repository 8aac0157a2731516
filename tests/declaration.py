"""How a model declares itself to the tests: its config at a size that tests in milliseconds, and its kind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

VOCAB = 61
LENGTH = 17
IGNORE = -100

Inputs = dict[str, Any]
"""Tensors by name; lists of them where pictures have different numbers of things."""


@dataclass(frozen=True)
class Kind:
    """What goes into a model and what comes out of it; properties are asked of every kind, or of one.

    name       for messages, and what `PROPERTIES` adds for this kind alone
    inputs     (config, batch, generator) -> what `forward` takes by name, labels included
    pad        (inputs, places) -> the same with padding at these places of row 1; None: nothing can be padded
    per_place  outputs that have a row for each place that may be padding: unspecified there
    labels     the inputs from which the loss is computed
    theirs     inputs -> what Hugging Face's model takes
    """

    name: str
    inputs: Callable[[Any, int, Generator], Inputs]
    pad: Callable[[Inputs, slice], Inputs] | None = None
    per_place: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("labels",)
    theirs: Callable[[Inputs], Inputs] = dict


def draw_ids(vocab_size: int, batch: int, length: int, generator: Generator) -> Tensor:
    """Random token ids."""
    return torch.randint(vocab_size, (batch, length), generator=generator)


def _causal_inputs(config: Any, batch: int, generator: Generator) -> Inputs:
    x = draw_ids(config.vocab_size, batch, LENGTH, generator)
    return {"input_ids": x, "labels": x.clone()}


def pad_text(inputs: Inputs, places: slice) -> Inputs:
    """An attention mask that hides `places` of row 1, and labels, where each place has one, that do not count there."""
    present = torch.ones_like(inputs["input_ids"])
    present[1, places] = 0
    padded = inputs | {"attention_mask": present}
    if inputs["labels"].shape == present.shape:
        padded["labels"] = inputs["labels"].masked_fill(present == 0, IGNORE)
    return padded


def _pad_causal(inputs: Inputs, places: slice) -> Inputs:
    padded = pad_text(inputs, places)
    if places.start == 0 and places.stop < LENGTH:
        padded["labels"][1, places.stop] = IGNORE  # the first real token is asked of a pad
    return padded


def _with_positions(inputs: Inputs) -> Inputs:
    """Their decoders count positions past the padding only where they are told to."""
    if "attention_mask" not in inputs:
        return inputs
    return inputs | {"position_ids": (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)}


CAUSAL = Kind("causal", _causal_inputs, _pad_causal, ("logits",), theirs=_with_positions)


def _pictures(config: Any, batch: int, generator: Generator) -> Inputs:
    """Wider than high, and not of the size that the config names."""
    shape = (batch, config.channels, config.image_size, config.image_size + 2 * config.patch_size)
    labels = torch.randint(config.num_classes, (batch,), generator=generator)
    return {"pixel_values": torch.randn(shape, generator=generator), "labels": labels}


def _any_size(inputs: Inputs) -> Any:
    """Their models interpolate positions only where they are told to."""
    return inputs | {"interpolate_pos_encoding": True}


VISION = Kind("vision", _pictures, theirs=_any_size)


def _maps(config: Any, batch: int, generator: Generator) -> Inputs:
    """Of odd sizes, a label for each sixth of a picture; a quarter of the pixels has none."""
    size = (batch, 44, 57)
    labels = torch.randint(config.num_classes, (batch, 2, 3), generator=generator)
    labels = labels.repeat_interleave(22, 1).repeat_interleave(19, 2)
    labels[torch.rand(size, generator=generator) < 0.25] = 255
    return {"pixel_values": torch.randn(batch, config.channels, *size[1:], generator=generator), "labels": labels}


SEMANTIC = Kind("semantic segmentation", _maps)


def _masks(config: Any, batch: int, generator: Generator) -> Inputs:
    """Of odd sizes; objects are rectangles, no two pictures have as many, and one picture has none."""
    rows, columns = 37, 30
    masks, classes = [], []
    for i in range(batch):
        corners = torch.rand(2 * i, 4, generator=generator).sort(-1).values
        y, x = torch.arange(rows) / rows, torch.arange(columns) / columns
        down = (y >= corners[:, :1]) & (y < corners[:, 3:])
        across = (x >= corners[:, 1:2] - 0.2) & (x < corners[:, 2:3] + 0.2)
        masks.append((down[:, :, None] & across[:, None]).float())
        classes.append(torch.randint(config.num_classes, (2 * i,), generator=generator))
    pixels = torch.randn(batch, config.channels, rows, columns, generator=generator)
    return {"pixel_values": pixels, "mask_labels": masks, "class_labels": classes}


UNIVERSAL = Kind("universal segmentation", _masks, labels=("mask_labels", "class_labels"))


def _detection_inputs(config: Any, batch: int, generator: Generator) -> Inputs:
    """Of odd sizes; row 1 smaller and filled up; pictures with no object, some, and more than there are queries."""
    pixels = torch.randn(batch, config.backbone.channels, 45, 58, generator=generator)
    mask = torch.ones(batch, 45, 58, dtype=torch.long)
    mask[1, 33:] = mask[1, :, 41:] = 0
    labels = []
    for count in [2, 0, config.num_queries + 1, *[3] * batch][:batch]:
        size = 0.1 + 0.4 * torch.rand(count, 2, generator=generator)
        centre = size / 2 + (1 - size) * torch.rand(count, 2, generator=generator)
        classes = torch.randint(config.num_classes, (count,), generator=generator)
        labels.append({"class_labels": classes, "boxes": torch.cat([centre, size], dim=1)})
    return {"pixel_values": pixels * mask[:, None], "pixel_mask": mask, "labels": labels}


DETECTION = Kind("detection", _detection_inputs)


def _sequence_to_sequence_inputs(config: Any, batch: int, generator: Generator) -> Inputs:
    x, target = (draw_ids(config.vocab_size, batch, length, generator) for length in (LENGTH, 11))
    labels = draw_ids(config.vocab_size, batch, 11, generator)
    labels[0, 7:] = IGNORE
    return {"input_ids": x, "decoder_input_ids": target, "labels": labels}


SEQUENCE_TO_SEQUENCE = Kind(
    "sequence to sequence", _sequence_to_sequence_inputs, pad_text, ("encoder_last_hidden_state",)
)


@dataclass(frozen=True)
class Declared:
    """A model that every property of its kind is asked of.

    `theirs` makes the Hugging Face model of the same shape; None where no public one exists. `skips` names properties
    that do not apply, each with the reason. `spread` is the size of redrawn weights' products: less where scores are
    not divided by √k, for else rounding is all that the softmax shows.
    """

    name: str
    model: Any
    config: Any
    theirs: Callable[[], Any] | None = None
    kind: Kind = CAUSAL
    skips: dict[str, str] = field(default_factory=dict)
    spread: float = 1.2

    def build(self) -> nn.Module:
        """Ours, freshly initialised."""
        return self.model(self.config)

    def inputs(self, batch: int = 3, seed: int = 1) -> Inputs:
        """What `forward` takes, labels included."""
        return self.kind.inputs(self.config, batch, torch.Generator().manual_seed(seed))
