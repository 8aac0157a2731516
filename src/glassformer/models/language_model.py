"""What every language model shares: from token ids to logits, loss, cache and text. The wiring is each model's own."""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.generation import GenerationOptions, Prompt, Prompts, generate
from glassformer.models.outputs import CausalLMOutput
from glassformer.ops.cross_entropy import IGNORE, CrossEntropyKernel, reference
from glassformer.ops.mask import Mask
from glassformer.parts import Embedding, KeyValueCache


class LanguageModel(Pretrained, nn.Module, ABC):
    """A causal language model: p(token t | tokens before t), as logits.

    A model writes `__init__` (setting `config`, `embed`, `blocks`, `head`) and `hidden`; this class adds what follows
    from them. Configs have `vocab_size` and `max_positions` (None: no limit), and where there is a cache
    `num_layers, num_heads, num_kv_heads, head_dim`.
    """

    config: Any
    embed: Embedding
    head: nn.Module
    cross_entropy: CrossEntropyKernel
    cache_window: int | None = None  # where no layer sees further back: the cache then holds two windows at most

    def __init__(self) -> None:
        super().__init__()
        self.cross_entropy = reference

    @abstractmethod
    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b s"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        """The last hidden states, ready for the head."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        targets: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> CausalLMOutput:
        """Logits (b, t, v), and the loss where it is asked for.

        Args:
            input_ids: (b, t) token ids.
            attention_mask: (b, s) with 1 at real tokens and 0 at padding; s counts cached tokens too.
            labels: (b, t) as Hugging Face has them: `labels[:, i]` is the token at place i, and the model is asked for
                it at place i − 1; −100 is not counted.
            targets: (b, t), aligned: what place i must predict; −100 is not counted.
            cache: keys and values of the tokens before these; written and advanced.

        Raises:
            ValueError, TypeError: for ids outside the vocabulary, wrong shapes or dtypes, too many positions.
        """
        self._check(input_ids, attention_mask, labels, targets, cache)
        return self._output(self.hidden(input_ids, attention_mask, cache=cache), labels, targets)

    def _output(
        self, hidden: Float[Tensor, "b t d"], labels: Int[Tensor, "b t"] | None, targets: Int[Tensor, "b t"] | None
    ) -> CausalLMOutput:
        if labels is not None:
            targets = F.pad(labels[:, 1:], (0, 1), value=IGNORE)
        if targets is None:
            return CausalLMOutput(logits=self.head(hidden))
        loss, logits = self.cross_entropy(hidden, self.head, targets)
        return CausalLMOutput(loss, logits)

    def generate(self, input_ids: Tensor | list[int] | list[list[int]], **options: Any) -> Tensor:
        """Continue `input_ids`; the options are those of `glassformer.generation.generate`."""
        return generate(self, input_ids, **options)

    def prompt(self, input_ids: Prompts, attention_mask: Tensor | None, options: GenerationOptions) -> Prompt:
        """What generation continues: the ids as they are given."""
        return Prompt(self, input_ids, attention_mask, options)

    def framed(self, ids: list[int]) -> list[int]:
        """A text's ids as the model has learned to read them: as they are."""
        return ids

    def new_cache(self, batch_size: int, capacity: int | None = None) -> KeyValueCache:
        """An empty cache for `capacity` tokens (default: the model's `max_positions`)."""
        config, weight = self.config, next(self.parameters())
        capacity = config.max_positions if capacity is None else capacity
        if capacity is None:
            raise ValueError(f"{type(self).__name__} has no max_positions; give the cache's capacity")
        return KeyValueCache(
            config.num_layers, batch_size, config.num_kv_heads, capacity, config.head_dim,
            window_size=self.cache_window, dtype=weight.dtype, device=weight.device,
        )  # fmt: skip

    @property
    def num_parameters(self) -> int:
        """Parameters, a tied weight counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _check(
        self,
        ids: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor | None,
        targets: Tensor | None,
        cache: KeyValueCache | None,
    ) -> None:
        if labels is not None and targets is not None:
            raise ValueError("labels and targets are both given; give labels (unshifted) or targets (aligned)")
        targets = labels if targets is None else targets
        if ids.ndim != 2 or 0 in ids.shape:
            raise ValueError(f"input_ids has shape {tuple(ids.shape)}; expected (batch, tokens), neither of them 0")
        if ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"input_ids has dtype {ids.dtype}; expected torch.int64 token ids")
        start = 0 if cache is None else cache.length
        total, limit = start + ids.shape[1], self.config.max_positions
        if self.has_position_table and total > limit:
            raise ValueError(f"{total} tokens do not fit into the model's {limit} positions; shorten the input")
        if cache is not None:
            cache.require(ids.shape[1])
        if attention_mask is not None and attention_mask.shape != (ids.shape[0], total):
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}; expected {(ids.shape[0], total)}: the batch, "
                f"and {start} cached + {ids.shape[1]} given tokens"
            )
        if targets is not None and targets.shape != ids.shape:
            raise ValueError(f"labels or targets have shape {tuple(targets.shape)}; expected {tuple(ids.shape)}")
        # Looking at values waits for an accelerator and breaks a compiled graph: there the caller answers for them.
        if ids.device.type == "cpu" and not torch.compiler.is_compiling():
            check_range("input_ids", ids, self.config.vocab_size)
            if targets is not None:
                check_range("labels or targets", targets, self.config.vocab_size, ignored=IGNORE)

    has_position_table: bool = False


def check_range(
    name: str, ids: Int[Tensor, "*rows"], size: int, *, ignored: int | None = None, of: str = "the vocabulary"
) -> None:
    """Raise ValueError naming the first id that is outside 0 … size − 1 (and is not `ignored`)."""
    low, high = ids.aminmax()
    if low >= 0 and high < size:
        return
    wrong = (ids < 0) | (ids >= size)
    if ignored is not None:
        wrong &= ids != ignored
    if wrong.any():
        place = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(f"{name} holds {int(ids[place])} at {place}; {of} has {size} ids, 0 to {size - 1}")


def positions_and_mask(
    input_ids: Int[Tensor, "b t"], attention_mask: Shaped[Tensor, "b s"] | None, cache: KeyValueCache | None
) -> tuple[Int[Tensor, "*b t"], Mask]:
    """Where each token stands, counting real tokens only, and what it may see: the past, less the padding."""
    t = input_ids.shape[1]
    if attention_mask is None:
        start = 0 if cache is None else cache.length
        return torch.arange(start, start + t, device=input_ids.device), Mask.causal()
    present = attention_mask != 0
    positions = (present.long().cumsum(-1) - 1).clamp(min=0)[:, -t:]
    if isinstance(cache, KeyValueCache) and cache.held < cache.length:
        present = present[:, -(cache.held + t) :]  # of the others it gives no keys
    return positions, Mask.causal() & Mask.padding(present)
