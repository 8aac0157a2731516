"""What every encoder-decoder shares: from a source and a target to logits, loss, cache and text."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.generation import GenerationOptions, Prompt, Prompts, generate
from glassformer.generation.processors import ForcedToken
from glassformer.generation.prompt import batch_prompts
from glassformer.models.language_model import check_range
from glassformer.models.outputs import SequenceToSequenceOutput
from glassformer.ops.cross_entropy import IGNORE, CrossEntropyKernel, reference
from glassformer.ops.mask import Mask
from glassformer.parts import Embedding, KeyValueCache


class SequenceToSequenceModel(Pretrained, nn.Module, ABC):
    """An encoder-decoder: p(target token t | target tokens before t, the source), as logits.

    A model writes `__init__` (setting `config`, `embed`, `head`), `encode` and `decode`; this class adds what follows
    from them. Configs have `vocab_size`, `max_positions` (None: no limit), `num_decoder_layers, num_kv_heads, head_dim`
    of the decoder, for the cache, and the tokens that begin, fill and end a target: `decoder_start_token_id,
    pad_token_id, eos_token_id`, and `forced_bos_token_id, forced_eos_token_id`, the tokens that every generated target
    begins and ends with (None: any).
    """

    config: Any
    embed: Embedding
    head: nn.Module
    cross_entropy: CrossEntropyKernel
    has_position_table: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.cross_entropy = reference

    @abstractmethod
    def encode(
        self, input_ids: Int[Tensor, "b s"], attention_mask: Shaped[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b s d"]:
        """What the encoder makes of the source."""

    @abstractmethod
    def decode(
        self,
        decoder_input_ids: Int[Tensor, "b t"],
        encoder_output: Float[Tensor, "r s d"],
        attention_mask: Shaped[Tensor, "r s"] | None = None,
        decoder_attention_mask: Shaped[Tensor, "b u"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        """The last hidden states, ready for the head.

        A source may serve several targets in turn: r divides b. `attention_mask` is the source's; the other counts
        cached tokens too.
        """

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        decoder_attention_mask: Tensor | None = None,
        encoder_output: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> SequenceToSequenceOutput:
        """Logits (b, t, v), and the loss where labels are given.

        Args:
            input_ids: (b, s) the source; left out where `encoder_output` is given.
            attention_mask: (b, s) with 1 at the source's real tokens and 0 at its padding.
            decoder_input_ids: (b, t) the target, begun by `decoder_start_token_id`; left out, it is made of the labels.
            labels: (b, t) what place i of the target must predict; −100 is not counted.
            decoder_attention_mask: (b, cached + t), 0 at the target's padding.
            encoder_output: (b, s, d) what the encoder made of the source before.
            cache: keys and values of the target's tokens before these; written and advanced. With it, hand in the
                `encoder_output` of the first call.

        Raises:
            ValueError, TypeError: for ids outside the vocabulary, wrong shapes or dtypes, too many positions, no source
            or two, and no target.
        """
        self.check_source(input_ids, attention_mask, encoder_output)
        if labels is not None:
            self._check_ids("labels", labels, ignored=IGNORE)
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("neither decoder_input_ids nor labels are given; the decoder has nothing to read")
            decoder_input_ids = self.shift_right(labels)
        self._check_target(decoder_input_ids, decoder_attention_mask, labels, cache)
        if encoder_output is None:
            encoder_output = self.encode(input_ids, attention_mask)  # pyright: ignore[reportArgumentType]
        hidden = self.decode(decoder_input_ids, encoder_output, attention_mask, decoder_attention_mask, cache=cache)
        if labels is None:
            return SequenceToSequenceOutput(logits=self.head(hidden), encoder_last_hidden_state=encoder_output)
        loss, logits = self.cross_entropy(hidden, self.head, labels)
        return SequenceToSequenceOutput(loss, logits, encoder_output)

    def shift_right(self, labels: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
        """What the decoder reads to predict the labels: those before each, behind the start token."""
        start = labels.new_full((labels.shape[0], 1), self.config.decoder_start_token_id)
        ids = torch.cat([start, labels[:, :-1]], 1)
        return ids.masked_fill(ids == IGNORE, self.config.pad_token_id)

    def generate(self, input_ids: Prompts, attention_mask: Tensor | None = None, **options: Any) -> Tensor:
        """The targets of the sources `input_ids`, start token included: (b · num_return_sequences, t).

        The options are those of `glassformer.generation.generate`. Lists of ids are padded on the right; a padded
        tensor comes with its mask. Targets end with the config's `eos_token_id` unless the options say otherwise.
        """
        return generate(self, input_ids, attention_mask=attention_mask, **options)

    def prompt(self, input_ids: Prompts, attention_mask: Tensor | None, options: GenerationOptions) -> Prompt:
        """What generation continues: the start token of each target, by a decoder that reads the sources."""
        config, device = self.config, next(self.parameters()).device
        source, present = batch_prompts(
            input_ids, attention_mask, vocab_size=config.vocab_size, padding=config.pad_token_id, device=device,
            continued=False,
        )  # fmt: skip
        self._check_positions("source", source.shape[1])
        length = (options.max_length or 0) if options.max_new_tokens is None else 1 + options.max_new_tokens
        forced = (1, config.forced_bos_token_id), (length - 1, config.forced_eos_token_id)
        options = replace(
            options,
            eos_token_id=config.eos_token_id if options.eos_token_id is None else options.eos_token_id,
            pad_token_id=config.pad_token_id if options.pad_token_id is None else options.pad_token_id,
            processors=(*(ForcedToken(*each) for each in forced if each[1] is not None), *options.processors),
        )
        start = source.new_full((source.shape[0], 1), config.decoder_start_token_id)
        return Prompt(Conditioned(self, source, present), start, None, options)

    def framed(self, ids: list[int]) -> list[int]:
        """A source text's ids as the model has learned to read them: with `eos_token_id` at their end."""
        return [*ids, self.config.eos_token_id]

    def new_cache(self, batch_size: int, capacity: int | None = None) -> KeyValueCache:
        """An empty cache for the decoder, for `capacity` tokens (default: the model's `max_positions`)."""
        config, weight = self.config, next(self.parameters())
        capacity = config.max_positions if capacity is None else capacity
        if capacity is None:
            raise ValueError(f"{type(self).__name__} has no max_positions; give the cache's capacity")
        return KeyValueCache(
            config.num_decoder_layers, batch_size, config.num_kv_heads, capacity, config.head_dim,
            dtype=weight.dtype, device=weight.device,
        )  # fmt: skip

    @property
    def num_parameters(self) -> int:
        """Parameters, a tied weight counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _check_ids(self, name: str, ids: Tensor, *, ignored: int | None = None) -> None:
        if ids.ndim != 2 or 0 in ids.shape:
            raise ValueError(f"{name} has shape {tuple(ids.shape)}; expected (batch, tokens), neither of them 0")
        if ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} has dtype {ids.dtype}; expected torch.int64 token ids")
        # Looking at values waits for an accelerator and breaks a compiled graph: there the caller answers for them.
        if ids.device.type == "cpu" and not torch.compiler.is_compiling():
            check_range(name, ids, self.config.vocab_size, ignored=ignored)

    def _check_positions(self, name: str, length: int) -> None:
        limit = self.config.max_positions
        if self.has_position_table and length > limit:
            raise ValueError(f"{length} tokens of {name} do not fit into the model's {limit} positions; shorten it")

    def check_source(self, ids: Tensor | None, mask: Tensor | None, encoder_output: Tensor | None = None) -> None:
        """Raise ValueError or TypeError for what is no source, or two."""
        if (ids is None) == (encoder_output is None):
            both = "neither input_ids nor an encoder_output is" if ids is None else "input_ids and encoder_output are"
            raise ValueError(f"{both} given; give the source as one of the two")
        if ids is not None:
            self._check_ids("input_ids", ids)
            self._check_positions("input_ids", ids.shape[1])
        shape = tuple((encoder_output if ids is None else ids).shape[:2])  # pyright: ignore[reportOptionalMemberAccess]
        if mask is not None and mask.shape != shape:
            raise ValueError(f"attention_mask has shape {tuple(mask.shape)}; expected {shape}, as the source has")

    def _check_target(
        self, ids: Tensor, mask: Tensor | None, labels: Tensor | None, cache: KeyValueCache | None
    ) -> None:
        self._check_ids("decoder_input_ids", ids)
        start = 0 if cache is None else cache.length
        self._check_positions("decoder_input_ids", start + ids.shape[1])
        if cache is not None:
            cache.require(ids.shape[1])
        if mask is not None and mask.shape != (ids.shape[0], start + ids.shape[1]):
            raise ValueError(
                f"decoder_attention_mask has shape {tuple(mask.shape)}; expected {(ids.shape[0], start + ids.shape[1])}"
                f": the batch, and {start} cached + {ids.shape[1]} given tokens"
            )
        if labels is not None and labels.shape != ids.shape:
            raise ValueError(f"labels have shape {tuple(labels.shape)}; expected {tuple(ids.shape)}")


class Conditioned:
    """An encoder-decoder with its sources: p(target | source) is a causal language model, and generates as one.

    The sources are encoded once, when the first token is asked for. Each serves as many rows as there are targets of
    it, which follow one another: beams, or several samples.
    """

    def __init__(
        self, model: SequenceToSequenceModel, source: Int[Tensor, "r s"], present: Shaped[Tensor, "r s"] | None
    ) -> None:
        self.model, self.source, self.present = model, source, present
        self.config, self.head, self.has_position_table = model.config, model.head, model.has_position_table
        self.new_cache, self.parameters, self.modules = model.new_cache, model.parameters, model.modules
        self._encoded: Tensor | None = None

    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Shaped[Tensor, "b u"] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "b t d"]:
        """The last hidden states of the decoder, ready for the head."""
        if self._encoded is None:
            self._encoded = self.model.encode(self.source, self.present)
        return self.model.decode(input_ids, self._encoded, self.present, attention_mask, cache=cache)


def padding(attention_mask: Shaped[Tensor, "b s"] | None) -> Mask:
    """The mask that hides what an attention mask has 0 at; nothing where there is none."""
    return Mask() if attention_mask is None else Mask.padding(attention_mask != 0)
