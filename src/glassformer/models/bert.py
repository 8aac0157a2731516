"""BERT (Devlin et al. 2018): a bidirectional encoder, normalised after each residual sum. Its heads: bert_heads.py."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, ConfigTable, Values
from glassformer.checkpoints.table import DROP, Table, Tied
from glassformer.models.encoder import Encoder
from glassformer.models.labels import LABELS, PROBLEM
from glassformer.ops.mask import Mask
from glassformer.parts import ACTIVATIONS, Attention, Embedding, FeedForward, LayerNorm, LearnedPosition, Linear
from glassformer.parts.dropout import Dropout


@dataclass(frozen=True, kw_only=True)
class BERTConfig:
    """Section 3 of the paper; the defaults are BERT-base.

    `labels` name the classes of a head that classifies (None: two without names), `problem` what a sequence classifier
    learns from, `classifier_dropout` stands before it (None: `dropout`); the encoder itself reads none of them.
    """

    vocab_size: int = 30_522
    max_positions: int = 512
    num_segments: int = 2
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    classifier_dropout: float | None = None
    labels: tuple[str, ...] | None = None
    problem: str | None = None
    tied: bool = True


SIZES = {  # section 3: "BERT-base (L=12, H=768, A=12)", "BERT-large (L=24, H=1024, A=16)"; and the cased release
    "bert-base": BERTConfig(),
    "bert-large": BERTConfig(dim=1024, num_layers=24, num_heads=16, hidden_dim=4096),
    "bert-base-cased": BERTConfig(vocab_size=28_996),
}


NAMES = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "num_segments",
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
}
DEFAULTS = {"type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1, "classifier_dropout": None, "problem_type": None,
            "tie_word_embeddings": True}  # fmt: skip

CONFIG_TABLE = ConfigTable(
    config=BERTConfig,
    model_type="bert",
    architectures=("BertModel",),
    within=("BertForMaskedLM", "BertForPreTraining", "BertForNextSentencePrediction", "BertForSequenceClassification",
            "BertForTokenClassification", "BertForQuestionAnswering", "BertForMultipleChoice"),
    names=NAMES,
    defaults=DEFAULTS,
    fixed={"position_embedding_type": "absolute"},
    # What the first releases say of their classes, of the pooler that all of them have, of the direction of writing.
    ignored={"_num_labels", "output_past", "directionality", "pooler_fc_size", "pooler_num_attention_heads",
             "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"},
    compounds=(LABELS,),
)  # fmt: skip


def encoder_table(family: str) -> Table:
    """The names of the encoder, without its pooler, in Hugging Face's files; the oldest name gains gamma and beta."""
    there, layer = f"[{family}.]embeddings", f"[{family}.]encoder.layer.*"
    return {
        f"{there}.{{word,position,token_type}}_embeddings": "{embed,position,segment}",
        f"{there}.LayerNorm": "embed_norm",
        f"{there}.LayerNorm.{{gamma,beta}}": Tied("embed_norm.{weight,bias}"),
        f"{there}.{{position_ids,token_type_ids}}": DROP,
        f"{layer}.attention.self.{{query,key,value}}": "blocks.*.attention.{query,key,value}",
        f"{layer}.attention.output.dense": "blocks.*.attention.output",
        f"{layer}.attention.output.LayerNorm": "blocks.*.attention_norm",
        f"{layer}.attention.output.LayerNorm.{{gamma,beta}}": Tied("blocks.*.attention_norm.{weight,bias}"),
        f"{layer}.{{intermediate,output}}.dense": "blocks.*.feed_forward.{up,down}",
        f"{layer}.output.LayerNorm": "blocks.*.feed_forward_norm",
        f"{layer}.output.LayerNorm.{{gamma,beta}}": Tied("blocks.*.feed_forward_norm.{weight,bias}"),
    }


# What the folders of heads hold beside the encoder.
PREDICTIONS = {
    "cls.predictions.{bias,decoder,transform.dense,transform.LayerNorm}": DROP,
    "cls.predictions.transform.LayerNorm.{gamma,beta}": DROP,
}
NEXT_SENTENCE = {"cls.seq_relationship": DROP}
TABLE: Table = {
    **encoder_table("bert"), "[bert.]pooler.dense": "pooler.dense",
    **PREDICTIONS, **NEXT_SENTENCE, "{classifier,qa_outputs}": DROP,
}  # fmt: skip


class BERTBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)): Vaswani et al. 2017, section 3.1, as section 3 says."""

    def __init__(self, config: Any) -> None:  # BERT's, or that of a model with the same blocks
        super().__init__()
        self.attention = Attention(config.dim, config.num_heads, dropout=config.attention_dropout)
        self.attention_norm = LayerNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(config.dim, config.hidden_dim, activation=ACTIVATIONS[config.activation])
        self.feed_forward_norm = LayerNorm(config.dim, config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b t d"], *, mask: Mask) -> Float[Tensor, "b t d"]:
        x = self.attention_norm(x + self.dropout(self.attention(x, mask=mask)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class BERTPooler(nn.Module):
    """tanh(dense(x)) of the first token's vector (the released code)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = Linear(dim, dim)

    def forward(self, first: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return self.dense(first).tanh()


class BERT(Encoder):
    """The sum of three embeddings, normalised (figure 2); then the blocks. `pooled=False` leaves the pooler out."""

    config_table = CONFIG_TABLE
    table = TABLE
    optional = ("pooler",)

    def __init__(self, config: BERTConfig, *, pooled: bool = True) -> None:
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
        return self.config.max_positions

    @property
    def num_segments(self) -> int:
        return self.config.num_segments

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
