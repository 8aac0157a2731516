"""Heads on a text encoder: from its vectors to classes and a loss. Which vectors are read is each model's own."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.models.encoder import Encoder, counted_at_padding
from glassformer.models.labels import check_classes, check_labels, classified, mean_cross_entropy, num_classes
from glassformer.models.outputs import EncoderOutput, PredictionOutput, SpanOutput
from glassformer.ops.cross_entropy import IGNORE, CrossEntropyKernel, reference
from glassformer.parts import Dropout, Embedding, LayerNorm, Linear
from glassformer.parts.activation import Activation


class Head(Pretrained, nn.Module, ABC):
    """A task on an encoder: `head`, a linear layer, reads the features that the model makes of the encoder's output."""

    encoder: Encoder
    head: nn.Module

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.config = encoder.config
        self.encoder = encoder

    @classmethod
    def on(cls, encoder: Encoder, **changes: Any) -> Any:
        """A new head on a trained encoder, whose weights are copied; `changes` are settings, such as `labels`.

        >>> BERTForSequenceClassification.on(BERT.from_pretrained(folder), labels=("no", "yes"))

        A pooler that the head wants and the encoder lacks is new too. Raises ValueError for another family's encoder.
        """
        if type(encoder.config) is not (wanted := cls.config_table.config):
            raise ValueError(f"{cls.__name__} is built of a {wanted.__name__}, which {type(encoder).__name__} has not")
        model = cls(replace(encoder.config, **changes))
        weight = next(encoder.parameters())
        model.to(weight.device, weight.dtype)
        wanted, given = model.encoder.state_dict(), encoder.state_dict()
        pooler = {name for name in wanted.keys() ^ given.keys() if name.startswith("pooler.")}
        model.encoder.load_state_dict(
            {n: t for n, t in given.items() if n not in pooler} | {n: t for n, t in wanted.items() if n in pooler}
        )
        return model

    @property
    def embed(self) -> Embedding:
        """The encoder's embedding of tokens."""
        return self.encoder.embed

    @property
    def blocks(self) -> nn.ModuleList:
        """The encoder's blocks."""
        return self.encoder.blocks

    @property
    def num_parameters(self) -> int:
        """Parameters, a tied weight counted once."""
        return sum(parameter.numel() for parameter in self.parameters())


def classifier_dropout(config: Any) -> Dropout:
    """What stands before a classifier while it learns: `classifier_dropout`, or else the encoder's `dropout`."""
    return Dropout(config.dropout if config.classifier_dropout is None else config.classifier_dropout)


class HeadTransform(nn.Module):
    """norm(activation(dense(x))): what stands between an encoder and the vocabulary."""

    def __init__(self, dim: int, norm: LayerNorm, *, activation: Activation, bias: bool = True) -> None:
        super().__init__()
        self.dense = Linear(dim, dim, bias=bias)
        self.activation = activation
        self.norm = norm

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        return self.norm(self.activation(self.dense(x)))


class MaskedLM(Head, ABC):
    """The tokens that were masked, from those around them (Devlin et al. 2018, section 3.1, task 1)."""

    cross_entropy: CrossEntropyKernel

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.cross_entropy = reference

    @abstractmethod
    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """What the head reads."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> PredictionOutput:
        """Logits (b, t, v); with `labels` (b, t), the token that belongs at each place or −100, the mean loss too."""
        check_labels(labels, tuple(input_ids.shape), self.config.vocab_size)
        dense = counted_at_padding(labels, attention_mask)
        x = self.features(self.encoder(input_ids, attention_mask, token_type_ids, dense=dense).last_hidden_state)
        if labels is None:
            return PredictionOutput(logits=self.head(x))
        loss, logits = self.cross_entropy(x, self.head, labels)
        return PredictionOutput(loss, logits)


class NextSentence(Head, ABC):
    """Whether the second text follows the first, class 0, or is any other, 1 (section 3.1, task 2)."""

    @abstractmethod
    def features(self, encoded: EncoderOutput) -> Float[Tensor, "b d"]:
        """One vector for the two texts."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> PredictionOutput:
        """Logits (b, 2); with `labels` (b,) the mean loss too."""
        check_labels(labels, (input_ids.shape[0],), 2)
        logits = self.head(self.features(self.encoder(input_ids, attention_mask, token_type_ids)))
        return PredictionOutput(None if labels is None else mean_cross_entropy(logits, labels), logits)


class SequenceClassification(Head, ABC):
    """A class for the whole text; several at once, or numbers, where `config.problem` says so."""

    @abstractmethod
    def features(self, encoded: EncoderOutput, attention_mask: Shaped[Tensor, "b t"] | None) -> Float[Tensor, "b d"]:
        """One vector for the text."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> PredictionOutput:
        """Logits (b, n); with `labels` the mean loss too.

        `labels` are classes (b,) (−100: not counted), or with the problem "multi_label_classification" 0 or 1 for each
        class (b, n), or with "regression" numbers (b, n), or (b,) for one. A config that names no problem means
        regression where there is one class, else what the dtype of the labels says, as Hugging Face does.
        """
        check_classes(labels, input_ids.shape[0], self.config)
        encoded = self.encoder(input_ids, attention_mask, token_type_ids)
        return classified(self.head(self.features(encoded, attention_mask)), labels, self.config)


class TokenClassification(Head, ABC):
    """A class for each token."""

    @abstractmethod
    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """What the head reads."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> PredictionOutput:
        """Logits (b, t, n); with `labels` (b, t), −100 where none counts, the mean loss too."""
        check_labels(labels, tuple(input_ids.shape), num_classes(self.config))
        dense = counted_at_padding(labels, attention_mask)
        hidden = self.encoder(input_ids, attention_mask, token_type_ids, dense=dense).last_hidden_state
        logits = self.head(self.features(hidden))
        return PredictionOutput(None if labels is None else mean_cross_entropy(logits, labels), logits)


class QuestionAnswering(Head, ABC):
    """Where in the text the answer begins and ends (Devlin et al. 2018, section 4.2)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        if num_classes(self.config) != 2:
            raise ValueError(f"labels={self.config.labels} are no two; an answer has a beginning and an end: give None")

    @abstractmethod
    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """What the head reads."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> SpanOutput:
        """Logits of the beginning and of the end, (b, t) each; with both positions (b,) the mean of the two losses.

        A position past the input, where the answer was cut off, is not counted, nor is −100. Padded places take part
        in the softmax, as in Hugging Face's models.
        """
        if (start_positions is None) != (end_positions is None):
            raise ValueError("start_positions and end_positions are given together or not at all")
        ends = tuple(_answer(positions, input_ids) for positions in (start_positions, end_positions))
        dense = start_positions is not None  # the loss looks at padded places too
        hidden = self.encoder(input_ids, attention_mask, token_type_ids, dense=dense).last_hidden_state
        start, end = self.head(self.features(hidden)).unbind(-1)
        losses = [mean_cross_entropy(x, at) for x, at in zip((start, end), ends, strict=True) if at is not None]
        return SpanOutput(torch.stack(losses).mean() if losses else None, start, end)


def _answer(positions: Tensor | None, input_ids: Tensor) -> Tensor | None:
    """Where the answer begins or ends, −100 where that is not counted. Raises ValueError for what is no position."""
    if positions is None:
        return None
    positions = positions.masked_fill(positions >= input_ids.shape[1], IGNORE)
    check_labels(positions, tuple(input_ids.shape[:1]), input_ids.shape[1], name="an answer's positions", of="the text")
    return positions
