"""BART (Lewis et al. 2019): the Transformer with learned positions, trained to undo damage done to its text."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import ConfigTable
from glassformer.checkpoints.table import DROP, Table
from glassformer.models.labels import LABELS, PROBLEM, load_labels, save_labels
from glassformer.models.sequence_to_sequence import SequenceToSequenceModel, padding
from glassformer.models.transformer import (
    BLOCKS,
    FIXED,
    HEADS,
    IGNORED,
    NAMES,
    WIDTHS,
    biased_head,
    fixed_unwritten,
)
from glassformer.models.transformer_blocks import DecoderStack, EncoderStack, Sublayers
from glassformer.ops.mask import Mask
from glassformer.parts import ACTIVATIONS, Dropout, Embedding, KeyValueCache, LayerNorm, LearnedPosition

OFFSET = 2  # the first two rows of the positions are never read: they were the padding's


@dataclass(frozen=True, kw_only=True)
class BARTConfig:
    """Section 2.1 of the paper; the defaults are the base model.

    `labels`, `problem` and `classifier_dropout` are those of the sequence classifier, as in `BERTConfig`; the model
    itself reads none of them.
    """

    vocab_size: int = 50_265
    max_positions: int = 1024
    dim: int = 768
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    scaled: bool = False
    dropout: float = 0.1
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    classifier_dropout: float = 0.0
    labels: tuple[str, ...] | None = None
    problem: str | None = None
    decoder_start_token_id: int = 2
    pad_token_id: int = 1
    eos_token_id: int = 2
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = 2

    tied: ClassVar[bool] = True

    @property
    def num_kv_heads(self) -> int:
        return self.num_heads

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


_LARGE = BARTConfig(dim=1024, num_encoder_layers=12, num_decoder_layers=12, num_heads=16, hidden_dim=4096)
SIZES = {  # section 2.1; the released summarizer (section 5.3), whose vocabulary has no <mask>
    "bart-base": BARTConfig(),
    "bart-large": _LARGE,
    "bart-large-cnn": replace(_LARGE, vocab_size=50_264, forced_bos_token_id=0),
}


THREE = ("LABEL_0", "LABEL_1", "LABEL_2")


def _load_labels(attributes: dict[str, Any]) -> dict[str, Any]:
    """Their configs begin with three classes, as many as MNLI has; two without names are None, as everywhere here."""
    named = any(attributes.get(name) is not None for name in ("id2label", "num_labels"))
    labels = load_labels(attributes)["labels"] if named else THREE
    return {"labels": None if labels == THREE[:2] else labels}


def _save_labels(config: BARTConfig) -> dict[str, Any]:
    return save_labels(replace(config, labels=THREE[:2]) if config.labels is None else config)


CONFIG_TABLE = ConfigTable(
    config=BARTConfig,
    model_type="bart",
    architectures=("BartForConditionalGeneration", "BartModel"),
    within=("BartForSequenceClassification",),
    names=NAMES | {"vocab_size": "vocab_size", "classifier_dropout": "classifier_dropout", "problem_type": PROBLEM,
                   "forced_bos_token_id": "forced_bos_token_id"},
    defaults={"vocab_size": 50_265, "max_position_embeddings": 1024, "encoder_layers": 12, "decoder_layers": 12,
              "d_model": 1024, "activation_function": "gelu", "scale_embedding": False, "dropout": 0.1,
              "attention_dropout": 0.0, "activation_dropout": 0.0, "classifier_dropout": 0.0, "problem_type": None,
              "decoder_start_token_id": 2, "pad_token_id": 1, "eos_token_id": 2, "forced_bos_token_id": None,
              "forced_eos_token_id": 2},
    fixed=FIXED,
    # forced_bos_token_id once more; and what a distilled model was made from.
    ignored=IGNORED | {"force_bos_token_to_be_generated", "student_encoder_layers", "student_decoder_layers",
                       "replacing_rate"},
    compounds=(
        HEADS,
        WIDTHS,
        replace(LABELS, load=_load_labels, save=_save_labels),
        fixed_unwritten(normalize_before=False, normalize_embedding=True, add_final_layer_norm=False,
                        static_position_embeddings=False, add_bias_logits=False, extra_pos_embeddings=OFFSET,
                        do_blenderbot_90_layernorm=False),
    ),
)  # fmt: skip

BODY: Table = {  # the names in Hugging Face's files
    **BLOCKS,
    "[model.]{encoder,decoder}.embed_positions": "{encoder,decoder}_input.position",
    "[model.]{encoder,decoder}.layernorm_embedding": "{encoder,decoder}_input.norm",
    "[model.]{encoder,decoder}.version": DROP,
}
TABLE: Table = {**BODY, "classification_head.{dense,out_proj}": DROP}


class BARTInput(nn.Module):
    """norm(embedding + position) of tokens that stand at `start` and after."""

    def __init__(self, config: BARTConfig) -> None:
        super().__init__()
        self.position = LearnedPosition(config.max_positions + OFFSET, config.dim)
        self.norm = LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b t d"], start: int = 0) -> Float[Tensor, "b t d"]:
        positions = torch.arange(start + OFFSET, start + OFFSET + x.shape[1], device=x.device)
        return self.dropout(self.norm(x + self.position(positions)))


class BART(SequenceToSequenceModel):
    """The Transformer's encoder, decoder and tied head, behind normalised sums of embedding and position."""

    has_position_table = True
    config_table = CONFIG_TABLE
    table = TABLE
    optional = ("head.bias",)

    def __init__(self, config: BARTConfig) -> None:
        super().__init__()
        self.config = config
        sublayers = Sublayers(
            dim=config.dim, num_heads=config.num_heads, hidden_dim=config.hidden_dim,
            activation=ACTIVATIONS[config.activation], dropout=config.dropout,
            attention_dropout=config.attention_dropout, hidden_dropout=config.hidden_dropout,
        )  # fmt: skip
        self.embed = Embedding(config.vocab_size, config.dim)
        self.scale = config.dim**0.5 if config.scaled else 1.0
        self.encoder_input, self.decoder_input = BARTInput(config), BARTInput(config)
        self.encoder = EncoderStack(config.num_encoder_layers, sublayers)
        self.decoder = DecoderStack(config.num_decoder_layers, sublayers)
        self.head: nn.Module = biased_head(self.embed)

    def encode(
        self, input_ids: Int[Tensor, "b s"], attention_mask: Shaped[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b s d"]:
        return self.encoder(self.encoder_input(self.scale * self.embed(input_ids)), mask=padding(attention_mask))

    def decode(
        self,
        decoder_input_ids: Int[Tensor, "b t"],
        encoder_output: Float[Tensor, "r s d"],
        attention_mask: Shaped[Tensor, "r s"] | None = None,
        decoder_attention_mask: Shaped[Tensor, "b u"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        x = self.decoder_input(self.scale * self.embed(decoder_input_ids), 0 if cache is None else cache.length)
        mask = Mask.causal() & padding(decoder_attention_mask)
        return self.decoder(x, encoder_output, mask=mask, context_mask=padding(attention_mask), cache=cache)
