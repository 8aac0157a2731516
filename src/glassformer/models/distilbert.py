"""DistilBERT (Sanh et al. 2019): half of BERT's layers, taught by the whole; no segments, no pooler."""

from dataclasses import dataclass, replace

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, ConfigTable, Values
from glassformer.checkpoints.table import DROP, Table, Tied
from glassformer.models.bert import BERTBlock
from glassformer.models.encoder import Encoder, inside
from glassformer.models.heads import (
    HeadTransform,
    MaskedLM,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from glassformer.models.labels import LABELS, PROBLEM, num_classes
from glassformer.models.outputs import EncoderOutput
from glassformer.ops.mask import Mask
from glassformer.parts import ACTIVATIONS, Dropout, Embedding, LayerNorm, LearnedPosition, Linear, TiedLinear, relu


@dataclass(frozen=True, kw_only=True)
class DistilBERTConfig:
    """Section 3 of the paper; `labels` and `problem` are those of `BERTConfig`."""

    vocab_size: int = 30_522
    max_positions: int = 512
    dim: int = 768
    num_layers: int = 6
    num_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    classifier_dropout: float = 0.2
    answer_dropout: float = 0.1
    labels: tuple[str, ...] | None = None
    problem: str | None = None
    tied: bool = True

    @property
    def norm_eps(self) -> float:
        return 1e-12


SIZES = {"distilbert-base": DistilBERTConfig()}  # table 3


CONFIG_TABLE = ConfigTable(
    config=DistilBERTConfig,
    model_type="distilbert",
    architectures=("DistilBertModel",),
    within=("DistilBertForMaskedLM", "DistilBertForSequenceClassification", "DistilBertForTokenClassification",
            "DistilBertForQuestionAnswering", "DistilBertForMultipleChoice"),
    names={
        "vocab_size": "vocab_size",
        "max_position_embeddings": "max_positions",
        "dim": "dim",
        "n_layers": "num_layers",
        "n_heads": "num_heads",
        "hidden_dim": "hidden_dim",
        "activation": Values("activation", ACTIVATION_NAMES),
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "seq_classif_dropout": "classifier_dropout",
        "qa_dropout": "answer_dropout",
        "problem_type": PROBLEM,
        "tie_word_embeddings": "tied",
    },
    defaults={"activation": "gelu", "dropout": 0.1, "attention_dropout": 0.1, "seq_classif_dropout": 0.2,
              "qa_dropout": 0.1, "problem_type": None, "tie_word_embeddings": True},
    # How positions were drawn before they were learned; what old files say of ties (all are) and of outputs.
    ignored={"sinusoidal_pos_embds", "tie_weights_", "output_past", "_num_labels"},
    compounds=(LABELS,),
)  # fmt: skip


def encoder_table() -> Table:
    """The names of the encoder in Hugging Face's files."""
    layer = "[distilbert.]transformer.layer.*"
    return {
        "[distilbert.]embeddings.{word,position}_embeddings": "{embed,position}",
        "[distilbert.]embeddings.LayerNorm": "embed_norm",
        "[distilbert.]embeddings.position_ids": DROP,
        f"{layer}.attention.{{q,k,v,out}}_lin": "blocks.*.attention.{query,key,value,output}",
        f"{layer}.sa_layer_norm": "blocks.*.attention_norm",
        f"{layer}.ffn.{{lin1,lin2}}": "blocks.*.feed_forward.{up,down}",
        f"{layer}.output_layer_norm": "blocks.*.feed_forward_norm",
    }


ENCODER = inside(encoder_table())
TABLE: Table = {
    **encoder_table(), "{vocab_transform,vocab_layer_norm,vocab_projector,pre_classifier,classifier,qa_outputs}": DROP,
}  # fmt: skip


def masked_lm_table(config: DistilBERTConfig) -> Table:
    """The names of the masked LM."""
    tied = {"vocab_projector.bias": "head.bias", "vocab_projector.weight": Tied("encoder.embed.weight")}
    return {
        **ENCODER,
        "{vocab_transform,vocab_layer_norm}": "transform.{dense,norm}",
        **(tied if config.tied else {"vocab_projector": "head"}),
    }


class DistilBERT(Encoder):
    """The sum of two embeddings, normalised; then the blocks."""

    config_table = CONFIG_TABLE
    table = TABLE

    def __init__(self, config: DistilBERTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.position = LearnedPosition(config.max_positions, config.dim)
        self.embed_norm = LayerNorm(config.dim, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(BERTBlock(config) for _ in range(config.num_layers))
        self.pooler = None

    @property
    def max_tokens(self) -> int:
        return self.config.max_positions

    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        positions: Int[Tensor, "*b t"],
        mask: Mask,
        token_type_ids: Int[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t d"]:
        x = self.dropout(self.embed_norm(self.embed(input_ids) + self.position(positions)))
        for block in self.blocks:
            x = block(x, mask=mask)
        return x


class DistilBERTForMaskedLM(MaskedLM):
    """Masked tokens (section 3)."""

    config_table = replace(CONFIG_TABLE, architectures=("DistilBertForMaskedLM",), within=())
    table = staticmethod(masked_lm_table)

    def __init__(self, config: DistilBERTConfig) -> None:
        encoder = DistilBERT(config)
        super().__init__(encoder)
        norm = LayerNorm(config.dim, config.norm_eps)
        self.transform = HeadTransform(config.dim, norm, activation=ACTIVATIONS[config.activation])
        self.head = TiedLinear(encoder.embed, bias=True) if config.tied else Linear(config.dim, config.vocab_size)

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.transform(hidden)


class DistilBERTForSequenceClassification(SequenceClassification):
    """head(relu(dense(x))) of the first token (the released code)."""

    config_table = replace(CONFIG_TABLE, architectures=("DistilBertForSequenceClassification",), within=())
    table = staticmethod(lambda config: {**ENCODER, "{pre_classifier,classifier}": "{dense,head}"})

    def __init__(self, config: DistilBERTConfig) -> None:
        super().__init__(DistilBERT(config))
        self.dense = Linear(config.dim, config.dim)
        self.dropout = Dropout(config.classifier_dropout)
        self.head = Linear(config.dim, num_classes(config))

    def features(self, encoded: EncoderOutput, attention_mask: Shaped[Tensor, "b t"] | None) -> Float[Tensor, "b d"]:
        return self.dropout(relu(self.dense(encoded.last_hidden_state[:, 0])))


class DistilBERTForTokenClassification(TokenClassification):
    """A linear layer on each token."""

    config_table = replace(CONFIG_TABLE, architectures=("DistilBertForTokenClassification",), within=())
    table = staticmethod(lambda config: {**ENCODER, "classifier": "head"})

    def __init__(self, config: DistilBERTConfig) -> None:
        super().__init__(DistilBERT(config))
        self.dropout = Dropout(config.dropout)
        self.head = Linear(config.dim, num_classes(config))

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.dropout(hidden)


class DistilBERTForQuestionAnswering(QuestionAnswering):
    """A start and an end score for each token (section 4)."""

    config_table = replace(CONFIG_TABLE, architectures=("DistilBertForQuestionAnswering",), within=())
    table = staticmethod(lambda config: {**ENCODER, "qa_outputs": "head"})

    def __init__(self, config: DistilBERTConfig) -> None:
        super().__init__(DistilBERT(config))
        self.dropout = Dropout(config.answer_dropout)
        self.head = Linear(config.dim, 2)

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.dropout(hidden)


HEADS = {
    "masked_lm": DistilBERTForMaskedLM,
    "sequence_classification": DistilBERTForSequenceClassification,
    "token_classification": DistilBERTForTokenClassification,
    "question_answering": DistilBERTForQuestionAnswering,
}
"""Task -> class."""
