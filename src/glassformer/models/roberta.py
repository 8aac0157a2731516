"""RoBERTa (Liu et al. 2019): BERT, trained longer, on more text, on masked tokens alone. Its blocks are BERT's."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, ConfigTable, Values, Variant
from glassformer.checkpoints.table import DROP, Table, Tied
from glassformer.models.bert import BERTBlock, BERTPooler, encoder_table
from glassformer.models.encoder import Encoder, inside
from glassformer.models.heads import (
    HeadTransform,
    MaskedLM,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
    classifier_dropout,
)
from glassformer.models.labels import LABELS, PROBLEM, num_classes
from glassformer.models.outputs import EncoderOutput
from glassformer.ops.mask import Mask
from glassformer.parts import Dropout, Embedding, LayerNorm, LearnedPosition, Linear, TiedLinear, gelu


@dataclass(frozen=True, kw_only=True)
class RoBERTaConfig:
    """Section 3.1 of the paper; the defaults are the base model. Two more positions than tokens: see `RoBERTa`.

    `labels`, `problem` and `classifier_dropout` are those of `BERTConfig`.
    """

    vocab_size: int = 50_265
    max_positions: int = 514
    num_segments: int = 1
    pad_id: int = 1
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    norm_eps: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.1
    classifier_dropout: float | None = None
    labels: tuple[str, ...] | None = None
    problem: str | None = None
    tied: bool = True


SIZES = {  # table 9 of the paper
    "roberta-base": RoBERTaConfig(),
    "roberta-large": RoBERTaConfig(dim=1024, num_layers=24, num_heads=16, hidden_dim=4096),
    "xlm-roberta-base": RoBERTaConfig(vocab_size=250_002),  # Conneau et al. 2020, table 5
    "xlm-roberta-large": RoBERTaConfig(vocab_size=250_002, dim=1024, num_layers=24, num_heads=16, hidden_dim=4096),
}


def classes(*names: str) -> tuple[str, ...]:
    """Their classes of the family and of its descendants, which differ in their text and vocabulary alone."""
    return tuple(f"{family}{name}" for family in ("Roberta", "XLMRoberta", "Camembert") for name in names)


CONFIG_TABLE = ConfigTable(
    config=RoBERTaConfig,
    model_type="roberta",
    architectures=classes("Model"),
    within=classes("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
                   "ForMultipleChoice"),
    # Conneau et al. 2020, "XLM-RoBERTa"; Martin et al. 2020, "CamemBERT": read, and written as a RoBERTa.
    variants={"xlm-roberta": Variant("XLMRobertaModel", {}), "camembert": Variant("CamembertModel", {})},
    names={
        "vocab_size": "vocab_size",
        "max_position_embeddings": "max_positions",
        "type_vocab_size": "num_segments",
        "pad_token_id": "pad_id",
        "hidden_size": "dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": Values("activation", ACTIVATION_NAMES),
        "layer_norm_eps": "norm_eps",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "classifier_dropout": "classifier_dropout",
        "problem_type": PROBLEM,
        "tie_word_embeddings": "tied",
    },
    defaults={"type_vocab_size": 2, "pad_token_id": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
              "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "classifier_dropout": None,
              "problem_type": None, "tie_word_embeddings": True},
    fixed={"position_embedding_type": "absolute"},
    ignored={"_num_labels", "output_past"},  # old files repeat the number of classes, and say what their classes return
    compounds=(LABELS,),
)  # fmt: skip

ENCODER: Table = {**inside(encoder_table("roberta")), "[roberta.]pooler.dense": DROP}
TABLE: Table = {
    **encoder_table("roberta"), "[roberta.]pooler.dense": "pooler.dense",
    "lm_head.{bias,decoder,dense,layer_norm}": DROP, "{classifier,qa_outputs}": DROP,
    "classifier.{dense,out_proj}": DROP,
}  # fmt: skip


def masked_lm_table(config: RoBERTaConfig) -> Table:
    """The names of the masked LM. Its bias has two; where nothing is tied, only the decoder's is used."""
    tied = {"bias": "head.bias", "decoder.bias": Tied("head.bias"), "decoder.weight": Tied("encoder.embed.weight")}
    rows = tied if config.tied else {"decoder": "head", "bias": DROP}
    rows |= {"{dense,layer_norm}": "transform.{dense,norm}"}
    return {**ENCODER, **{f"lm_head.{name}": rule for name, rule in rows.items()}}


