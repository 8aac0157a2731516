"""The Transformer (Vaswani et al. 2017) over tokens: embeddings and positions in, the next token's logits out.

Its blocks are in transformer_blocks.py. `glassformer.transformer.Transformer` is the same blocks over vectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, Compound, ConfigTable, Values
from glassformer.checkpoints.table import Computed, Table, Tied, Unsqueezed
from glassformer.models.sequence_to_sequence import SequenceToSequenceModel, padding
from glassformer.models.transformer_blocks import DecoderStack, EncoderStack, Sublayers
from glassformer.ops.mask import Mask
from glassformer.parts import ACTIVATIONS, Dropout, Embedding, KeyValueCache, Linear, SinusoidalPosition, TiedLinear


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Table 3 of the paper; the defaults are its base model, with the 37,000 tokens of section 5.1.

    `scaled`: embeddings are multiplied by √dim (section 3.4).
    """

    vocab_size: int = 37_000
    max_positions: int = 1024
    dim: int = 512
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 8
    hidden_dim: int = 2048
    activation: str = "relu"
    scaled: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    decoder_start_token_id: int = 0
    pad_token_id: int = 0
    eos_token_id: int = 1
    forced_eos_token_id: int | None = None

    tied: ClassVar[bool] = True  # "the same weight matrix" for both embeddings and the head (section 3.4)
    forced_bos_token_id: ClassVar[None] = None

    @property
    def num_kv_heads(self) -> int:
        return self.num_heads

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


SIZES = {  # table 3 counts 65 and 213 million parameters; with 37,000 tokens and every bias they are 63.1 and 214.2
    "transformer-base": TransformerConfig(),
    "transformer-big": TransformerConfig(dim=1024, num_heads=16, hidden_dim=4096, dropout=0.3),
}


def equal(attributes: Mapping[str, Any], *, ours: str, defaults: Mapping[str, int | None]) -> dict[str, Any]:
    """One field of ours from several of theirs. Raises ValueError where they differ."""
    said = {**defaults, **attributes}  # one that a file lacks is their class's default, not what stands beside it
    first, *others = (value for name, value in said.items() if value is not None or defaults[name] is not None)
    if any(value != first for value in others):
        raise ValueError(f"config.json has {said}; only equal ones are implemented")
    return {ours: first}


def same(ours: str, **defaults: int | None) -> Compound:
    """Several attributes of theirs with their defaults (None: what the first is); equal ones are one field of ours."""
    theirs, load = tuple(defaults), partial(equal, ours=ours, defaults=defaults)
    return Compound(theirs, (ours,), load, lambda config: dict.fromkeys(theirs, getattr(config, ours)))


def fixed_unwritten(**values: Any) -> Compound:
    """What old files may say of a model that is built one way only: it must be this, and is not written."""

    def load(attributes: dict[str, Any]) -> dict[str, Any]:
        for name, value in attributes.items():
            if value != values[name]:
                raise ValueError(f"config.json has {name}={value!r}; only {values[name]!r} is implemented")
        return {}

    return Compound(tuple(values), (), load, lambda config: {})


HEADS = same("num_heads", encoder_attention_heads=16, decoder_attention_heads=16)
WIDTHS = same("hidden_dim", encoder_ffn_dim=4096, decoder_ffn_dim=4096)


NAMES: dict[str, str | Values] = {
    "max_position_embeddings": "max_positions",
    "d_model": "dim",
    "encoder_layers": "num_encoder_layers",
    "decoder_layers": "num_decoder_layers",
    "activation_function": Values("activation", ACTIVATION_NAMES),
    "scale_embedding": "scaled",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "hidden_dropout",
    "decoder_start_token_id": "decoder_start_token_id",
    "pad_token_id": "pad_token_id",
    "eos_token_id": "eos_token_id",
    "forced_eos_token_id": "forced_eos_token_id",
}
FIXED = {"is_encoder_decoder": True, "tie_word_embeddings": True, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}
# What old files say beside: the number of encoder layers again, how weights were drawn, how their classes ran.
IGNORED = {"num_hidden_layers", "init_std", "output_past", "_num_labels", "classif_dropout", "classifier_dropout"}
# Rows that positions of their first classes had beside; the bias of the logits, which the files hold in any case.
MARIAN_IGNORED = {"extra_pos_embeddings", "add_bias_logits"}

CONFIG_TABLE = ConfigTable(
    config=TransformerConfig,
    model_type="marian",
    architectures=("MarianMTModel", "MarianModel"),
    names=NAMES,
    defaults={"max_position_embeddings": 1024, "encoder_layers": 12, "decoder_layers": 12,
              "d_model": 1024, "activation_function": "gelu", "scale_embedding": False, "dropout": 0.1,
              "attention_dropout": 0.0, "activation_dropout": 0.0, "decoder_start_token_id": 58_100,
              "pad_token_id": 58_100, "eos_token_id": 0, "forced_eos_token_id": 0},
    fixed=FIXED | {"share_encoder_decoder_embeddings": True},
    ignored=IGNORED | MARIAN_IGNORED,
    compounds=(same("vocab_size", vocab_size=58_101, decoder_vocab_size=None), HEADS, WIDTHS,
               fixed_unwritten(normalize_before=False, normalize_embedding=False, add_final_layer_norm=False,
                               static_position_embeddings=True)),
)  # fmt: skip

