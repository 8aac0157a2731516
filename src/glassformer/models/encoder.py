"""What every text encoder shares: from token ids to a vector for each. The heads on it are in heads.py."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import Computed, Table
from glassformer.models.language_model import check_range
from glassformer.models.outputs import EncoderOutput
from glassformer.ops.cross_entropy import IGNORE
from glassformer.ops.linear_onednn import traced
from glassformer.ops.mask import Mask
from glassformer.parts import Embedding


class Encoder(Pretrained, nn.Module, ABC):
    """A bidirectional encoder: a vector for each token, which has seen all the others.

    A model writes `__init__` (setting `config`, `embed`, `blocks`, `pooler`) and `hidden`; this class adds the checks
    and the mask. Configs have `vocab_size`.

    What stands at padded places of the output is unspecified: on a CPU, padding behind the real tokens is not even
    computed. All rows' tokens then stand in one row, each row a document of its own to attention.
    """

    config: Any
    embed: Embedding
    blocks: nn.ModuleList
    pooler: nn.Module | None  # makes one vector of the first token's; None where there is none

    @abstractmethod
    def hidden(
        self,
        input_ids: Int[Tensor, "b t"],
        positions: Int[Tensor, "*b t"],
        mask: Mask,
        token_type_ids: Int[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t d"]:
        """The last hidden states of tokens that stand at `positions` and see each other by `mask`."""

    def positions(self, input_ids: Int[Tensor, "b t"]) -> Int[Tensor, "*b t"]:
        """Where each token stands: 0 … t − 1, padding or not."""
        return torch.arange(input_ids.shape[1], device=input_ids.device)

    @property
    def max_tokens(self) -> int | None:
        """The longest input; None where there is no limit."""
        return None

    @property
    def num_segments(self) -> int:
        """How many token types there are; 1 where the model knows no difference."""
        return 1

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        dense: bool = False,
    ) -> EncoderOutput:
        """A vector for each token (b, t, d), and one for the whole (b, d) where the model has a pooler.

        Args:
            input_ids: (b, t) token ids.
            attention_mask: (b, t) with 1 at real tokens and 0 at padding, on whichever side.
            token_type_ids: (b, t), which of two texts a token is of; None: the first.
            dense: compute padded places too, as Hugging Face's models do, where they could be left out.

        Raises:
            ValueError, TypeError: for ids outside their ranges, wrong shapes or dtypes, too many tokens.
        """
        self._check(input_ids, attention_mask, token_type_ids)
        present = None if attention_mask is None else attention_mask != 0
        lengths = None if present is None or dense else lengths_of(present)
        if lengths is not None and min(lengths) == input_ids.shape[1]:
            present = None
        positions = self.positions(input_ids)
        if present is None or lengths is None:
            mask = Mask() if present is None else Mask.padding(present)
            x = self.hidden(input_ids, positions, mask, token_type_ids)
        else:
            x = self._packed(input_ids, positions, present, lengths, token_type_ids)
        return EncoderOutput(x, None if self.pooler is None else self.pooler(x[:, 0]))

    def _packed(
        self,
        input_ids: Int[Tensor, "b t"],
        positions: Int[Tensor, "*b t"],
        present: Bool[Tensor, "b t"],
        lengths: list[int],
        token_type_ids: Int[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t d"]:
        """`hidden` of all real tokens in one row, put back to their places, and 0 where there is padding."""
        real = present.flatten().nonzero()[:, 0]
        positions = positions.expand_as(input_ids).flatten()[real][None]
        segments = None if token_type_ids is None else token_type_ids.flatten()[real][None]
        x = self.hidden(input_ids.flatten()[real][None], positions, Mask.packed(lengths), segments)[0]
        return x.new_zeros(present.numel(), x.shape[-1]).index_copy(0, real, x).unflatten(0, present.shape)

    @property
    def num_parameters(self) -> int:
        """Parameters, a tied weight counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _check(self, ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> None:
        if ids.ndim != 2 or 0 in ids.shape:
            raise ValueError(f"input_ids has shape {tuple(ids.shape)}; expected (batch, tokens), neither of them 0")
        for name, given in (("input_ids", ids), ("token_type_ids", token_type_ids)):
            if given is not None and given.dtype not in (torch.int64, torch.int32):
                raise TypeError(f"{name} has dtype {given.dtype}; expected torch.int64 ids")
        for name, given in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
            if given is not None and given.shape != ids.shape:
                raise ValueError(f"{name} has shape {tuple(given.shape)}; expected {tuple(ids.shape)}, as input_ids")
        if self.max_tokens is not None and ids.shape[1] > self.max_tokens:
            raise ValueError(
                f"{ids.shape[1]} tokens do not fit into the model's {self.max_tokens} positions; shorten the input"
            )
        if looks(ids):
            check_range("input_ids", ids, self.config.vocab_size)
            if token_type_ids is not None:
                check_range("token_type_ids", token_type_ids, self.num_segments, of="the model")


def inside(table: Table, name: str = "encoder") -> Table:
    """A model's table as its heads have it: each of ours under `encoder.`, or another name."""
    return {
        theirs: rule if rule is None or isinstance(rule, Computed) else f"{name}.{rule}" if isinstance(rule, str)
        else replace(rule, ours=f"{name}.{rule.ours}")
        for theirs, rule in table.items()
    }  # fmt: skip


def lengths_of(present: Bool[Tensor, "b t"]) -> list[int] | None:
    """How many tokens each row has, where they come first and padding follows; None where not, or not to be seen."""
    if traced() or not looks(present):
        return None
    lengths = present.sum(1)
    places = torch.arange(present.shape[1], device=present.device)
    if not torch.equal(present, places < lengths[:, None]) or not lengths.all():
        return None
    return lengths.tolist()


def counted_at_padding(labels: Tensor | None, attention_mask: Tensor | None) -> bool:
    """Whether a label counts at a padded place: then what stands there must be computed."""
    if labels is None or attention_mask is None or labels.shape != attention_mask.shape or not looks(labels):
        return False
    return bool(((labels != IGNORE) & (attention_mask == 0)).any())


def looks(ids: Tensor) -> bool:
    """Whether values may be looked at: elsewhere it waits for an accelerator or breaks a compiled graph."""
    return ids.device.type == "cpu" and not torch.compiler.is_compiling()
