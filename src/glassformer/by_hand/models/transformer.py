"""The Transformer (Vaswani et al. 2017) by hand: embeddings and positions in, the next token's logits out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.checkpoints import Names, rename
from glassformer.by_hand.models.sequence_to_sequence import SequenceToSequenceModel, padding
from glassformer.by_hand.models.transformer_blocks import DecoderStack, EncoderStack, Sublayers
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.activation import ACTIVATIONS
from glassformer.by_hand.parts.dropout import Dropout
from glassformer.by_hand.parts.embedding import Embedding
from glassformer.by_hand.parts.linear import TiedLinear
from glassformer.by_hand.parts.position import SinusoidalPosition


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Table 3 of the paper; `scaled`: embeddings are multiplied by √dim (section 3.4)."""

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


class TokenTransformer(SequenceToSequenceModel):
    """Embeddings scaled by √dim, plus sines and cosines of the position; encoder, decoder, and the tied head.

    The coordinates of a position hold the sines first and then the cosines, as in the paper's released code and in
    Marian's (section 3.5 has them alternate: the same up to the order of coordinates).
    """

    architecture = "MarianMTModel"

    def __init__(self, config: TransformerConfig, *, seed: int | None = 0) -> None:
        self.config = config
        sublayers = Sublayers(
            dim=config.dim, num_heads=config.num_heads, hidden_dim=config.hidden_dim,
            activation=ACTIVATIONS[config.activation], dropout=config.dropout,
            attention_dropout=config.attention_dropout, hidden_dropout=config.hidden_dropout,
        )  # fmt: skip
        self.embed = Embedding(config.vocab_size, config.dim)
        self._target_embed = self.embed.shared()
        self.position = SinusoidalPosition(config.max_positions, config.dim)
        self.encoder_dropout, self.decoder_dropout = Dropout(config.dropout), Dropout(config.dropout)
        self.encoder = EncoderStack(config.num_encoder_layers, sublayers)
        self.decoder = DecoderStack(config.num_decoder_layers, sublayers)
        self.head = TiedLinear(self.embed)
        self._scale = config.dim**0.5 if config.scaled else 1.0
        if seed is not None:
            self.initialize(seed)

    def encode(self, input_ids: Array, attention_mask: Array | None = None) -> Array:
        x = self.embed(input_ids) * self._scale + self._places(input_ids.shape[1])
        return self.encoder(self.encoder_dropout(x), mask=padding(attention_mask))

    def encode_backward(self, d_encoded: Array) -> None:
        dx = self.encoder_dropout.backward(self.encoder.backward(d_encoded))
        self.embed.backward(dx * self._scale)

    def decode(
        self,
        decoder_input_ids: Array,
        encoder_output: Array,
        attention_mask: Array | None = None,
        decoder_attention_mask: Array | None = None,
    ) -> Array:
        x = self._target_embed(decoder_input_ids) * self._scale + self._places(decoder_input_ids.shape[1])
        mask = Mask.causal() & padding(decoder_attention_mask)
        return self.decoder(self.decoder_dropout(x), encoder_output, mask=mask, context_mask=padding(attention_mask))

    def decode_backward(self, dx: Array) -> Array:
        dx, d_context = self.decoder.backward(dx)
        self._target_embed.backward(self.decoder_dropout.backward(dx) * self._scale)
        return d_context

    def _places(self, length: int) -> Array:
        """(t, d): sines, then cosines."""
        if length > self.config.max_positions:
            raise ValueError(f"{length} tokens do not fit into the model's {self.config.max_positions} positions; "
                             f"shorten them")  # fmt: skip
        alternate = self.position(np.arange(length))
        halves = np.concatenate([alternate[:, 0::2], alternate[:, 1::2]], -1)
        return halves.astype(self.embed.weight.data.dtype)

    @staticmethod
    def read_config(theirs: dict[str, Any]) -> TransformerConfig:
        """TransformerConfig from config.json."""
        return rename(
            theirs, TransformerConfig,
            {
                "vocab_size": "vocab_size", "max_position_embeddings": "max_positions", "d_model": "dim",
                "encoder_layers": "num_encoder_layers", "decoder_layers": "num_decoder_layers",
                "encoder_attention_heads": "num_heads", "encoder_ffn_dim": "hidden_dim",
                "activation_function": "activation", "scale_embedding": "scaled", "dropout": "dropout",
                "attention_dropout": "attention_dropout", "activation_dropout": "hidden_dropout",
                "decoder_start_token_id": "decoder_start_token_id", "pad_token_id": "pad_token_id",
                "eos_token_id": "eos_token_id",
            },
            fixed={"decoder_attention_heads": theirs.get("encoder_attention_heads"),
                   "decoder_ffn_dim": theirs.get("encoder_ffn_dim"), "tie_word_embeddings": True,
                   "share_encoder_decoder_embeddings": True},
        )  # fmt: skip

    @staticmethod
    def names(config: TransformerConfig) -> Names:
        """The bias that some files add to the logits is no part of the paper; here it must be 0 and is not read."""
        names: Names = {"shared.weight": "embed.weight"}
        stacks = {
            "encoder": (config.num_encoder_layers, {"self_attn": "attention"}),
            "decoder": (config.num_decoder_layers, {"self_attn": "attention", "encoder_attn": "cross_attention"}),
        }
        for stack, (num_layers, attentions) in stacks.items():
            for i in range(num_layers):
                there, here = f"{stack}.layers.{i}", f"{stack}.blocks.{i}"
                pairs = {"fc1": "feed_forward.up", "fc2": "feed_forward.down", "final_layer_norm": "feed_forward_norm"}
                for theirs, ours in attentions.items():
                    pairs[f"{theirs}_layer_norm"] = f"{ours}_norm"
                    pairs |= {f"{theirs}.{part}_proj": f"{ours}.{name}" for part, name in
                              (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output"))}  # fmt: skip
                names |= {f"{there}.{theirs}.{kind}": f"{here}.{ours}.{kind}"
                          for theirs, ours in pairs.items() for kind in ("weight", "bias")}  # fmt: skip
        return names