BLOCKS: Table = {  # the names in Hugging Face's files
    "[model.]shared": "embed",
    "[model.]{encoder,decoder}.embed_tokens": Tied("{embed,embed}"),
    "lm_head": Tied("embed"),
    "final_logits_bias": Unsqueezed("head.bias"),
    "[model.]{encoder,decoder}.layers.*.self_attn.{q,k,v,out}_proj":
        "{encoder,decoder}.blocks.*.attention.{query,key,value,output}",
    "[model.]decoder.layers.*.encoder_attn.{q,k,v,out}_proj":
        "decoder.blocks.*.cross_attention.{query,key,value,output}",
    "[model.]{encoder,decoder}.layers.*.fc{1,2}": "{encoder,decoder}.blocks.*.feed_forward.{up,down}",
    "[model.]encoder.layers.*.{self_attn,final}_layer_norm": "encoder.blocks.*.{attention,feed_forward}_norm",
    "[model.]decoder.layers.*.{self_attn,encoder_attn,final}_layer_norm":
        "decoder.blocks.*.{attention,cross_attention,feed_forward}_norm",
}  # fmt: skip


def sines_and_cosines(
    waves: SinusoidalPosition, positions: Int[Tensor, "t"], dtype: torch.dtype
) -> Float[Tensor, "t d"]:
    """A row for each position: the sines first and then the cosines, as in the paper's released code and in Marian's.

    Section 3.5 has them alternate: the same up to the order of coordinates.
    """
    alternate = waves(positions, dtype)
    return torch.cat([alternate[..., 0::2], alternate[..., 1::2]], -1)


def position_table(shape: tuple[int, ...]) -> Float[Tensor, "t d"]:
    """What a file may hold of the positions. Raises ValueError where the shape is that of no such table."""
    if len(shape) != 2:
        raise ValueError(f"a table of positions has the shape {shape}; expected a row for each position")
    return sines_and_cosines(SinusoidalPosition(*shape), torch.arange(shape[0], device="cpu"), torch.float32)


TABLE: Table = {**BLOCKS, "[model.]{encoder,decoder}.embed_positions": Computed(position_table)}


def biased_head(embed: Embedding) -> TiedLinear:
    """The head tied to the embedding, with a bias that is set, not learned: a buffer, as in Marian's files."""
    head = TiedLinear(embed)
    del head.bias
    head.register_buffer("bias", torch.zeros(embed.weight.shape[0]))
    return head


class TokenTransformer(SequenceToSequenceModel):
    """Embeddings scaled by √dim, plus sines and cosines of the position; encoder, decoder, and the tied head."""

    has_position_table = True
    config_table = CONFIG_TABLE
    table = TABLE
    optional = ("head.bias",)

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        sublayers = Sublayers(
            dim=config.dim, num_heads=config.num_heads, hidden_dim=config.hidden_dim,
            activation=ACTIVATIONS[config.activation], dropout=config.dropout,
            attention_dropout=config.attention_dropout, hidden_dropout=config.hidden_dropout,
        )  # fmt: skip
        self.embed = Embedding(config.vocab_size, config.dim)
        self.position = SinusoidalPosition(config.max_positions, config.dim)
        self.dropout = Dropout(config.dropout)
        self.encoder = EncoderStack(config.num_encoder_layers, sublayers)
        self.decoder = DecoderStack(config.num_decoder_layers, sublayers)
        self.head = biased_head(self.embed)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Matrices from Glorot's uniform distribution, embeddings from N(0, 1/dim), as in the released code."""
        for module in self.modules():
            if isinstance(module, Linear):
                nn.init.xavier_uniform_(module.weight)
        nn.init.normal_(self.embed.weight, std=self.config.dim**-0.5)

    def embedded(self, ids: Int[Tensor, "b t"], start: int = 0) -> Float[Tensor, "b t d"]:
        """What goes into the blocks, for tokens that stand at `start` and after."""
        x = self.embed(ids) * (self.config.dim**0.5 if self.config.scaled else 1.0)
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        return self.dropout(x + sines_and_cosines(self.position, positions, x.dtype))

    def encode(
        self, input_ids: Int[Tensor, "b s"], attention_mask: Shaped[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b s d"]:
        return self.encoder(self.embedded(input_ids), mask=padding(attention_mask))

    def decode(
        self,
        decoder_input_ids: Int[Tensor, "b t"],
        encoder_output: Float[Tensor, "r s d"],
        attention_mask: Shaped[Tensor, "r s"] | None = None,
        decoder_attention_mask: Shaped[Tensor, "b u"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        x = self.embedded(decoder_input_ids, 0 if cache is None else cache.length)
        mask = Mask.causal() & padding(decoder_attention_mask)
        return self.decoder(x, encoder_output, mask=mask, context_mask=padding(attention_mask), cache=cache)
