"""BERT's heads (Devlin et al. 2018): the two it was trained with (section 3.1), those it is tuned with (section 4)."""

from dataclasses import replace

from jaxtyping import Float, Shaped
from torch import Tensor

from glassformer.checkpoints.table import DROP, Table, Tied
from glassformer.models.bert import BERT, CONFIG_TABLE, NEXT_SENTENCE, PREDICTIONS, BERTConfig, encoder_table
from glassformer.models.encoder import inside
from glassformer.models.heads import (
    Head,
    HeadTransform,
    MaskedLM,
    NextSentence,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
    classifier_dropout,
)
from glassformer.models.labels import check_labels, mean_cross_entropy, num_classes
from glassformer.models.outputs import EncoderOutput, PreTrainingOutput
from glassformer.ops.cross_entropy import CrossEntropyKernel, reference
from glassformer.parts import ACTIVATIONS, LayerNorm, Linear, TiedLinear

ENCODER = inside(encoder_table("bert"))
POOLED = {**ENCODER, "[bert.]pooler.dense": "encoder.pooler.dense"}
UNPOOLED = {**ENCODER, "[bert.]pooler.dense": DROP}


def prediction_table(config: BERTConfig) -> Table:
    """The names of the masked LM's head. Its bias has two; where nothing is tied, only the decoder's is used."""
    tied = {"bias": "head.bias", "decoder.bias": Tied("head.bias"), "decoder.weight": Tied("encoder.embed.weight")}
    rows = {
        "transform.{dense,LayerNorm}": "transform.{dense,norm}",
        "transform.LayerNorm.{gamma,beta}": Tied("transform.norm.{weight,bias}"),
        **(tied if config.tied else {"decoder": "head", "bias": DROP}),
    }
    return {f"cls.predictions.{name}": rule for name, rule in rows.items()}


def transform(config: BERTConfig) -> HeadTransform:
    """What stands before the vocabulary (the released code)."""
    norm = LayerNorm(config.dim, config.norm_eps)
    return HeadTransform(config.dim, norm, activation=ACTIVATIONS[config.activation])


def vocabulary(encoder: BERT) -> TiedLinear | Linear:
    """The head of the masked LM: the embedding's weight, with a bias of its own."""
    config = encoder.config
    return TiedLinear(encoder.embed, bias=True) if config.tied else Linear(config.dim, config.vocab_size)


class BERTForMaskedLM(MaskedLM):
    """Masked tokens (task 1). Opens what was trained on both tasks, too."""

    config_table = replace(CONFIG_TABLE, architectures=("BertForMaskedLM",), within=("BertForPreTraining",))

    table = staticmethod(lambda config: {**UNPOOLED, **prediction_table(config), **NEXT_SENTENCE})

    def __init__(self, config: BERTConfig) -> None:
        encoder = BERT(config, pooled=False)
        super().__init__(encoder)
        self.transform = transform(config)
        self.head = vocabulary(encoder)

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.transform(hidden)


class BERTForNextSentencePrediction(NextSentence):
    """Whether the second text follows the first (task 2). Opens what was trained on both tasks, too."""

    config_table = replace(
        CONFIG_TABLE, architectures=("BertForNextSentencePrediction",), within=("BertForPreTraining",)
    )
    table = staticmethod(lambda config: {**POOLED, **PREDICTIONS, "cls.seq_relationship": "head"})

    def __init__(self, config: BERTConfig) -> None:
        super().__init__(BERT(config))
        self.head = Linear(config.dim, 2)

    def features(self, encoded: EncoderOutput) -> Float[Tensor, "b d"]:
        assert encoded.pooler_output is not None
        return encoded.pooler_output


class BERTForPreTraining(Head):
    """Both tasks at once, as BERT was trained: their losses added (appendix A.2)."""

    config_table = replace(CONFIG_TABLE, architectures=("BertForPreTraining",), within=())
    table = staticmethod(lambda config: {**POOLED, **prediction_table(config), "cls.seq_relationship": "next_sentence"})
    cross_entropy: CrossEntropyKernel

    def __init__(self, config: BERTConfig) -> None:
        encoder = BERT(config)
        super().__init__(encoder)
        self.transform = transform(config)
        self.head = vocabulary(encoder)
        self.next_sentence = Linear(config.dim, 2)
        self.cross_entropy = reference

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        next_sentence_label: Tensor | None = None,
    ) -> PreTrainingOutput:
        """Both logits; with `labels` (b, t) or `next_sentence_label` (b,) the sum of the mean losses of those given."""
        check_labels(labels, tuple(input_ids.shape), self.config.vocab_size)
        check_labels(next_sentence_label, tuple(input_ids.shape[:1]), 2)
        encoded = self.encoder(input_ids, attention_mask, token_type_ids)
        x, follows = self.transform(encoded.last_hidden_state), self.next_sentence(encoded.pooler_output)
        if labels is None:
            losses, logits = [], self.head(x)
        else:
            loss, logits = self.cross_entropy(x, self.head, labels)
            losses = [loss]
        if next_sentence_label is not None:
            losses.append(mean_cross_entropy(follows, next_sentence_label))
        return PreTrainingOutput(sum(losses[1:], losses[0]) if losses else None, logits, follows)


class BERTForSequenceClassification(SequenceClassification):
    """A linear layer on the pooled first token (section 4.1)."""

    config_table = replace(CONFIG_TABLE, architectures=("BertForSequenceClassification",), within=())
    table = staticmethod(lambda config: {**POOLED, "classifier": "head"})

    def __init__(self, config: BERTConfig) -> None:
        super().__init__(BERT(config))
        self.dropout = classifier_dropout(config)
        self.head = Linear(config.dim, num_classes(config))

    def features(self, encoded: EncoderOutput, attention_mask: Shaped[Tensor, "b t"] | None) -> Float[Tensor, "b d"]:
        return self.dropout(encoded.pooler_output)


class BERTForTokenClassification(TokenClassification):
    """A linear layer on each token (section 5.3)."""

    config_table = replace(CONFIG_TABLE, architectures=("BertForTokenClassification",), within=())
    table = staticmethod(lambda config: {**UNPOOLED, "classifier": "head"})

    def __init__(self, config: BERTConfig) -> None:
        super().__init__(BERT(config, pooled=False))
        self.dropout = classifier_dropout(config)
        self.head = Linear(config.dim, num_classes(config))

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.dropout(hidden)


class BERTForQuestionAnswering(QuestionAnswering):
    """A start and an end vector, whose products with the tokens score them (section 4.2)."""

    config_table = replace(CONFIG_TABLE, architectures=("BertForQuestionAnswering",), within=())
    table = staticmethod(lambda config: {**UNPOOLED, "qa_outputs": "head"})

    def __init__(self, config: BERTConfig) -> None:
        super().__init__(BERT(config, pooled=False))
        self.head = Linear(config.dim, 2)

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return hidden


HEADS = {
    "masked_lm": BERTForMaskedLM,
    "next_sentence": BERTForNextSentencePrediction,
    "pretraining": BERTForPreTraining,
    "sequence_classification": BERTForSequenceClassification,
    "token_classification": BERTForTokenClassification,
    "question_answering": BERTForQuestionAnswering,
}
"""Task -> class."""
