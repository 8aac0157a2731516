"""What every encoder-decoder by hand shares: from a source and a target to logits, gradients and text."""

from abc import abstractmethod

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.models.pretrained import Pretrained, check_ids
from glassformer.by_hand.ops.cross_entropy import IGNORE
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.embedding import Embedding
from glassformer.by_hand.parts.linear import Linear, TiedLinear


class SequenceToSequenceModel(Pretrained):
    """An encoder-decoder: p(target token t | target tokens before t, the source), as logits.

    >>> logits = model(source, None, model.shift_right(labels))      # forward
    >>> loss, d_logits = cross_entropy(logits, labels)
    >>> model.backward(d_logits)                                     # decoder, then encoder, back
    """

    embed: Embedding
    head: Linear | TiedLinear

    @abstractmethod
    def encode(self, input_ids: Array, attention_mask: Array | None = None) -> Array:
        """What the encoder makes of the source, (b, s, d)."""

    @abstractmethod
    def encode_backward(self, d_encoded: Array) -> None:
        """From its gradient to those of the encoder's parameters."""

    @abstractmethod
    def decode(
        self,
        decoder_input_ids: Array,
        encoder_output: Array,
        attention_mask: Array | None = None,
        decoder_attention_mask: Array | None = None,
    ) -> Array:
        """The last hidden states (b, t, d), ready for the head; `attention_mask` is the source's."""

    @abstractmethod
    def decode_backward(self, dx: Array) -> Array:
        """From their gradient to those of the decoder's parameters, and of `encoder_output`, which is returned."""

    def forward(
        self,
        input_ids: Array,
        attention_mask: Array | None,
        decoder_input_ids: Array,
        decoder_attention_mask: Array | None = None,
    ) -> Array:
        """Logits (b, t, v) of the target's next tokens.

        Raises ValueError or TypeError for ids outside the vocabulary, and for wrong shapes or dtypes.
        """
        check_ids(input_ids, self.config.vocab_size)
        check_ids(decoder_input_ids, self.config.vocab_size, "decoder_input_ids")
        for name, mask, ids in (
            ("attention_mask", attention_mask, input_ids),
            ("decoder_attention_mask", decoder_attention_mask, decoder_input_ids),
        ):
            if mask is not None and mask.shape != ids.shape:
                raise ValueError(f"{name} has shape {mask.shape}; expected {ids.shape}")
        encoded = self.encode(input_ids, attention_mask)
        return self.head(self.decode(decoder_input_ids, encoded, attention_mask, decoder_attention_mask))

    def backward(self, d_logits: Array) -> None:
        """Head, decoder, and, by what every decoder block read of it, the encoder."""
        self.encode_backward(self.decode_backward(self.head.backward(d_logits)))

    def shift_right(self, labels: Array) -> Array:
        """What the decoder reads to predict the labels: those before each, behind the start token."""
        start = np.full((len(labels), 1), self.config.decoder_start_token_id)
        ids = np.concatenate([start, labels[:, :-1]], 1)
        return np.where(ids == IGNORE, self.config.pad_token_id, ids)

    def generate(self, input_ids: Array, attention_mask: Array | None = None, *, max_new_tokens: int = 20) -> Array:
        """The likeliest target, token by token, start token included; ends where all rows have said `eos_token_id`.

        The source is read once. The target is read anew for each token: what a cache would spare is left to be seen.
        """
        encoded = self.encode(input_ids, attention_mask)
        target = np.full((len(input_ids), 1), self.config.decoder_start_token_id)
        done = np.zeros(len(input_ids), bool)
        for _ in range(max_new_tokens):
            logits = self.head(self.decode(target, encoded, attention_mask)[:, -1])
            token = np.where(done, self.config.pad_token_id, logits.argmax(-1))
            target = np.concatenate([target, token[:, None]], 1)
            done |= token == self.config.eos_token_id
            if done.all():
                break
        return target


def padding(attention_mask: Array | None) -> Mask:
    """The mask that hides what an attention mask has 0 at; nothing where there is none."""
    return Mask() if attention_mask is None else Mask.padding(attention_mask != 0)
