"""Heads on a text encoder: from its vectors to classes and a loss. Which vectors are read is each model's own."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Self

import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.models.encoder import Encoder, looks
from glassformer.models.language_model import check_range
from glassformer.models.outputs import EncoderOutput, PredictionOutput, SpanOutput
from glassformer.ops.cross_entropy import IGNORE, CrossEntropyKernel, reference


class Head(nn.Module, Pretrained, ABC):
    """A task on an encoder, which it holds as `encoder`; their config is one."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.config = encoder.config
        self.encoder = encoder

    @classmethod
    def on(cls, encoder: Encoder, **changes: Any) -> Self:
        """A new head on a trained encoder, whose weights are copied; `changes` are settings, such as `labels`.

        >>> BERTForSequenceClassification.on(BERT.from_pretrained(folder), labels=("no", "yes"))

        A pooler that the head wants and the encoder lacks is new too. Raises ValueError for another family's encoder.
        """
        model = cls(replace(encoder.config, **changes))
        if type(model.encoder) is not type(encoder):
            raise ValueError(f"{cls.__name__} stands on {type(model.encoder).__name__}, not {type(encoder).__name__}")
        weight = next(encoder.parameters())
        model.to(weight.device, weight.dtype)
        wanted, given = model.encoder.state_dict(), encoder.state_dict()
        pooler = {name for name in wanted.keys() ^ given.keys() if name.startswith("pooler.")}
        model.encoder.load_state_dict(
            {n: t for n, t in given.items() if n not in pooler} | {n: t for n, t in wanted.items() if n in pooler}
        )
        return model

    @property
    def blocks(self) -> nn.ModuleList:
        """The encoder's blocks."""
        return self.encoder.blocks

    @property
    def num_parameters(self) -> int:
        """Parameters, a tied weight counted once."""
        return sum(parameter.numel() for parameter in self.parameters())


class MaskedLM(Head, ABC):
    """The tokens that were masked, from those around them (Devlin et al. 2018, section 3.1, task 1)."""

    decoder: nn.Module  # features to the vocabulary
    cross_entropy: CrossEntropyKernel

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.cross_entropy = reference

    @abstractmethod
    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """What the decoder reads."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> PredictionOutput:
        """Logits (b, t, v); with `labels` (b, t), the token that belongs at each place or −100, the mean loss too."""
        check_labels(labels, tuple(input_ids.shape), self.config.vocab_size)
        x = self.features(self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state)
        if labels is None:
            return PredictionOutput(logits=self.decoder(x))
        loss, logits = self.cross_entropy(x, self.decoder, labels)
        return PredictionOutput(loss, logits)


class NextSentence(Head, ABC):
    """Whether the second text follows the first, class 0, or is any other, 1 (section 3.1, task 2)."""

    classifier: nn.Module

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
        logits = self.classifier(self.features(self.encoder(input_ids, attention_mask, token_type_ids)))
        return PredictionOutput(None if labels is None else mean_cross_entropy(logits, labels), logits)


class SequenceClassification(Head, ABC):
    """A class for the whole text; several at once, or numbers, where `config.problem` says so."""

    classifier: nn.Module

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
        n = num_classes(self.config)
        problem = problem_of(self.config, labels)
        if labels is not None and problem == "single_label_classification":
            check_labels(labels, (input_ids.shape[0],), n)
        encoded = self.encoder(input_ids, attention_mask, token_type_ids)
        logits = self.classifier(self.features(encoded, attention_mask))
        if labels is None:
            return PredictionOutput(logits=logits)
        if problem == "single_label_classification":
            return PredictionOutput(mean_cross_entropy(logits, labels), logits)
        if labels.shape != logits.shape and not (n == 1 and labels.shape == logits.shape[:1]):
            raise ValueError(f"labels have shape {tuple(labels.shape)}; expected {tuple(logits.shape)} for {problem}")
        targets = labels.view_as(logits).to(logits.dtype)
        loss = F.mse_loss if problem == "regression" else F.binary_cross_entropy_with_logits
        return PredictionOutput(loss(logits, targets), logits)


class TokenClassification(Head, ABC):
    """A class for each token."""

    classifier: nn.Module

    @abstractmethod
    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """What the classifier reads."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> PredictionOutput:
        """Logits (b, t, n); with `labels` (b, t), −100 where none counts, the mean loss too."""
        check_labels(labels, tuple(input_ids.shape), num_classes(self.config))
        hidden = self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state
        logits = self.classifier(self.features(hidden))
        return PredictionOutput(None if labels is None else mean_cross_entropy(logits, labels), logits)


class QuestionAnswering(Head, ABC):
    """Where in the text the answer begins and ends (Devlin et al. 2018, section 4.2)."""

    classifier: nn.Module

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        if num_classes(self.config) != 2:
            raise ValueError(f"labels={self.config.labels} are no two; an answer has a beginning and an end: give None")

    @abstractmethod
    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """What the classifier reads."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> SpanOutput:
        """Logits of the beginning and of the end, (b, t) each; with both positions (b,) the mean of the two losses.

        As Hugging Face does, padded places take part in the softmax, a position past the input is not counted, and one
        below 0 is the first.
        """
        if (start_positions is None) != (end_positions is None):
            raise ValueError("start_positions and end_positions are given together or not at all")
        for positions in (start_positions, end_positions):
            if positions is not None and positions.shape != input_ids.shape[:1]:
                raise ValueError(f"positions have shape {tuple(positions.shape)}; expected {(input_ids.shape[0],)}")
        hidden = self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state
        start, end = self.classifier(self.features(hidden)).unbind(-1)
        if start_positions is None or end_positions is None:
            return SpanOutput(start_logits=start, end_logits=end)
        t = input_ids.shape[1]
        losses = [
            mean_cross_entropy(logits, positions.clamp(min=0).masked_fill(positions >= t, IGNORE))
            for logits, positions in ((start, start_positions), (end, end_positions))
        ]
        return SpanOutput((losses[0] + losses[1]) / 2, start, end)


PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")


def problem_of(config: Any, labels: Tensor | None) -> str:
    """What kind of labels a sequence classifier learns from; Hugging Face's names."""
    if config.problem is not None:
        return config.problem
    if num_classes(config) == 1:
        return "regression"
    floats = labels is not None and labels.is_floating_point()
    return "multi_label_classification" if floats else "single_label_classification"


def num_classes(config: Any) -> int:
    """How many classes a head tells apart; 2 where they have no names, as in Hugging Face's configs."""
    return 2 if config.labels is None else len(config.labels)


def mean_cross_entropy(logits: Float[Tensor, "*rows n"], labels: Int[Tensor, "*rows"]) -> Float[Tensor, ""]:
    """The mean over labels that are not −100; 0 where there is none."""
    return reference(logits, nn.Identity(), labels)[0]


def check_labels(labels: Tensor | None, shape: tuple[int, ...], size: int) -> None:
    """Raise ValueError for labels of another shape, or outside 0 … size − 1 (and not −100)."""
    if labels is None:
        return
    if tuple(labels.shape) != shape:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; expected {shape}")
    if looks(labels):
        check_range("labels", labels, size, ignored=IGNORE, of="the head")