class RoBERTa(Encoder):
    """The sum of three embeddings, normalised; then the blocks. `pooled=False` leaves the pooler out.

    Tokens stand at pad_id + 1, pad_id + 2, …, and every token that is the pad at pad_id (the released code).
    """

    config_table = CONFIG_TABLE
    table = TABLE
    optional = ("pooler",)

    def __init__(self, config: RoBERTaConfig, *, pooled: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.dim)
        self.position = LearnedPosition(config.max_positions, config.dim)
        self.segment = Embedding(config.num_segments, config.dim)
        self.embed_norm = LayerNorm(config.dim, config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(BERTBlock(config) for _ in range(config.num_layers))
        self.pooler = BERTPooler(config.dim) if pooled else None

    @property
    def max_tokens(self) -> int:
        return self.config.max_positions - self.config.pad_id - 1

    @property
    def num_segments(self) -> int:
        return self.config.num_segments

    def positions(self, input_ids: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
        real = input_ids != self.config.pad_id
        return real.cumsum(1) * real + self.config.pad_id

    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        positions: Int[Tensor, "*b t"],
        mask: Mask,
        token_type_ids: Int[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t d"]:
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        x = self.embed(input_ids) + self.segment(segments) + self.position(positions)
        x = self.dropout(self.embed_norm(x))
        for block in self.blocks:
            x = block(x, mask=mask)
        return x


class RoBERTaForMaskedLM(MaskedLM):
    """Masked tokens (section 2.2)."""

    config_table = replace(CONFIG_TABLE, architectures=classes("ForMaskedLM"), within=())
    table = staticmethod(masked_lm_table)

    def __init__(self, config: RoBERTaConfig) -> None:
        encoder = RoBERTa(config, pooled=False)
        super().__init__(encoder)
        self.transform = HeadTransform(config.dim, LayerNorm(config.dim, config.norm_eps), activation=gelu)
        self.head = TiedLinear(encoder.embed, bias=True) if config.tied else Linear(config.dim, config.vocab_size)

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.transform(hidden)


class RoBERTaForSequenceClassification(SequenceClassification):
    """head(tanh(dense(x))) of the first token, with dropout before each layer (the released code)."""

    config_table = replace(CONFIG_TABLE, architectures=classes("ForSequenceClassification"), within=())
    table = staticmethod(lambda config: {**ENCODER, "classifier.{dense,out_proj}": "{dense,head}"})

    def __init__(self, config: RoBERTaConfig) -> None:
        super().__init__(RoBERTa(config, pooled=False))
        self.dropout = classifier_dropout(config)
        self.dense = Linear(config.dim, config.dim)
        self.head = Linear(config.dim, num_classes(config))

    def features(self, encoded: EncoderOutput, attention_mask: Shaped[Tensor, "b t"] | None) -> Float[Tensor, "b d"]:
        return self.dropout(self.dense(self.dropout(encoded.last_hidden_state[:, 0])).tanh())


class RoBERTaForTokenClassification(TokenClassification):
    """A linear layer on each token."""

    config_table = replace(CONFIG_TABLE, architectures=classes("ForTokenClassification"), within=())
    table = staticmethod(lambda config: {**ENCODER, "classifier": "head"})

    def __init__(self, config: RoBERTaConfig) -> None:
        super().__init__(RoBERTa(config, pooled=False))
        self.dropout = classifier_dropout(config)
        self.head = Linear(config.dim, num_classes(config))

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.dropout(hidden)


class RoBERTaForQuestionAnswering(QuestionAnswering):
    """A start and an end score for each token (section 5.2)."""

    config_table = replace(CONFIG_TABLE, architectures=classes("ForQuestionAnswering"), within=())
    table = staticmethod(lambda config: {**ENCODER, "qa_outputs": "head"})

    def __init__(self, config: RoBERTaConfig) -> None:
        super().__init__(RoBERTa(config, pooled=False))
        self.head = Linear(config.dim, 2)

    def features(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return hidden


HEADS = {
    "masked_lm": RoBERTaForMaskedLM,
    "sequence_classification": RoBERTaForSequenceClassification,
    "token_classification": RoBERTaForTokenClassification,
    "question_answering": RoBERTaForQuestionAnswering,
}
"""Task -> class."""
