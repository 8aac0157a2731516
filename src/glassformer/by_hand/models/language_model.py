"""What every language model shares: from token ids to logits, loss, gradients, cache and text."""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy import ndarray as Array

from glassformer.by_hand.generation import generate
from glassformer.by_hand.models.pretrained import Pretrained, check_ids
from glassformer.by_hand.ops.cross_entropy import cross_entropy
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.cache import KeyValueCache
from glassformer.by_hand.parts.embedding import Embedding
from glassformer.by_hand.parts.linear import Linear, TiedLinear


class LanguageModel(Pretrained):
    """A causal language model: p(token t | tokens before t), as logits.

    A training step, in full:

    >>> logits = model(inputs)                               # forward
    >>> loss, d_logits = cross_entropy(logits, targets)
    >>> model.zero_grad()
    >>> model.backward(d_logits)                             # the same path, back
    >>> optimizer.step()
    """

    config: Any
    embed: Embedding
    head: Linear | TiedLinear

    @abstractmethod
    def hidden(
        self, input_ids: Array, attention_mask: Array | None = None, *, cache: KeyValueCache | None = None
    ) -> Array:
        """The last hidden states (b, t, d), ready for the head."""

    @abstractmethod
    def hidden_backward(self, dx: Array) -> None:
        """From their gradient (b, t, d) to the gradients of all parameters but the head's."""

    def forward(
        self, input_ids: Array, attention_mask: Array | None = None, *, cache: KeyValueCache | None = None
    ) -> Array:
        """Logits (b, t, v) for ids (b, t).

        `attention_mask` (b, s) has 1 at real tokens and 0 at padding, where s counts cached tokens too. With a `cache`
        the ids follow what it holds. Raises ValueError or TypeError for ids outside the vocabulary, wrong shapes or
        dtypes, too many positions.
        """
        return self.head(self.hidden(input_ids, attention_mask, cache=cache))

    def backward(self, d_logits: Array) -> None:
        """From the gradient of the logits (b, t, v) to the `grad` of every parameter, added to what is there."""
        self.hidden_backward(self.head.backward(d_logits))

    def loss(self, input_ids: Array, targets: Array, attention_mask: Array | None = None) -> float:
        """The mean cross-entropy in nats; `targets[b, t]` is what place t must predict, −100 is not counted."""
        return cross_entropy(self(input_ids, attention_mask), targets)[0]

    def generate(self, input_ids: Array | list, **options: Any) -> Array:
        """Continue `input_ids`; the options are those of `glassformer.by_hand.generation.generate`."""
        return generate(self, input_ids, **options)

    def new_cache(self, batch_size: int, capacity: int | None = None) -> KeyValueCache:
        """An empty cache for `capacity` tokens (default: the model's `max_positions`)."""
        config = self.config
        return KeyValueCache(
            config.num_layers, batch_size, config.num_kv_heads, capacity or config.max_positions, config.head_dim,
            dtype=self.embed.weight.data.dtype,
        )  # fmt: skip

    def _place(self, input_ids: Array, attention_mask: Array | None, cache: KeyValueCache | None) -> tuple[Array, Mask]:
        """Where each token stands, counting real tokens only, and what it may see: the past, less the padding."""
        self._check(input_ids, attention_mask, cache)
        t = input_ids.shape[1]
        if attention_mask is None:
            start = 0 if cache is None else cache.length
            return np.arange(start, start + t), Mask.causal()
        present = attention_mask != 0
        positions = np.maximum(present.cumsum(-1) - 1, 0)[:, -t:]
        return positions, Mask.causal() & Mask.padding(present)

    def _check(self, ids: Array, attention_mask: Array | None, cache: KeyValueCache | None) -> None:
        check_ids(ids, self.config.vocab_size)
        start = 0 if cache is None else cache.length
        total, limit = start + ids.shape[1], self.config.max_positions
        if self.has_position_table and total > limit:
            raise ValueError(f"{total} tokens do not fit into the model's {limit} positions; shorten the input")
        if cache is not None:
            cache.require(ids.shape[1])
        if attention_mask is not None and attention_mask.shape != (ids.shape[0], total):
            raise ValueError(
                f"attention_mask has shape {attention_mask.shape}; expected {(ids.shape[0], total)}: the batch, "
                f"and {start} cached + {ids.shape[1]} given tokens"
            )

    has_position_table: bool = False
