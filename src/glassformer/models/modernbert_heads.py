"""ModernBERT's heads (Warner et al. 2024): each reads the encoder through norm(activation(dense(x)))."""

from dataclasses import replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from glassformer.checkpoints.table import Table, Tied
from glassformer.models.encoder import inside
from glassformer.models.heads import (
    HeadTransform,
    MaskedLM,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from glassformer.models.labels import num_classes
from glassformer.models.modernbert import CONFIG_TABLE, ENCODER, ModernBERT, ModernBERTConfig
from glassformer.models.outputs import EncoderOutput
from glassformer.parts import ACTIVATIONS, Dropout, LayerNorm, Linear, TiedLinear

TRANSFORMED: Table = {**inside(ENCODER), "head.{dense,norm}": "transform.{dense,norm}"}
CLASSIFIED: Table = {**TRANSFORMED, "classifier": "head"}
TIED: Table = {**TRANSFORMED, "decoder.bias": "head.bias", "decoder.weight": Tied("encoder.embed.weight")}
UNTIED: Table = {**TRANSFORMED, "decoder": "head"}


def transform(config: ModernBERTConfig) -> HeadTransform:
    """What stands before every head (the released code)."""
    norm = LayerNorm(config.dim, config.norm_eps, bias=False)
    return HeadTransform(config.dim, norm, activation=ACTIVATIONS[config.classifier_activation], bias=False)


class ModernBERTForMaskedLM(MaskedLM):
    """Masked tokens (section 2.2)."""

    config_table = replace(CONFIG_TABLE, architectures=("ModernBertForMaskedLM",), within=())
    table = staticmethod(lambda config: TIED if config.tied else UNTIED)

    def __init__(self, config: ModernBERTConfig) -> None:
        encoder = ModernBERT(config)
        super().__init__(encoder)
        self.transform = transform(config)
        self.head = TiedLinear(encoder.embed, bias=True) if config.tied else Linear(config.dim, config.vocab_size)

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.transform(hidden)


class ModernBERTForSequenceClassification(SequenceClassification):
    """A linear layer on the first token or on the mean of the real ones, as `config.pooling` says."""

    config_table = replace(CONFIG_TABLE, architectures=("ModernBertForSequenceClassification",), within=())
    table = CLASSIFIED

    def __init__(self, config: ModernBERTConfig) -> None:
        super().__init__(ModernBERT(config))
        self.transform = transform(config)
        self.dropout = Dropout(config.classifier_dropout)
        self.head = Linear(config.dim, num_classes(config))

    def features(self, encoded: EncoderOutput, attention_mask: Shaped[Tensor, "b t"] | None) -> Float[Tensor, "b d"]:
        pool = mean if self.config.pooling == "mean" else first
        return self.dropout(self.transform(pool(encoded.last_hidden_state, attention_mask)))


class ModernBERTForTokenClassification(TokenClassification):
    """A linear layer on each token."""

    config_table = replace(CONFIG_TABLE, architectures=("ModernBertForTokenClassification",), within=())
    table = CLASSIFIED

    def __init__(self, config: ModernBERTConfig) -> None:
        super().__init__(ModernBERT(config))
        self.transform = transform(config)
        self.dropout = Dropout(config.classifier_dropout)
        self.head = Linear(config.dim, num_classes(config))

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.dropout(self.transform(hidden))


class ModernBERTForQuestionAnswering(QuestionAnswering):
    """A start and an end score for each token."""

    config_table = replace(CONFIG_TABLE, architectures=("ModernBertForQuestionAnswering",), within=())
    table = CLASSIFIED

    def __init__(self, config: ModernBERTConfig) -> None:
        super().__init__(ModernBERT(config))
        self.transform = transform(config)
        self.dropout = Dropout(config.classifier_dropout)
        self.head = Linear(config.dim, 2)

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.dropout(self.transform(hidden))


def first(hidden: Float[Tensor, "b t d"], attention_mask: Shaped[Tensor, "b t"] | None) -> Float[Tensor, "b d"]:
    """The first place."""
    return hidden[:, 0]


def mean(hidden: Float[Tensor, "b t d"], attention_mask: Shaped[Tensor, "b t"] | None) -> Float[Tensor, "b d"]:
    """The mean over real tokens; 0 where there are none."""
    if attention_mask is None:
        return hidden.mean(1)
    present = (attention_mask != 0)[..., None]
    return torch.where(present, hidden, 0.0).sum(1) / present.sum(1).clamp(min=1)


HEADS = {
    "masked_lm": ModernBERTForMaskedLM,
    "sequence_classification": ModernBERTForSequenceClassification,
    "token_classification": ModernBERTForTokenClassification,
    "question_answering": ModernBERTForQuestionAnswering,
}
"""Task -> class."""
